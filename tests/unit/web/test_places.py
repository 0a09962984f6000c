"""How many connections an address may have, over real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect as open_socket

from inferno.core.errors import InfernoError
from inferno.web.address import networks
from inferno.web.exchange import Header
from inferno.web.listener import Listener, bind
from inferno.web.places import Places
from inferno.web.protocol import ConnectionLimits
from inferno.web.sockets import SocketLimits

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SOCKETS = SocketLimits(
    message_bytes=1000, first_message_bytes=1000, ping_seconds=100, send_seconds=2, explain=str
)


def render(error: InfernoError, scope: Scope) -> tuple[int, list[Header], bytes]:
    return 0, [], error.message.encode()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    await send(head)
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def served(places: Places) -> AsyncIterator[tuple[str, int]]:
    listening = bind("127.0.0.1", 0)
    listener = Listener(
        app, grace=1, limits=ConnectionLimits(), render=render, sockets=SOCKETS, places=places
    )
    stop = asyncio.Event()
    serving = asyncio.ensure_future(listener.run_on(listening, stop))
    await listener.answering.wait()
    try:
        yield listening.getsockname()
    finally:
        stop.set()
        await serving


async def ask(address: tuple[str, int]) -> tuple[bytes, asyncio.StreamWriter]:
    """Return the first line of an answer, and the connection that it came on."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(GET)
    return (await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)).strip(), writer


async def until(places: Places, count: int) -> None:
    for _ in range(1000):
        if places.taken == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{places.taken} places are taken")


async def test_an_address_has_so_many_connections_and_no_more() -> None:
    places = Places(2)
    async with served(places) as address:
        first, second = [await ask(address) for _ in range(2)]
        assert [first[0], second[0]] == [b"HTTP/1.1 200 OK"] * 2
        refused, third = await ask(address)
        assert refused == b"HTTP/1.1 429 Too Many Requests"
        first[1].close()
        await until(places, 1)
        fourth = await ask(address)
        assert fourth[0] == b"HTTP/1.1 200 OK"
        for writer in (second[1], third, fourth[1]):
            writer.close()
        await until(places, 0)


@pytest.mark.parametrize(
    "places", [Places(), Places(0), Places(1, networks(["10.0.0.0/8", "127.0.0.0/8"]))]
)
async def test_some_have_any_number(places: Places) -> None:
    async with served(places) as address:
        for _ in range(5):
            line, writer = await ask(address)
            with closing(writer):
                assert line == b"HTTP/1.1 200 OK"
    assert places.taken == 0


async def test_a_websocket_keeps_the_place_of_its_connection() -> None:
    places = Places(1)
    async with served(places) as (host, port):
        async with open_socket(f"ws://{host}:{port}/", proxy=None):
            assert places.taken == 1
            refused, writer = await ask((host, port))
            writer.close()
            assert refused == b"HTTP/1.1 429 Too Many Requests"
        await until(places, 0)
        line, writer = await ask((host, port))
        writer.close()
        assert line == b"HTTP/1.1 200 OK"
