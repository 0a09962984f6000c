"""WebSocket connections (RFC 6455) as uvicorn speaks them, with an end to all that may drag on.

A client that does not take what is sent is cut off, also where it no longer answers the closing
handshake. One that breaks the protocol, or sends too much, is told why before the connection ends,
even while it is still sending. A shutdown does not end connections: the app is told through
`scope["extensions"]["inferno.draining"]`, an event, and ends them itself.

Messages are not compressed: it would cost more time than the tokens themselves, and memory for
every connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from inferno.core.errors import InfernoError, InvalidRequest
from inferno.web.places import Places

DRAINING = "inferno.draining"
CLOSE_SECONDS = 5.0
"""What a client gets to take its part in the closing handshake."""

SILENCE_SECONDS = 0.5
"""After this much of it, a client that was told what it did wrong has heard it."""

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_MALFORMED_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What a client of a WebSocket may take.

    Args:
        message_bytes: size of a message.
        first_message_bytes: size of the first, where the handshake brought no credentials.
        ping_seconds: between two pings.
        send_seconds: until it has to take what is sent, and to answer a ping.
        explain: turns an error into the text of a message.
    """

    message_bytes: int
    first_message_bytes: int
    ping_seconds: float
    send_seconds: float
    explain: Callable[[InfernoError], str]


class SocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket connection with limits. Its owner calls `expire` about once a second.

    Args:
        limits: what the client may take.
        places: what all connections of an address take.
        options: uvicorn's own.
    """

    def __init__(self, *, limits: SocketLimits, places: Places, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._places = places
        self._holder: str | None = None
        self.conn = _Frames(limits, self.conn.logger)
        self.close_timeout = CLOSE_SECONDS
        self.ping_interval = limits.ping_seconds
        self.ping_timeout = limits.send_seconds
        self._draining = asyncio.Event()
        self._paused_at: float | None = None
        self._closing_at: float | None = None
        self._deaf_until: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection was handed over, with the place that it had."""
        super().connection_made(transport)
        self._holder = self._places.take(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._places.give_back(self._holder)
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        """A handshake arrived."""
        if "Authorization" in event.headers:
            self.conn.max_message_size = self._limits.message_bytes
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"][DRAINING] = self._draining  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Bytes arrived; after what was wrong they are of no use."""
        if self._deaf_until is not None:
            self._close_when_silent(self._deaf_until)
            return
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            # It passed for HTTP, and is too much for the handshake (its many headers, say).
            self.transport.write(_MALFORMED_HANDSHAKE)
            self.transport.close()

    def shutdown(self) -> None:
        """Leave it to the app to end the connection."""
        if self.close_sent or self.disconnected:
            super().shutdown()
        else:
            self._draining.set()

    def pause_writing(self) -> None:
        """The client is slower than we are."""
        super().pause_writing()
        self._paused_at = time.monotonic()

    def resume_writing(self) -> None:
        """The client has taken most of what waited."""
        super().resume_writing()
        self._paused_at = None

    def expire(self, now: float) -> None:
        """Cut the connection where its client has taken too long."""
        if self._paused_at is not None and now - self._paused_at > self._limits.send_seconds:
            self.transport.abort()
        elif self.transport.is_closing():
            self._closing_at = self._closing_at or now
            if now - self._closing_at > CLOSE_SECONDS:
                self.transport.abort()

    def handle_parser_exception(self) -> None:
        """Say what was wrong, and go on reading until the client has heard it.

        Closing at once, with something of the client's unread, would reset the connection and
        lose what was said.
        """
        if self.close_sent:
            return
        closing = self.conn.close_sent
        assert closing is not None  # noqa: S101 - the parser fails with a close frame
        event = {"type": "websocket.disconnect", "code": closing.code, "reason": closing.reason}
        self.queue.put_nowait(event)  # type: ignore[arg-type]
        if self.handshake_complete:
            text = self._limits.explain(self._problem(closing.code, closing.reason))
            self.transport.write(Frame(Opcode.TEXT, text.encode()).serialize(mask=False))
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self._deaf_until = self.loop.time() + CLOSE_SECONDS
        self._close_when_silent(self._deaf_until)

    def _close_when_silent(self, until: float) -> None:
        """Close once nothing has come for a while, or the time is over."""
        if self.close_timer is not None:
            self.close_timer.cancel()
        at = min(until, self.loop.time() + SILENCE_SECONDS)
        self.close_timer = self.loop.call_at(at, self.transport.close)

    def _problem(self, code: int, reason: str) -> InfernoError:
        if code == CloseCode.MESSAGE_TOO_BIG:
            limit = self.conn.max_message_size
            return InvalidRequest(f"The message is larger than {limit} bytes.", limit_bytes=limit)
        if code == CloseCode.INVALID_DATA:
            return InvalidRequest("The message is not valid UTF-8.")
        return InvalidRequest(f"The WebSocket protocol was broken: {reason or 'invalid frame'}.")


class _Frames(ServerProtocol):
    """Frames in and out; the first message has a limit of its own.

    Args:
        limits: the sizes.
        logger: uvicorn's.
    """

    def __init__(self, limits: SocketLimits, logger: Any) -> None:
        super().__init__(max_size=limits.first_message_bytes, logger=logger)
        self._message_bytes = limits.message_bytes

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame."""
        super().recv_frame(frame)
        if frame.fin and frame.opcode in _DATA:
            self.max_message_size = self._message_bytes
