"""Names that requests may be sent to."""

from __future__ import annotations

import pytest
from starlette.types import Message, Receive, Scope, Send

from inferno.core.errors import InfernoError
from inferno.web.exchange import Header
from inferno.web.hosts import TrustedHosts, name_of


def render(error: InfernoError, scope: Scope) -> tuple[int, list[Header], bytes]:
    return 400, [(b"x-kind", type(error).__name__.encode())], error.message.encode()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})


async def status(host: bytes | None, *hosts: str) -> Message:
    sent = list[Message]()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if host is None else [(b"host", host)]
    scope: Scope = {"type": "http", "path": "/", "headers": headers}
    await TrustedHosts(app, hosts, render)(scope, receive, send)
    return sent[0]


@pytest.mark.parametrize(
    "host", [b"a.example", b"A.Example:80", b"x.b.example", b"x.y.b.example:1", b"[::1]:80"]
)
async def test_a_listed_name_passes(host: bytes) -> None:
    sent = await status(host, "a.example", "*.B.example", "[::1]")
    assert sent["status"] == 204


@pytest.mark.parametrize(
    "host",
    [None, b"", b"b.example", b"a.example.evil", b"xa.example", b"evilb.example", b"[::2]",
     b"a.example@evil", b"\xff", b"*.b.example.evil", b"["],
)  # fmt: skip
async def test_any_other_is_refused(host: bytes | None) -> None:
    sent = await status(host, "a.example", "*.B.example", "[::1]")
    assert sent["status"] == 400
    headers = dict(sent["headers"])
    assert headers[b"x-kind"] == b"InvalidRequest"
    assert headers[b"x-request-id"].startswith(b"req_")
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_the_port_is_no_part_of_a_name() -> None:
    assert name_of(b"Example.com:8080") == "example.com"
    assert name_of(b"[2001:db8::1]:8080") == "[2001:db8::1]"
