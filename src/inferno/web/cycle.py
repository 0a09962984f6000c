"""One request on a connection, and its response: ASGI's `receive` and `send` of an HTTP request.

It stands in for uvicorn's `RequestResponseCycle` and costs less than half: a body that is here is
handed over without an event to wait for, a head is checked as a whole, and whoever works on an
answer may leave word to be called when the client goes, where ASGI has it keep a task that waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from inferno.web.exchange import DEPARTURE, Header

BODILESS_STATUSES = frozenset({204, 304})

CHUNKED_LINE = b"transfer-encoding: chunked\r\n"

FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
"""For a request that no door has answered."""

log = structlog.get_logger(__name__)


class Passage(Protocol):
    """A request that is served in callbacks, as far as nothing has to be waited for."""

    def left(self) -> None:
        """The client has gone."""

    def writable(self) -> None:
        """The client takes more again."""

    def expire(self, now: float) -> None:
        """A second has passed; it is `now` (`time.monotonic`)."""

    def hand_over(self) -> None:
        """Go on in a task, from here."""


class Cycle:
    """A request and its response.

    Args:
        scope: of the request; gets the extension `inferno.departure`, see `on_departure`.
        transport: of the connection.
        flow: its flow control.
        default_headers: of every response.
        expects_continue: the client waits for `100 Continue` before it sends the body.
        keep_alive: whether another request may follow.
        on_complete: called when the response has been written.

    Attributes:
        hold: bytes of the request's body that may wait to be received.
        passage: serves the request where no task does.
        response_started: whether the response's head has been written.
        response_complete: whether all of it has been.
    """

    __slots__ = (
        "_chunked",
        "_default_headers",
        "_departure",
        "_disconnected",
        "_expects_continue",
        "_flow",
        "_held",
        "_is_head",
        "_is_old",
        "_kept_head",
        "_left_to_send",
        "_more_body",
        "_news",
        "_on_complete",
        "_parts",
        "_transport",
        "_until_close",
        "_waiting",
        "hold",
        "keep_alive",
        "passage",
        "response_complete",
        "response_started",
        "scope",
    )

    def __init__(
        self,
        scope: Scope,
        transport: asyncio.Transport,
        flow: FlowControl,
        *,
        default_headers: list[Header],
        expects_continue: bool,
        keep_alive: bool,
        on_complete: Callable[[], None],
    ) -> None:
        self.scope: Scope | None = scope
        self._is_head = scope["method"] == "HEAD"
        self._is_old = scope["http_version"] == "1.0"  # and knows no chunks (RFC 9112, 6.1)
        self._transport = transport
        self._flow = flow
        self._default_headers = default_headers
        self._expects_continue = expects_continue
        self._on_complete = on_complete
        self._parts: list[bytes] = []
        self._held = 0
        self._more_body = True
        self._news = False  # something that `receive` has not told yet
        self._waiting: asyncio.Event | None = None
        self._departure: Callable[[], None] | None = None
        self._disconnected = False
        self._chunked = False
        self._until_close = False
        self._left_to_send = 0
        self._kept_head = b""
        self.hold = HIGH_WATER_LIMIT
        self.passage: Passage | None = None
        self.keep_alive = keep_alive
        self.response_started = False
        self.response_complete = False

    # What the connection tells

    def feed(self, body: bytes) -> None:
        """A piece of the body arrived."""
        self._parts.append(body)
        self._held += len(body)
        if self._held > self.hold:
            self._flow.pause_reading()
        self._tell()

    def end(self) -> None:
        """The body is complete."""
        self._more_body = False
        self._tell()

    def disconnect(self) -> None:
        """The client has gone."""
        if not self.response_complete:
            self._disconnected = True
            if self._departure is not None:
                self._departure()
            if self.passage is not None:
                self.passage.left()
        self._tell()

    def _tell(self) -> None:
        self._news = True
        if self._waiting is not None:
            self._waiting.set()

    # What the app asks for

    async def run_asgi(self, app: ASGIApp) -> None:
        """Let the app answer, once; where it does not, the connection ends."""
        scope, self.scope = self.scope, None  # it refers to this
        assert scope is not None  # noqa: S101
        scope["extensions"] = {DEPARTURE: self.on_departure}
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            # After the head this is how a response is broken off, and whoever does it has logged.
            if not (self.response_started or self._disconnected):
                log.exception("unanswered_request", path=scope["path"])
        finally:
            self.let_go()
            if not self.response_complete and not self._disconnected:
                if not self.response_started:
                    self._transport.write(FAILED)
                self._transport.close()

    def let_go(self) -> None:
        """Forget what refers to this: nobody works on the request any more."""
        self.scope = None
        self.passage = None
        self._parts.clear()
        self._on_complete = _nothing

    def on_departure(self, callback: Callable[[], None] | None) -> bool:
        """Call somebody when the client leaves before it has its response, instead of the last.

        Args:
            callback: None for nobody.

        Returns:
            Whether the client is still there.
        """
        self._departure = callback
        self._flow.resume_reading()  # or nobody sees it leave
        return not self._disconnected

    async def receive(self) -> Message:
        """Return what has arrived of the body, or that the client or its request has gone."""
        if self._expects_continue and not self._transport.is_closing():
            self._expects_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._disconnected and not self.response_complete:
            self._flow.resume_reading()
            if not self._news:
                await self._wait()
            self._news = False
        if self._disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    async def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = asyncio.Event()
        self._waiting.clear()
        await self._waiting.wait()

    async def send(self, message: Message) -> None:
        """Write a part of the response; waits first where the client takes less than it gets.

        Raises:
            RuntimeError: the app breaks the rules.
        """
        if self._flow.write_paused and not self._disconnected:
            await self._flow.drain()
        if self._disconnected:
            return
        kind = message["type"]
        if kind == "http.response.body" and self.response_started and not self.response_complete:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.start" and not self.response_started:
            self._kept_head = self._head(message["status"], message.get("headers", ()))
            self._has_begun()
            if not self._left_to_send:
                self._transport.write(self._kept_head)
                self._kept_head = b""
        else:
            raise RuntimeError(f"The ASGI message '{kind}' does not belong here.")

    @property
    def is_full(self) -> bool:
        """Whether the client takes less than it gets; `Passage.writable` says when no longer."""
        return self._flow.write_paused

    @property
    def body(self) -> bytes:
        """What is there of the request's body, where nobody has received it."""
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def begin(self, status: int, lines: bytes, *, length: int | None) -> None:
        """Begin a response with a body; its head goes out with the first piece of that.

        Args:
            status: of the response.
            lines: its headers as they are sent, each with its line's end, without those that say
                how long the body is.
            length: of the body; None where it is not known yet.
        """
        if length is not None:
            self._left_to_send = length
            framing = b"content-length: %d\r\n" % length
        else:
            framing = CHUNKED_LINE if self._is_chunked_without_length() else b""
        first = b"".join([b"%b: %b\r\n" % header for header in self._default_headers])
        last = b"" if self.keep_alive else b"connection: close\r\n"
        head = (STATUS_LINE[status], first, lines, framing, last, b"\r\n")
        self._kept_head = b"".join(head)
        self._has_begun()

    def _has_begun(self) -> None:
        self.response_started = True
        self._expects_continue = False

    def write(self, body: bytes, *, more: bool) -> None:
        """Write a piece of the response's body, or the last of it."""
        self._send_body(body, more=more)

    def _is_chunked_without_length(self) -> bool:
        """Settle how a body is sent whose length nobody knows, and return whether in chunks."""
        self._until_close = self._is_old
        self._chunked = not self._is_old
        return self._chunked

    def _head(self, status: int, headers: Iterable[Header]) -> bytes:
        """Return the response's head, and settle how its body is sent."""
        lines = [*self._default_headers, *headers]
        named = dict(lines)
        length = named.get(b"content-length")
        if b"transfer-encoding" in named:
            self._chunked = named[b"transfer-encoding"].lower() == b"chunked"
        elif length is not None:
            self._left_to_send = int(length)
        elif (
            not self._is_head
            and status not in BODILESS_STATUSES
            and self._is_chunked_without_length()
        ):
            lines.append((b"transfer-encoding", b"chunked"))
        if b"close" in named.get(b"connection", b"").lower():
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append((b"connection", b"close"))
        head = b"\r\n".join(map(b": ".join, lines))
        ends = len(lines) - 1
        if head.count(b"\r") != ends or head.count(b"\n") != ends or b"\0" in head:
            raise RuntimeError("A header of the response contains CR, LF or NUL.")
        return b"%b%b\r\n\r\n" % (STATUS_LINE[status], head)

    def _send_body(self, body: bytes, *, more: bool) -> None:
        head, self._kept_head = self._kept_head, b""
        if self._is_head:
            self._left_to_send = 0
            self._transport.write(head)
        elif self._chunked:
            end = b"" if more else b"0\r\n\r\n"
            if body:
                self._transport.write(b"%b%x\r\n%b\r\n%b" % (head, len(body), body, end))
            elif head or end:
                self._transport.write(head + end)
        elif self._until_close:
            self._transport.write(head + body)
        else:
            self._left_to_send -= len(body)
            if self._left_to_send < 0:
                raise RuntimeError("The response is longer than its Content-Length.")
            self._transport.write(head + body)
        if not more:
            self._complete()

    def _complete(self) -> None:
        if self._left_to_send:
            raise RuntimeError("The response is shorter than its Content-Length.")
        self.response_complete = True
        self._tell()
        if not self.keep_alive:
            self._transport.close()
        self._on_complete()


def _nothing() -> None:
    """Stand in for a callback that is not to be called again."""
