"""Requests and responses over real connections: what goes over the wire, and who leaves when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inferno.core.errors import InfernoError
from inferno.web.exchange import DEPARTURE, ClientDisconnected, Exchange, Header, Presence
from inferno.web.listener import Listener, bind
from inferno.web.protocol import ConnectionLimits

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

Client = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def render(error: InfernoError, scope: Scope) -> tuple[int, list[Header], bytes]:
    return 500, [], b""


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[Client]:
    """Serve an app; the block has what opens a connection to it."""
    listening = bind("127.0.0.1", 0)
    listener = Listener(app, grace=1, limits=ConnectionLimits(), render=render)
    stop = asyncio.Event()
    serving = asyncio.ensure_future(listener.run_on(listening, stop))
    await listener.answering.wait()
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writers.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        stop.set()
        await serving
        for writer in writers:
            writer.close()


async def answer(app: ASGIApp, request: bytes = LAST) -> tuple[bytes, bytes]:
    """Return the head and the body of all that a server sends until it closes."""
    async with served(app) as connect:
        reader, writer = await connect()
        writer.write(request)
        head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
        return head, body


def responding(*messages: Message) -> ASGIApp:
    """Return an app that sends these."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def start(status: int = 200, **headers: str) -> Message:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": given}


def body(content: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def test_a_whole_response_has_its_length_and_the_date() -> None:
    head, content = await answer(responding(start(content_length="2"), body(b"ok")))
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert lines[1].startswith(b"date: ")
    assert lines[2:] == [b"content-length: 2", b"connection: close"]
    assert content == b"ok"


async def test_a_response_in_pieces_is_chunked() -> None:
    app = responding(start(), body(b"one", more=True), body(more=True), body(b"x" * 17, more=True))
    head, content = await answer(app)
    assert head.endswith(b"transfer-encoding: chunked\r\nconnection: close")
    assert content == b"3\r\none\r\n11\r\n" + b"x" * 17 + b"\r\n"  # broken off: no end
    whole = responding(start(), body(b"one", more=True), body(b"two"))
    assert (await answer(whole))[1] == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "wanted"), [(start(content_length="2"), b"content-length: 2"), (start(), b"date")]
)
async def test_the_answer_to_head_has_no_body(head: Message, wanted: bytes) -> None:
    sent = await answer(responding(head, body(b"ok")), LAST.replace(b"GET", b"HEAD"))
    assert wanted in sent[0]
    assert b"chunked" not in sent[0]
    assert sent[1] == b""


async def test_a_status_without_body_has_no_framing() -> None:
    head, content = await answer(responding(start(204), body()))
    assert b"content-length" not in head
    assert b"chunked" not in head
    assert content == b""


async def test_an_old_client_is_told_that_the_connection_closes() -> None:
    app = responding(start(content_length="2"), body(b"ok"))
    head, _ = await answer(app, b"GET / HTTP/1.0\r\n\r\n")
    assert head.endswith(b"connection: close")


async def test_an_app_may_close_the_connection() -> None:
    app = responding(start(content_length="2", connection="close"), body(b"ok"))
    head, _ = await answer(app, GET)
    assert head.count(b"connection: close") == 1


@pytest.mark.parametrize("value", ["a\r\nset-cookie: b", "a\nb", "a\rb", "a\0b"])
async def test_a_header_cannot_smuggle_another(value: str) -> None:
    head, content = await answer(responding(start(x=value), body(b"secret")))
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in head
    assert content == b""


@pytest.mark.parametrize(
    "messages",
    [
        [start(content_length="2"), body(b"o")],
        [start(content_length="2"), body(b"ok", more=True)],
        [start(content_length="2"), body(b"ok!")],
        [start(content_length="2"), start()],
    ],
)
async def test_a_response_that_is_not_whole_ends_the_connection(messages: list[Message]) -> None:
    _, content = await answer(responding(*messages), GET)
    assert len(content) <= 2


@pytest.mark.parametrize("messages", [[], [body(b"ok")]])
async def test_a_request_that_nobody_answers_fails(messages: list[Message]) -> None:
    head, content = await answer(responding(*messages), GET)
    assert head.startswith(b"HTTP/1.1 500 ")
    assert content == b""


async def test_a_body_is_asked_for_when_it_is_read() -> None:
    reading = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await reading.wait()
        content = await Exchange(scope, receive, send, max_body_bytes=10).body()
        await responding(start(content_length="2"), body(content))(scope, receive, send)

    async with served(app) as connect:
        reader, writer = await connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n")
        writer.write(b"Content-Length: 2\r\n\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        reading.set()
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")


async def test_a_body_in_many_pieces_arrives_whole() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        content = await Exchange(scope, receive, send, max_body_bytes=10**7).body()
        await send(start(content_length=str(len(content))))
        await send(body(content))

    wanted = bytes(range(256)) * 2000
    request = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head, content = await answer(app, request + b"Content-Length: 512000\r\n\r\n" + wanted)
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert content == wanted


class Work:
    """An app whose requests run until the client leaves, or for as long as `going` is set."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[int] = asyncio.Queue()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.may_end = asyncio.Event()
        self.count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, max_body_bytes=10)
        await exchange.body()
        self.count += 1
        outcome = "answered"
        try:
            with exchange.client_present():
                self.begun.put_nowait(self.count)
                await self.may_end.wait()
                await exchange.respond(200, b"ok")
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self.ended.put_nowait(outcome)

    async def next_begun(self) -> int:
        return await asyncio.wait_for(self.begun.get(), 10)

    async def next_ended(self) -> str:
        return await asyncio.wait_for(self.ended.get(), 10)


class TestAClientThatLeaves:
    async def test_ends_the_work(self) -> None:
        work = Work()
        async with served(work) as connect:
            _, writer = await connect()
            writer.write(GET)
            await work.next_begun()
            writer.close()
            assert await work.next_ended() == "ClientDisconnected"

    async def test_ends_only_what_it_still_waits_for(self) -> None:
        work = Work()
        async with served(work) as connect:
            reader, writer = await connect()
            work.may_end.set()
            writer.write(GET)
            await reader.readuntil(b"ok")
            assert await work.next_ended() == "answered"
            work.may_end.clear()
            other_reader, other = await connect()
            other.write(GET)
            writer.write(GET)
            assert {await work.next_begun() for _ in range(3)} == {1, 2, 3}
            writer.close()
            assert await work.next_ended() == "ClientDisconnected"
            work.may_end.set()
            await other_reader.readuntil(b"ok")
            assert await work.next_ended() == "answered"

    async def test_ends_the_first_of_its_requests_and_begins_no_other(self) -> None:
        work = Work()
        async with served(work) as connect:
            _, writer = await connect()
            writer.write(GET * 3)
            await work.next_begun()
            writer.close()
            assert await work.next_ended() == "ClientDisconnected"
        assert work.count == 1

    async def test_may_leave_once_it_has_its_answer(self) -> None:
        left, finished = asyncio.Event(), asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            exchange = Exchange(scope, receive, send, max_body_bytes=10)
            with exchange.client_present():
                await exchange.respond(200, b"ok")
                assert (await receive())["type"] == "http.disconnect"
                await left.wait()
                await asyncio.sleep(0.05)
            finished.set()

        async with served(app) as connect:
            reader, writer = await connect()
            writer.write(GET)
            await reader.readuntil(b"ok")
            writer.close()
            await writer.wait_closed()
            left.set()
            await asyncio.wait_for(finished.wait(), 10)

    async def test_may_leave_before_the_work_begins(self) -> None:
        seen: asyncio.Queue[str] = asyncio.Queue()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            try:
                with Presence(scope, receive):
                    seen.put_nowait("entered")
            except ClientDisconnected:
                seen.put_nowait("refused")

        async with served(app) as connect:
            _, writer = await connect()
            writer.write(GET)
            await asyncio.sleep(0.05)
            writer.close()
            assert await asyncio.wait_for(seen.get(), 10) == "refused"

    @pytest.mark.parametrize("says_so", [False, True])
    async def test_is_told_from_whoever_else_cancels(self, says_so: bool) -> None:
        callbacks: list[Any] = []

        def on_departure(callback: Any) -> bool:
            callbacks.append(callback)
            return True

        async def receive() -> Message:
            await asyncio.sleep(60)
            raise AssertionError

        async def work() -> None:
            scope = {"extensions": {DEPARTURE: on_departure}} if says_so else {}
            with Presence(scope, receive):
                await asyncio.sleep(60)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert callbacks[1:] == ([None] if says_so else [])

    async def test_is_noticed_through_receive_where_the_server_does_not_say(self) -> None:
        async def receive() -> Message:
            return {"type": "http.disconnect"}

        with pytest.raises(ClientDisconnected), Presence({}, receive):
            await asyncio.sleep(60)


async def test_the_end_of_the_grace_period_cuts_requests_off() -> None:
    work = Work()
    async with served(work) as connect:
        _, writer = await connect()
        writer.write(GET)
        await work.next_begun()
    assert await work.next_ended() == "CancelledError"
