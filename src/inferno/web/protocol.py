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
from dataclasses import dataclass
from typing import Any, Literal

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inferno.core.errors import InvalidRequest
from inferno.web.door import SECURITY_HEADERS, Render


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


class Malformed(Exception):
    """A request was refused while it was parsed; no more of it is read."""


class GuardedProtocol(HttpToolsProtocol):
    """A connection with limits. Its owner calls `expire` about once a second.

    Args:
        limits: what the client may take.
        render: the API's error envelope.
        options: uvicorn's own.
    """

    def __init__(self, *, limits: ConnectionLimits, render: Render, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._render = render
        self._place: Literal["between", "head", "body"] = "between"
        self._head_bytes = 0
        self._unused_bytes = 0  # received since the last head, piece of a body, or request
        self._deadline: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected; its request is expected soon."""
        super().connection_made(transport)
        self._expect_within(self._limits.header_seconds)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self._unused_bytes += len(data)
        super().data_received(data)
        if self._unused_bytes > self._limits.header_bytes:
            self._refuse_size()
        elif self._deadline is None and self._is_idle:
            # Empty lines before a request are not the request yet.
            self._expect_within(self._limits.header_seconds)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._place = "head"
        self._head_bytes = 0
        self._expect_within(self._limits.header_seconds)

    def on_url(self, url: bytes) -> None:
        """A piece of the target arrived."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field arrived; those behind the body are none of the head's (RFC 9110, 6.5.1)."""
        if self._place == "head":
            self._head_bytes += len(name) + len(value) + len(": \r\n")
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._unused_bytes = 0
        if self._head_bytes > self._limits.header_bytes:
            self._refuse_size()
            raise Malformed
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            self._refuse(400, "A request has to have one Host header.")
            raise Malformed
        super().on_headers_complete()
        self._place = "body"
        self._expect_within(self._limits.body_seconds)

    def on_body(self, body: bytes) -> None:
        """A piece of a body arrived."""
        self._unused_bytes = 0
        if not self.cycle.response_complete:  # else nobody waits for the rest
            self._expect_within(self._limits.body_seconds)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete; what its answer takes is not the client's fault."""
        self._place = "between"
        self._unused_bytes = 0
        self._deadline = None
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, unless an earlier request on it is still being answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._refuse(400, "A WebSocket's handshake cannot follow a request that is running.")
        else:
            super().handle_websocket_upgrade()

    def expire(self, now: float) -> None:
        """Close the connection if its client took too long.

        While reading is paused it is we who do not take what the client sends.
        """
        if self._deadline is None or now < self._deadline or self.flow.read_paused:
            return
        if self._place == "head":
            self._refuse(408, "The request's head did not arrive in time.")
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, msg)

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
        if self._place == "body":
            return not self.cycle.response_started
        return self.cycle is None or bool(self.cycle.response_complete)

    def _expect_within(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

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
