"""The load: a number of connections, each sending the same request again and again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from httptools import HttpResponseParser

from inferno.gateway.upstream import Address


class Spoilt(Exception):
    """A request was not answered as it should be, so that nothing can be said of the others."""


@dataclass
class Load:
    """What the connections of one measurement share.

    Args:
        request: what they send, head and body.
        end: until when they begin a new request, on the clock of `time.perf_counter`.
        latencies: seconds until each answer began.
        answers: how many answers are whole.
        events: events of streams that arrived.
    """

    request: bytes
    end: float
    latencies: list[float] = field(default_factory=list)
    answers: int = 0
    events: int = 0


class Connection(asyncio.Protocol):
    """One connection; `done` when the last of its requests is answered.

    Args:
        load: what it belongs to.
    """

    def __init__(self, load: Load) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._load = load
        self._parser: Any = HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._has_begun = False
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        """Anything but success spoils the measurement."""
        status = self._parser.get_status_code()
        if status != 200 and not self.done.done():
            self.done.set_exception(Spoilt(f"a request was answered with {status}"))

    def on_body(self, body: bytes) -> None:
        """Note how long it took to begin, and count events."""
        if not self._has_begun:
            self._has_begun = True
            self._load.latencies.append(time.perf_counter() - self._began)
        self._load.events += body.count(b"data: ")

    def on_message_complete(self) -> None:
        """Go on, or stop."""
        self._load.answers += 1
        if time.perf_counter() < self._load.end:
            self._send()
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody should hang up meanwhile."""
        if not self.done.done():
            self.done.set_exception(Spoilt(f"a connection was lost: {exc}"))


def request(address: Address, key: str, body: bytes) -> bytes:
    """Return a chat request as it goes over the wire."""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        f"Host: {address}\r\nAuthorization: Bearer {key}\r\n"
        "Accept: */*\r\nUser-Agent: benchmark\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def apply(address: Address, message: bytes, *, connections: int, seconds: float) -> Load:
    """Keep so many requests in flight for a while."""
    load = Load(message, time.perf_counter() + seconds)
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: Connection(load), address.host, address.port)
        for _ in range(connections)
    ]
    try:
        for _, connection in opened:
            await connection.done
    finally:
        for transport, connection in opened:
            connection.done.cancel()
            transport.abort()
    return load
