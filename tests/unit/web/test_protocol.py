"""A connection, byte by byte: what is let through, and how often it is answered."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from inferno.core.errors import InfernoError
from inferno.web.exchange import Header
from inferno.web.places import Places
from inferno.web.protocol import ConnectionLimits, GuardedProtocol

LIMITS = ConnectionLimits(header_bytes=1024, header_seconds=10, body_seconds=20)
HEAD = b"POST /x HTTP/1.1\r\nHost: here\r\n"


def render(error: InfernoError, scope: Scope) -> tuple[int, list[Header], bytes]:
    return 0, [(b"content-type", b"text/plain")], error.message.encode()


class Transport(asyncio.Transport):
    """Takes down what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)})
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Not needed here."""

    def resume_reading(self) -> None:
        """Not needed here."""

    @property
    def statuses(self) -> list[int]:
        return [int(found) for found in re.findall(rb"HTTP/1.1 (\d+)", bytes(self.written))]


class World:
    """A connection to an app that answers when it is told to."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        config = uvicorn.Config(
            self.app, interface="asgi3", ws="none", lifespan="off", log_config=None
        )
        config.load()
        self.transport = Transport()
        self.protocol = GuardedProtocol(
            limits=LIMITS,
            places=Places(),
            render=render,
            config=config,
            server_state=ServerState(),
            app_state={},
        )
        self.protocol.connection_made(self.transport)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        headers = [(b"content-length", b"2")]
        if scope["path"] == "/started":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"o", "more_body": True})
        await self.may_answer.wait()
        if scope["path"] != "/started":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"o", "more_body": True})
        await send({"type": "http.response.body", "body": b"k"})

    async def receive(self, data: bytes, *, piece: int = 0) -> list[int]:
        """Feed bytes, in pieces or at once, and return the statuses of the answers so far."""
        step = piece or len(data)
        for start in range(0, len(data), step):
            if self.transport.closed:
                break
            self.protocol.data_received(data[start : start + step])
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        return self.transport.statuses

    def expire(self, seconds: float) -> bool:
        """Let time pass, and return whether the connection is closed then."""
        self.protocol.expire(time.monotonic() + seconds)
        return self.transport.closed


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_request_is_answered(world: World) -> None:
    assert await world.receive(HEAD + b"Content-Length: 2\r\n\r\n{}") == [200]
    assert not world.expire(0)


@pytest.mark.parametrize("piece", [0, 1, 7, 300])
async def test_a_head_that_is_too_large_reaches_no_app(world: World, piece: int) -> None:
    assert await world.receive(HEAD + b"X: " + b"x" * 1024 + b"\r\n\r\n", piece=piece) == [431]
    assert world.transport.closed
    assert world.scopes == []


@pytest.mark.parametrize("piece", [0, 100])
async def test_a_large_body_is_no_large_head(world: World, piece: int) -> None:
    body = b"x" * 50_000
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert await world.receive(request, piece=piece) == [200]
    assert await world.receive(HEAD + b"Content-Length: 0\r\n\r\n") == [200, 200]


async def test_many_small_requests_at_once_are_no_large_head(world: World) -> None:
    request = HEAD + b"Content-Length: 0\r\n\r\n"
    for _ in range(50):
        await world.receive(request * 2)
    assert world.transport.statuses == [200] * 100


async def test_fields_behind_the_body_are_dropped(world: World) -> None:
    request = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: x\r\n\r\n"
    assert await world.receive(request) == [200]
    assert [name for name, _ in world.scopes[0]["headers"]] == [b"host", b"transfer-encoding"]


@pytest.mark.parametrize("endless", [b"0\r\n" + b"X: y\r\n" * 400, b"2;" + b"x" * 2000])
async def test_what_is_neither_head_nor_body_has_an_end(world: World, endless: bytes) -> None:
    world.may_answer.clear()
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert await world.receive(head + endless, piece=100) == [431]
    assert world.transport.closed


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: a\r\n", b"Host: a\r\nhost: b\r\n"])
async def test_a_request_names_one_host(world: World, hosts: bytes) -> None:
    assert await world.receive(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n") == [400]
    assert world.scopes == []


class TestRefusals:
    async def test_are_not_written_into_another_answer(self, world: World) -> None:
        world.may_answer.clear()
        started = HEAD.replace(b"/x", b"/started") + b"Content-Length: 0\r\n\r\n"
        assert await world.receive(started) == [200]
        assert await world.receive(b"GARBAGE\r\n\r\n") == [200]
        assert world.transport.closed

    async def test_do_not_take_the_place_of_another_answer(self, world: World) -> None:
        world.may_answer.clear()
        assert await world.receive(HEAD + b"Content-Length: 0\r\n\r\n") == []
        assert await world.receive(b"GARBAGE\r\n\r\n") == []
        assert world.transport.closed

    async def test_do_not_follow_an_answer_to_the_same_request(self, world: World) -> None:
        assert await world.receive(HEAD + b"Transfer-Encoding: chunked\r\n\r\n") == [200]
        assert await world.receive(b"garbage\r\n") == [200]
        assert world.transport.closed

    async def test_answer_a_body_that_is_wrong(self, world: World) -> None:
        world.may_answer.clear()
        await world.receive(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        assert await world.receive(b"garbage\r\n") == [400]
        assert b"x-content-type-options: nosniff" in world.transport.written

    async def test_answer_what_has_no_target(self, world: World) -> None:
        assert await world.receive(b"CONNECT here:80 HTTP/1.1\r\nHost: here\r\n\r\n") == [400]


class TestTime:
    @pytest.mark.parametrize("sent", [b"", b"\r\n", HEAD])
    async def test_ends_the_wait_for_a_head(self, world: World, sent: bytes) -> None:
        if sent:
            await world.receive(sent)
        assert not world.expire(9)
        assert world.expire(11)
        assert world.transport.statuses == ([408] if sent == HEAD else [])

    async def test_ends_the_wait_for_a_body(self, world: World) -> None:
        world.may_answer.clear()
        await world.receive(HEAD + b"Content-Length: 9\r\n\r\n{")
        assert not world.expire(19)
        assert world.expire(21)

    async def test_does_not_end_work(self, world: World) -> None:
        world.may_answer.clear()
        await world.receive(HEAD + b"Content-Length: 2\r\n\r\n{}")
        assert not world.expire(1e6)
        world.may_answer.set()
        assert await world.receive(HEAD + b"Content-Length: 0\r\n\r\n") == [200, 200]

    async def test_is_not_won_with_empty_lines(self, world: World) -> None:
        await world.receive(HEAD + b"Content-Length: 0\r\n\r\n")
        await world.receive(b"\r\n")
        assert not world.expire(9)
        assert world.expire(11)

    async def test_is_not_won_with_a_body_that_nobody_reads(self, world: World) -> None:
        await world.receive(HEAD + b"Content-Length: 1000\r\n\r\n")
        await world.receive(b"x")
        assert world.transport.statuses == [200]
        deadline = world.protocol._deadline
        await world.receive(b"x")
        assert world.protocol._deadline == deadline
        assert world.expire(21)
