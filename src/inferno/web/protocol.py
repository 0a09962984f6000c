"""HTTP/1.1 as uvicorn speaks it, with limits on what a connection may cost before it is a request.

uvicorn bounds neither the size of a request's head nor the time that a client may take to send it.
Here both are bounded, as is the time between two pieces of a body. Where llhttp is more lenient
than RFC 9112, this is not: a request names one host, and fields behind a body are no headers. What
is refused at this level gets the API's own envelope too.
"""

from __future__ import annotations

import asyncio
import http
import secrets
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inferno.core.errors import InvalidRequest
from inferno.web.cycle import Cycle
from inferno.web.door import SECURITY_HEADERS, Render
from inferno.web.exchange import NAMED
from inferno.web.offers import behind, has_body
from inferno.web.places import Places


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a client may take before it has sent a request.

    Args:
        header_bytes: size of a request's head, and of whatever else it has besides its body.
        header_seconds: from the connection, or the head's first byte, to its last.
        body_seconds: between two pieces of a body.
    """

    header_bytes: int = 64 * 1024
    header_seconds: float = 10.0
    body_seconds: float = 30.0


CROWDED_SECONDS = 1.0
"""In which a connection too many has to say something, to hear that it is."""


STALLED_SECONDS = 60.0
"""In which a client has to take some of what waits for it, where that is much, or the last."""

WHOLE_BYTES = 256 * 1024
"""Of a body that is waited for before anybody serves its request."""


class Shortcut(Protocol):
    """Serves requests where no task is needed: in the callback that brings them."""

    def wants(self, scope: Scope) -> bool:
        """Return whether a request may be one of those, going by its head; it has `NAMED`."""

    def begin(self, scope: Scope, cycle: Cycle, serve: Callable[[Cycle], None]) -> bool:
        """Begin to serve a request, which is here as a whole.

        As long as it needs no task, `cycle.passage` is what serves it.

        Args:
            scope: of the request.
            cycle: the request and its response.
            serve: lets the app go on with it, in a task.

        Returns:
            Whether it is served; else the app has to serve it, as if nothing had happened.
        """


class Malformed(Exception):
    """A request was refused while it was parsed; no more of it is read."""


class GuardedProtocol(HttpToolsProtocol):
    """A connection with limits. Its owner calls `expire` about once a second.

    Args:
        limits: what the client may take.
        places: what all connections of an address take.
        render: the API's error envelope.
        shortcut: asked first, where a request is here as a whole.
        options: uvicorn's own.
    """

    cycle: Cycle  # type: ignore[assignment]  # it does all that uvicorn's own is asked to

    def __init__(
        self,
        *,
        limits: ConnectionLimits,
        places: Places,
        render: Render,
        shortcut: Shortcut | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._shortcut = shortcut
        self._awaited: Cycle | None = None  # whose body has to be whole before it is served
        self._is_whole = False
        self._limits = limits
        self._places = places
        self._holder: str | None = None
        self._render = render
        self._place: Literal["between", "head", "body"] = "between"
        self._unused_bytes = 0  # received since the last head, piece of a body, or request
        self._arrived = 0  # together with what a head may be in that began before: none is larger
        self._is_handshake = False  # whether the request asks for a WebSocket, and there are some
        self._declines = False  # whether it offers another protocol, and its body has to follow
        self._now = time.monotonic()  # when bytes arrived last, or the connection did
        self._deadline: float | None = None
        self._idle_until: float | None = None
        self._stalled_until: float | None = None
        self._answering: Cycle | None = None  # the newest request is `cycle`

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected; its request is expected soon."""
        super().connection_made(transport)
        self._holder = self._places.take(transport)
        self._expect_within(CROWDED_SECONDS if self._is_crowded else self._limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone; what it waits for is told."""
        self.connections.discard(self)
        self._places.give_back(self._holder)
        if self._awaited is not None:
            self._awaited.let_go()
        elif self._answering is not None:
            self._answering.disconnect()
        self.pipeline.clear()
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]  # it refers to this

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self._is_crowded:
            # Not before: closing with bytes unread would reset the connection, and lose what is
            # said.
            self._refuse(429, "This address has too many open connections.")
            return
        self._idle_until = None
        self._now = time.monotonic()
        self._arrived = len(data) + (self._arrived if self._place == "head" else 0)
        self._unused_bytes += len(data)
        self._parse(data)
        if self._is_whole:
            self._serve_awaited()  # not in the parser, which takes every error for the client's
        elif self._unused_bytes > self._limits.header_bytes:
            self._refuse_size()
        elif self._deadline is None and self._is_idle:
            # Empty lines before a request are not the request yet.
            self._expect_within(self._limits.header_seconds)

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            except httptools.HttpParserUpgrade as offer:
                if self._is_handshake:
                    self.handle_websocket_upgrade()
                    return
                if self._declines:
                    self._declines = False
                    self.parser = behind(self.headers, self)
                data = data[offer.args[0] :]
                if data:
                    continue
            return

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._place = "head"
        self._deadline = self._now + self._limits.header_seconds

    def on_url(self, url: bytes) -> None:
        """A piece of the target arrived."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field arrived; those behind the body are none of the head's (RFC 9110, 6.5.1)."""
        if self._place == "head":
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._unused_bytes = 0
        maximum = self._limits.header_bytes
        if self._arrived > maximum and self._head_size() > maximum:
            self._refuse_size()
            raise Malformed
        version = self.parser.get_http_version()
        scope: Scope = self.scope  # type: ignore[assignment]
        named = dict(self.headers)
        if len(named) == len(self.headers):
            scope[NAMED] = named
            hosts = int(b"host" in named)
        else:
            hosts = [name for name, _ in self.headers].count(b"host")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            self._refuse(400, "A request has to have one Host header.")
            raise Malformed
        self.expect_100_continue = named.get(b"expect", b"").lower() == b"100-continue"
        scope["http_version"] = version
        scope["method"] = self.parser.get_method().decode("ascii")
        wants_other = self.parser.should_upgrade()
        self._is_handshake = wants_other and self._should_upgrade()
        self._declines = wants_other and not self._is_handshake and has_body(named)
        if not self._is_handshake:
            self._begin(scope, keep_alive=version != "1.0" and self.parser.should_keep_alive())
        self._place = "body"
        self._deadline = self._now + self._limits.body_seconds

    def _head_size(self) -> int:
        fields = sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        return len(self.url) + fields

    def _begin(self, scope: Scope, *, keep_alive: bool) -> None:
        """Let the app answer a request, once it has answered those before."""
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = target.path
        scope["query_string"] = target.query or b""
        before, self.cycle = (
            self.cycle,
            Cycle(
                scope,
                self.transport,
                self.flow,
                default_headers=self.server_state.default_headers,
                expects_continue=self.expect_100_continue,
                keep_alive=keep_alive,
                on_complete=self.on_response_complete,
            ),
        )
        if before is None or before.response_complete:
            if self._may_be_short(scope):
                self._answering = self._awaited = self.cycle
                self.cycle.hold = WHOLE_BYTES
            else:
                self._serve(self.cycle)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))  # type: ignore[arg-type]

    def _may_be_short(self, scope: Scope) -> bool:
        """Return whether a request is served where it is whole, and not before."""
        if self._shortcut is None or self.expect_100_continue:
            return False
        named = scope.get(NAMED)
        length = named.get(b"content-length") if named else None
        return length is not None and int(length) <= WHOLE_BYTES and self._shortcut.wants(scope)

    def _serve(self, cycle: Cycle) -> None:
        self._start_asgi_task(cycle, self.app)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """A piece of a body arrived."""
        self._unused_bytes = 0
        if self._is_handshake or self.cycle.response_complete:
            return  # nobody waits for the rest
        self._deadline = self._now + self._limits.body_seconds
        self.cycle.feed(body)

    def on_message_complete(self) -> None:
        """The request is complete; what its answer takes is not the client's fault."""
        if self._declines:
            return  # for llhttp only: its body is to come
        self._place = "between"
        self._unused_bytes = 0
        self._deadline = None
        if not self._is_handshake and not self.cycle.response_complete:
            self.cycle.end()
            self._is_whole = self._is_whole or self._awaited is self.cycle

    def _serve_awaited(self) -> None:
        """Serve the request that has become whole; in a task only where the shortcut will not.

        A client that has not taken what it asked for before is answered by a task, which waits for
        it: else answers would pile up for whoever goes on asking and never reads.
        """
        cycle, self._awaited, self._is_whole = self._awaited, None, False
        if self._shortcut is None or cycle is None or cycle.scope is None:
            return
        if self.transport.is_closing():
            cycle.let_go()
        elif self.flow.write_paused or not self._shortcut.begin(cycle.scope, cycle, self._serve):
            self._serve(cycle)

    def on_response_complete(self) -> None:
        """A request has been answered; the next one may already wait."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_until = time.monotonic() + self.timeout_keep_alive

    def resume_writing(self) -> None:
        """The client takes more again."""
        super().resume_writing()
        self._stalled_until = None
        if self._answering is not None and self._answering.passage is not None:
            self._answering.passage.writable()

    def hand_over(self) -> None:
        """Have what is served without a task go on in one."""
        if self._answering is not None and self._answering.passage is not None:
            self._answering.passage.hand_over()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, unless an earlier request on it is still being answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._refuse(400, "A WebSocket's handshake cannot follow a request that is running.")
        else:
            self._places.give_back(self._holder)  # the socket takes it
            super().handle_websocket_upgrade()

    def expire(self, now: float) -> None:
        """Close the connection if its client took too long.

        While reading is paused it is we who do not take what the client sends.
        """
        if self._answering is not None and self._answering.passage is not None:
            self._answering.passage.expire(now)
        if self._idle_until is not None and now >= self._idle_until:
            self.transport.close()
        self._expire_stalled(now)
        if self._deadline is None or now < self._deadline or self.flow.read_paused:
            return
        if self._place == "head":
            self._refuse(408, "The request's head did not arrive in time.")
        else:
            self.transport.close()

    def _expire_stalled(self, now: float) -> None:
        """Hang up on a client that takes nothing any more: it would be waited for without end."""
        if not self.flow.write_paused and not self.transport.is_closing():
            self._stalled_until = None
        elif self._stalled_until is None:
            self._stalled_until = now + STALLED_SECONDS
        elif now >= self._stalled_until:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, msg)

    @property
    def _is_crowded(self) -> bool:
        """Whether its address had too many connections when this one came."""
        return self._holder is None

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self._place == "between" and not self.is_answering

    @property
    def _is_answerable(self) -> bool:
        """Whether an answer sent now is the one to what is being received, and the only one."""
        if self.cycle is None:
            return True
        if self._place == "body":
            return self.cycle is self._answering and not self.cycle.response_started
        return self.cycle.response_complete

    def _expect_within(self, seconds: float) -> None:
        self._deadline = self._now + seconds

    def _refuse_size(self) -> None:
        maximum = self._limits.header_bytes
        self._refuse(431, f"The request's head is larger than {maximum} bytes.")

    def _refuse(self, status: int, message: str) -> None:
        """Answer below ASGI where that is possible, and close."""
        if self.transport.is_closing():
            return
        self._deadline = None
        if self._is_answerable:
            self.transport.write(self._refusal(status, message))
        self.transport.close()

    def _refusal(self, status: int, message: str) -> bytes:
        request_id = f"req_{secrets.token_hex(12)}"
        scope: Scope = {"path": "/", "headers": [], "state": {"request_id": request_id}}
        _, headers, body = self._render(InvalidRequest(message), scope)
        headers = [
            *headers,
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
            *SECURITY_HEADERS,
        ]
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}".encode()]
        lines += [name + b": " + value for name, value in headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body
