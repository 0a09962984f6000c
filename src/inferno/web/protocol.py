"""HTTP/1.1 as uvicorn speaks it, with limits on what a connection may cost before it is a request.

uvicorn bounds neither the size of a request's head nor the time that a client may take to send it.
Here both are bounded, as is the time between two pieces of a body, and what is refused at this
level gets the API's own envelope too.
"""

from __future__ import annotations

import asyncio
import http
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inferno.core.errors import InfernoError, InvalidRequest
from inferno.web.exchange import Header

Render = Callable[[InfernoError, Scope], tuple[int, list[Header], bytes]]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a client may take before it has sent a request.

    Args:
        header_bytes: size of a request's head.
        header_seconds: from the connection, or the head's first byte, to its last.
        body_seconds: between two pieces of a body.
    """

    header_bytes: int = 64 * 1024
    header_seconds: float = 10.0
    body_seconds: float = 30.0


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
        self._head_bytes = 0
        self._deadline: float | None = None
        self._in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected; its request is expected soon."""
        super().connection_made(transport)
        self._deadline = time.monotonic() + self._limits.header_seconds

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self._limits.header_bytes:
            self._refuse(
                431,
                f"The request's head is larger than {self._limits.header_bytes} bytes.",
            )

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._deadline = time.monotonic() + self._limits.header_seconds

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._in_head = False
        self._deadline = time.monotonic() + self._limits.body_seconds
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body arrived."""
        self._deadline = time.monotonic() + self._limits.body_seconds
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete; what its answer takes is not the client's fault."""
        self._head_bytes = 0
        self._deadline = None
        super().on_message_complete()

    def expire(self, now: float) -> None:
        """Close the connection if its client took too long.

        While reading is paused it is we who do not take what the client sends.
        """
        if self._deadline is None or now < self._deadline or self.flow.read_paused:
            return
        if self._in_head:
            self._refuse(408, "The request's head did not arrive in time.")
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, msg)

    def _refuse(self, status: int, message: str) -> None:
        """Answer below ASGI, and close."""
        if self.transport.is_closing():
            return
        request_id = f"req_{secrets.token_hex(12)}"
        scope: Scope = {"path": "/", "headers": [], "state": {"request_id": request_id}}
        _, headers, body = self._render(InvalidRequest(message), scope)
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}".encode()]
        lines += [name + b": " + value for name, value in headers]
        lines += [
            b"content-length: %d" % len(body),
            b"x-request-id: " + request_id.encode(),
            b"connection: close",
        ]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()
        self._deadline = None
