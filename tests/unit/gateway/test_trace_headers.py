"""A call takes its trace along to the endpoint (W3C Trace Context)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from inferno.gateway.endpoints import Endpoint
from inferno.gateway.forwarding import Call, Forwarder, Timeouts
from inferno.gateway.lines import LineTable
from inferno.gateway.picking import Picker
from inferno.gateway.routing import Caller, Destination, Route
from inferno.gateway.upstream import Address, UpstreamClient

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TIMEOUTS = Timeouts(queue=5, load=5, request=5, first_byte=5, idle=5)


async def head_of(call: Call) -> bytes:
    """Send a call to a server, and return the head that it got."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = UpstreamClient()
        line = LineTable(max_waiting=1, picker=Picker.parse("queue")).line("m")
        line.add(
            Endpoint(
                name="e",
                model="m",
                address=Address("127.0.0.1", server.sockets[0].getsockname()[1]),
                authorization=b"",
                capacity=1,
                slots=1,
                context_size=10,
                capabilities=frozenset(),
            )
        )
        call.destination = Destination(Route("m", line), "m", 0, Caller())
        # Where it goes is known and ready, so neither routes nor residency are asked.
        forwarder = Forwarder(cast("Any", None), cast("Any", None), client, TIMEOUTS)
        async with forwarder.open(call) as answer:
            assert await answer.read() == b"{}"
        await client.close()
    return heads[0].lower()


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, []),
        ({"traceparent": PARENT}, [b"traceparent: " + PARENT]),
        (
            {"traceparent": PARENT, "tracestate": b"vendor=1"},
            [b"traceparent: " + PARENT, b"tracestate: vendor=1"],
        ),
    ],
)
async def test_an_endpoint_is_told_of_the_trace(given: dict[str, bytes], sent: list[bytes]) -> None:
    call = Call("m", b"/v1/chat/completions", b"{}", "req_1")
    for name, value in given.items():
        setattr(call, name, value)
    lines = (await head_of(call)).split(b"\r\n")
    assert [line for line in lines if line.startswith(b"trace")] == sent
