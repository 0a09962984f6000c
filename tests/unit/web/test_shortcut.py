"""Requests that are served without a task: when they are, and how a task takes them over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from inferno.core.errors import InfernoError
from inferno.web import listener, protocol
from inferno.web.cycle import Cycle
from inferno.web.door import SECURITY_HEADERS, Door, headers_for_all, lines_for_all
from inferno.web.exchange import NAMED, ClientDisconnected, Exchange, Header
from inferno.web.listener import Listener, bind
from inferno.web.protocol import ConnectionLimits

Client = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def render(error: InfernoError, scope: Scope) -> tuple[int, list[Header], bytes]:
    return 500, [], b""


def post(path: str, *fields: str, body: bytes = b"{}", version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Answering:
    """Answers what is at `/short`, keeps `/later` until somebody says something, leaves the rest.

    As an app it says that it is one.
    """

    def __init__(self) -> None:
        self.kept: Kept | None = None
        self.bodies: list[bytes] = []

    def wants(self, scope: Scope) -> bool:
        assert scope[NAMED][b"host"] == b"x"
        return scope["path"] in ("/short", "/large", "/later", "/declined")

    def begin(self, scope: Scope, cycle: Cycle, serve: Callable[[Cycle], None]) -> bool:
        self.bodies.append(cycle.body)
        if scope["path"] == "/declined":
            return False
        if scope["path"] == "/later":
            cycle.passage = self.kept = Kept(cycle, serve)
            return True
        cycle.begin(200, b"x-by: shortcut\r\n", length=None)
        if scope["path"] == "/large":
            cycle.write(b"x" * 20_000_000, more=True)
        cycle.write(b"sh", more=True)
        cycle.write(b"ort", more=False)
        cycle.let_go()
        return True

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, max_body_bytes=10**6)
        if self.kept is None:
            await exchange.respond(200, b"app:" + await exchange.body())
            return
        try:
            with exchange.client_present():
                await asyncio.sleep(30 if scope["path"] == "/later" else 0)
        except (asyncio.CancelledError, ClientDisconnected) as error:
            self.kept.events.append(type(error).__name__)
            raise


class Kept:
    """A request that waits."""

    def __init__(self, cycle: Cycle, serve: Callable[[Cycle], None]) -> None:
        self.cycle = cycle
        self.events: list[str] = []
        self._serve = serve

    def left(self) -> None:
        self.events.append("left")

    def writable(self) -> None:
        self.events.append("writable")

    def expire(self, now: float) -> None:
        self.events.append("expire")

    def hand_over(self) -> None:
        self.events.append("hand over")
        self.cycle.passage = None
        self._serve(self.cycle)


@asynccontextmanager
async def served(shortcut: Answering) -> AsyncIterator[Client]:
    listening = bind("127.0.0.1", 0)
    server = Listener(
        shortcut.app, grace=1, limits=ConnectionLimits(), render=render, shortcut=shortcut
    )
    stop = asyncio.Event()
    serving = asyncio.ensure_future(server.run_on(listening, stop))
    await server.answering.wait()

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*listening.getsockname())

    try:
        yield connect
    finally:
        stop.set()
        await serving


async def answered(shortcut: Answering, *messages: bytes) -> bytes:
    """Return all that is answered to some bytes, which are sent one after the other."""
    async with served(shortcut) as connect:
        reader, writer = await connect()
        for message in messages:
            writer.write(message)
            await writer.drain()
            await asyncio.sleep(0.01)
        received = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return received


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


LAST = "Connection: close"


async def test_a_request_that_is_whole_needs_no_task() -> None:
    shortcut = Answering()
    received = await answered(shortcut, post("/short", LAST, body=b"[1]"))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert head.endswith(b"x-by: shortcut\r\ntransfer-encoding: chunked\r\nconnection: close")
    assert body == b"2\r\nsh\r\n3\r\nort\r\n0\r\n\r\n"
    assert shortcut.bodies == [b"[1]"]


async def test_an_old_client_reads_until_the_end() -> None:
    received = await answered(Answering(), post("/short", version="1.0"))
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert head.endswith(b"connection: close")
    assert body == b"short"


async def test_the_body_is_waited_for() -> None:
    shortcut = Answering()
    message = post("/short", LAST, body=b"x" * 100_000)
    received = await answered(shortcut, message[:50], message[50:70_000], message[70_000:])
    assert received.endswith(b"ort\r\n0\r\n\r\n")
    assert shortcut.bodies == [b"x" * 100_000]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(post("/declined", LAST), id="it is declined"),
        pytest.param(post("/else", LAST), id="it is not wanted"),
        pytest.param(post("/short", "X: 1", "X: 2", LAST), id="a header is there twice"),
        pytest.param(post("/short", "Expect: 100-continue", LAST), id="the body is asked for"),
    ],
)
async def test_an_app_serves_what_a_shortcut_does_not(message: bytes) -> None:
    received = await answered(Answering(), message)
    assert received.endswith(b"app:{}")


async def test_a_body_that_is_too_large_to_wait_for_is_the_apps() -> None:
    shortcut = Answering()
    received = await answered(shortcut, post("/short", LAST, body=b"x" * 300_000))
    assert received.endswith(b"app:" + b"x" * 300_000)
    assert not shortcut.bodies


async def test_requests_that_come_together_are_answered_in_order() -> None:
    messages = post("/short") + post("/else") + post("/short", LAST)
    received = await answered(Answering(), messages)
    first, second = received.index(b"sh\r\n"), received.index(b"app:{}")
    assert received.count(b"HTTP/1.1 200") == 3
    assert first < second


async def test_what_follows_that_is_no_request_ends_the_connection() -> None:
    received = await answered(Answering(), post("/short") + b"\x00\x01\x02\r\n\r\n")
    assert received.count(b"HTTP/1.1") <= 1


OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA")
INNER = b"GET /inner HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("path", ["/short", "/declined", "/else"])
@pytest.mark.parametrize("cut", [0, 10, len(INNER)])
async def test_a_body_behind_an_offer_is_a_body(path: str, cut: int) -> None:
    """Proxies that let `Upgrade` pass take it for one; what it says must not be done."""
    message = post(path, *OFFER, body=INNER)
    at = len(message) - len(INNER) + cut
    shortcut = Answering()
    received = await answered(shortcut, message[:at], message[at:] + post("/else", LAST, body=b"."))
    assert received.count(b"HTTP/1.1 200") == 2
    assert received.endswith(b"app:.")
    assert INNER in (received if path != "/short" else shortcut.bodies)


async def test_a_chunked_body_behind_an_offer_is_a_body() -> None:
    head = b"POST /else HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    head += "".join(f"{line}\r\n" for line in OFFER).encode()
    chunks = b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER)
    received = await answered(Answering(), head + chunks + post("/short", LAST))
    assert received.count(b"HTTP/1.1 200") == 2
    assert b"app:" + INNER in received


async def test_many_offers_that_come_together() -> None:
    messages = post("/short", *OFFER, body=b"{}") * 50 + post("/else", LAST, body=b"last")
    received = await answered(Answering(), messages)
    assert received.count(b"HTTP/1.1 200") == 51
    assert received.endswith(b"app:last")


async def test_an_upgrade_without_a_body_is_left_aside() -> None:
    message = post("/else", *OFFER, body=b"")
    received = await answered(Answering(), message + post("/else"), post("/short", LAST))
    assert received.count(b"HTTP/1.1 200") == 3


async def test_a_client_that_leaves_is_noticed() -> None:
    shortcut = Answering()
    async with served(shortcut) as connect:
        _, writer = await connect()
        writer.write(post("/later"))
        await until(lambda: shortcut.kept is not None)
        writer.close()
        await until(lambda: shortcut.kept is not None and "left" in shortcut.kept.events)


async def test_a_client_that_leaves_before_its_body_is_whole_leaves_nothing() -> None:
    shortcut = Answering()
    async with served(shortcut) as connect:
        _, writer = await connect()
        writer.write(post("/short")[:-1])
        await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
    assert not shortcut.bodies


async def test_whoever_does_not_read_is_served_by_the_app() -> None:
    """It waits for its client; a shortcut's answers would pile up."""
    shortcut = Answering()
    async with served(shortcut) as connect:
        reader, writer = await connect()
        writer.write(post("/large"))
        await until(lambda: len(shortcut.bodies) == 1)
        writer.write(post("/short", LAST))
        assert (await reader.read()).endswith(b"app:{}")
        assert len(shortcut.bodies) == 1
        writer.close()


@pytest.mark.parametrize("fields", [[], [LAST]], ids=["it waits", "it is closed"])
async def test_whoever_takes_nothing_any_more_is_hung_up_on(
    fields: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "STALLED_SECONDS", 0.1)
    monkeypatch.setattr(listener, "TICK_SECONDS", 0.05)
    async with served(Answering()) as connect:
        reader, writer = await connect()
        writer.write(post("/large", *fields))
        await asyncio.sleep(0.5)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(20_000_000)
        writer.close()


async def test_the_end_of_the_grace_period_cuts_it_off() -> None:
    shortcut = Answering()
    async with served(shortcut) as connect:
        _, writer = await connect()
        writer.write(post("/later"))
        await until(lambda: shortcut.kept is not None)
    assert shortcut.kept is not None
    assert [event for event in shortcut.kept.events if event != "expire"] == [
        "hand over",
        "CancelledError",
    ]
    writer.close()


@pytest.mark.parametrize("notices", [(), [(b"sunset", b"soon"), (b"link", b"<x>")]])
@pytest.mark.parametrize("is_limited", [False, True])
def test_headers_are_the_same_however_they_are_written(
    notices: list[Header], is_limited: bool
) -> None:
    class Standing:
        limit, remaining, reset_after = 60, 59, 0.5

    state = {
        "request_id": "req_1",
        "standing": Standing() if is_limited else None,
        "notices": notices,
    }
    lines = lines_for_all(state).split(b"\r\n")
    assert lines.pop() == b""
    assert [tuple(line.split(b": ")) for line in lines] == headers_for_all(state)
    assert set(SECURITY_HEADERS) < set(headers_for_all(state))


def test_a_request_keeps_its_id_when_a_task_takes_it_over() -> None:
    door = Door(Answering().app, render=render, access_log=False)
    scope: Scope = {"type": "http", "headers": []}
    state = dict(door.arrive(scope))
    assert door.arrive(scope) == state
