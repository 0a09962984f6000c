import re
import time
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inferno.core.errors import InferenceFailed, InfernoError, InvalidRequest
from inferno.web.door import Door, request_id_of
from inferno.web.exchange import ClientDisconnected, Header


def render(error: InfernoError, scope: Scope) -> tuple[int, list[Header], bytes]:
    return 418, [(b"x-kind", type(error).__name__.encode())], error.message.encode()


def request(**headers: str) -> Scope:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "GET", "path": "/x", "headers": given}


async def ask(app: ASGIApp, scope: Scope) -> list[Message]:
    sent = list[Message]()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await Door(app, render=render, access_log=False)(scope, receive, send)
    return sent


def raising(error: BaseException, *, after_head: bool = False) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if after_head:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    return app


@pytest.mark.parametrize("given", ["abc", "a.b_c-d:1", "x" * 128])
def test_a_plain_request_id_is_kept(given: str) -> None:
    assert request_id_of(request(x_request_id=given)) == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<b>", "a\r\nb", "a\n", "é", "%0a"])
def test_any_other_request_id_is_replaced(given: str) -> None:
    assert re.fullmatch(r"req_[0-9a-f]{24}", request_id_of(request(x_request_id=given)))


async def test_every_response_carries_the_request_id_and_the_version() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["state"]["request_id"] == "mine"
        head: Any = {"type": "http.response.start", "status": 204, "headers": [(b"a", b"b")]}
        await send(head)

    sent = await ask(app, request(x_request_id="mine"))
    headers = dict(sent[0]["headers"])
    assert headers[b"a"] == b"b"
    assert headers[b"x-request-id"] == b"mine"
    assert headers[b"api-version"] == b"1.0"


async def test_a_known_error_is_rendered() -> None:
    sent = await ask(raising(InvalidRequest("no")), request())
    assert sent[0]["status"] == 418
    assert (b"x-kind", b"InvalidRequest") in sent[0]["headers"]
    assert sent[1]["body"] == b"no"


async def test_an_unknown_error_tells_the_client_nothing() -> None:
    sent = await ask(raising(ValueError("SELECT secret")), request())
    assert (b"x-kind", b"InfernoError") in sent[0]["headers"]
    assert b"secret" not in sent[1]["body"]


async def test_an_error_after_the_head_breaks_the_response_off() -> None:
    with pytest.raises(InferenceFailed):
        await ask(raising(InferenceFailed("late"), after_head=True), request())


async def test_a_client_that_left_gets_no_response() -> None:
    assert await ask(raising(ClientDisconnected()), request()) == []


class Standing:
    def __init__(self, reset_after: float) -> None:
        self.limit, self.remaining, self.reset_after = 60, 45, reset_after


async def test_a_limited_caller_is_told_how_it_stands() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["standing"] = Standing(29.2)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    headers = dict((await ask(app, request()))[0]["headers"])
    assert headers[b"x-ratelimit-limit"] == b"60"
    assert headers[b"x-ratelimit-remaining"] == b"45"
    assert headers[b"x-ratelimit-reset-after"] == b"30"
    assert int(headers[b"x-ratelimit-reset"]) == pytest.approx(time.time() + 30, abs=2)


async def test_an_error_tells_it_too() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["standing"] = Standing(1)
        raise InvalidRequest("no")

    assert (b"x-ratelimit-limit", b"60") in (await ask(app, request()))[0]["headers"]


async def test_every_answer_has_the_security_headers() -> None:
    headers = dict((await ask(raising(InvalidRequest("no")), request()))[0]["headers"])
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"x-frame-options"] == b"DENY"
    assert headers[b"referrer-policy"] == b"no-referrer"
