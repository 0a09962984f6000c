"""HTTP and HTTPS on one socket: what a connection begins with says which of the two it is.

`kubectl` sends no credentials over plain HTTP, and a browser or `curl` on the same machine should
not have to trust a certificate. A TLS handshake begins with the byte 0x16 (RFC 8446, 5.1), which
no HTTP request can.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

TLS_HANDSHAKE = b"\x16"
GOODBYE = 1.0
"""Seconds that a client gets to answer the end of a TLS connection; idle ones never do."""
PAUSE = 0.1
"""Seconds before the next try where no connection can be taken: too many files are open."""
MOST_SILENT = 256
"""Connections that may be there without having begun; for one more, the oldest has to go."""


class MixedServer:
    """Takes connections; `start` it on a running loop, and `close` it.

    Args:
        listening: the socket.
        protocol: makes what speaks HTTP on a connection.
        context: for those that speak TLS.
        seconds: in which a connection's first byte, and its handshake, have to come.
    """

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        *,
        seconds: float,
    ) -> None:
        self._listening = listening
        self._protocol = protocol
        self._context = context
        self._seconds = seconds
        self._accepting: asyncio.Task[None] | None = None
        self._greeting: dict[asyncio.Task[None], None] = {}  # the oldest first

    def start(self) -> None:
        """Begin to take connections."""
        self._listening.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Take no more; those that were greeted go on."""
        for task in (self._accepting, *self._greeting):
            if task is not None:
                task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing of it runs any more, once it was closed."""
        running = [task for task in (self._accepting, *self._greeting) if task is not None]
        await asyncio.gather(*running, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except OSError:
                await asyncio.sleep(PAUSE)
                continue
            if len(self._greeting) >= MOST_SILENT:
                oldest = next(iter(self._greeting))
                del self._greeting[oldest]
                oldest.cancel()
            greeting = loop.create_task(self._greet(connection))
            self._greeting[greeting] = None
            greeting.add_done_callback(lambda task: self._greeting.pop(task, None))
            await asyncio.sleep(0)  # it begins, and others get their turn where many connect

    async def _greet(self, connection: socket.socket) -> None:
        """Find out what a connection speaks, and hand it on."""
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        try:
            async with asyncio.timeout(self._seconds):
                if await _first_byte(connection) == TLS_HANDSHAKE:
                    await loop.connect_accepted_socket(
                        self._protocol,
                        connection,
                        ssl=self._context,
                        ssl_shutdown_timeout=GOODBYE,
                    )
                else:
                    await loop.connect_accepted_socket(self._protocol, connection)
        except (OSError, TimeoutError):  # it left, was too slow, or speaks another TLS
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise


async def _first_byte(connection: socket.socket) -> bytes:
    """Return a connection's first byte without taking it; empty where it ended."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)
