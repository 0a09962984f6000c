"""Answers that are held until they are whole share their memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from inferno.core.errors import Overloaded
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.forwarding import Call, Forwarder, Timeouts
from inferno.gateway.lines import LineTable
from inferno.gateway.picking import Picker
from inferno.gateway.room import Room
from inferno.gateway.routing import Caller, Destination, Route
from inferno.gateway.upstream import Address, UpstreamClient

SIZE = 300_000
TIMEOUTS = Timeouts(queue=5, load=5, request=5, first_byte=5, idle=5)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with many bytes."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + b"x" * SIZE)
    writer.close()


@pytest.fixture
async def destination() -> AsyncIterator[Destination]:
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        line = LineTable(max_waiting=1, picker=Picker.parse("queue")).line("m")
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        line.add(Endpoint("e", "m", address, b"", 9, 9, 10, frozenset()))
        yield Destination(Route("m", line), "m", 0, Caller())


async def read(forwarder: Forwarder, destination: Destination) -> tuple[Call, bytes]:
    call = Call("m", b"/", b"{}", "req_1", destination=destination)
    async with forwarder.open(call) as answer:
        return call, await answer.read()


async def test_answers_have_room_together(destination: Destination) -> None:
    client = UpstreamClient()
    # Where it goes is known and ready, so neither routes nor residency are asked.
    forwarder = Forwarder(cast("Any", None), cast("Any", None), client, TIMEOUTS)
    forwarder.room = Room(SIZE * 2)
    first, body = await read(forwarder, destination)
    assert body == b"x" * SIZE
    second, _ = await read(forwarder, destination)
    assert forwarder.room.held == SIZE * 2
    with pytest.raises(Overloaded, match="Ask for a stream"):
        await read(forwarder, destination)
    forwarder.let_go(first)
    forwarder.let_go(first)
    assert forwarder.room.held == SIZE
    third, _ = await read(forwarder, destination)
    for call in (second, third):
        forwarder.let_go(call)
    assert forwarder.room.held == 0
    await client.close()
