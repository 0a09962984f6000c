"""A static HTTP server that costs little: it reads no more of a request than where it ends.

Prints its port and serves until its input ends. `POST /unary` gives 1 KB, `/flood` 100 chunks as
fast as they go out, each with a write of its own, and `/tokens` 100 chunks 1 ms apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import uvloop

CHUNKS = 100
_UNARY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n"
_EVENT = b'data: {"choices":[{"delta":{"content":"token"}}]}\n\n'
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Backend(asyncio.Protocol):
    """One connection; requests come one after the other and carry a Content-Length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.loop = asyncio.get_running_loop()
        self.received = b""

    def data_received(self, data: bytes) -> None:
        """Answer when the request is whole."""
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        self.received = b""
        if head.startswith(b"POST /unary"):
            self.transport.write(_UNARY + b"x" * 1024)
        else:
            self.transport.write(_STREAM)
            self.send_chunks(CHUNKS, 0.001 if head.startswith(b"POST /tokens") else 0)

    def send_chunks(self, left: int, pause: float) -> None:
        """Send a chunk, and the next one after the pause or in the loop's next turn."""
        if left:
            self.transport.write(_CHUNK)
            self.loop.call_later(pause, self.send_chunks, left - 1, pause)
        else:
            self.transport.write(b"0\r\n\r\n")


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Backend, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    with contextlib.suppress(AttributeError, OSError, IndexError):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[1]})
    uvloop.run(main())
