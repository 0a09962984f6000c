"""What a registry may answer to a platform that announces itself."""

from __future__ import annotations

import asyncio
import contextlib
import gzip

import pytest

from inferno.registry import remote
from inferno.registry.remote import Away, Refused, RemoteRegistry
from tests.unit.client.scripted import Reply, scripted

NAME = "inference_server_name"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(503, {"success": False, "error": "busy"}, {"retry-after": "7"}), Away("busy")),
        (Reply(429, {"success": False, "error": "slower"}, {"retry-after": "9"}), Away("slower")),
        (Reply(502, b"<html>"), Away("It answered 502, as no registry does.")),
        (Reply(200, b" " * 2_000_000), Away("its answer is larger than that of any registry")),
        (Reply(0), Away("Server disconnected without sending a response.")),
        (Reply(200, b"<html>"), Refused(200, "It answered 200, as no registry does.")),
        (Reply(301, b""), Refused(301, "It answered 301, as no registry does.")),
        (
            Reply(409, {"success": False, "error": "taken", "details": {"field": NAME}}),
            Refused(409, "taken", NAME),
        ),
        (Reply(200, b'"\xff"'), Refused(200, "It answered 200, as no registry does.")),
        (
            Reply(200, gzip.compress(b" " * 100_000_000), {"content-encoding": "gzip"}),
            Refused(200, "It answered 200, as no registry does."),
        ),
        (Reply(403, {"error": ["odd"]}), Refused(403, "It answered 403, as no registry does.")),
    ],
)
async def test_what_a_registry_may_answer(reply: Reply, expected: Away | Refused) -> None:
    with scripted([reply]) as heard:
        registry = RemoteRegistry(heard.url, lambda: "secret")
        with pytest.raises(type(expected)) as caught:
            await registry.beat("a/b")
        await registry.close()
    assert str(caught.value) == str(expected)
    if isinstance(caught.value, Away):
        assert caught.value.wait == float(reply.headers.get("retry-after", 0))
    if isinstance(expected, Refused):
        assert isinstance(caught.value, Refused)
        assert (caught.value.status, caught.value.field) == (expected.status, expected.field)
    assert heard.paths == ["POST /inference_server/a%2Fb/heartbeat"]
    assert heard.requests[0][2]["authorization"] == "Bearer secret"


@pytest.mark.parametrize("token", ["inf_sécret", "inf_secret\nmore", "inf_secret\x00"])
async def test_a_token_that_no_header_can_carry_is_not_shown(token: str) -> None:
    registry = RemoteRegistry("http://127.0.0.1:9", lambda: token)
    with pytest.raises(Away) as caught:
        await registry.beat("a")
    await registry.close()
    assert "cret" not in str(caught.value)


async def test_a_registry_that_never_comes_to_an_end_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        ended.set()

    ended = asyncio.Event()
    monkeypatch.setattr(remote, "LONGEST_ANSWER", 0.2)
    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    registry = RemoteRegistry(f"http://{host}:{port}", lambda: None)
    with pytest.raises(Away, match="took longer"):
        await registry.beat("a")
    await registry.close()
    await ended.wait()
    server.close()
