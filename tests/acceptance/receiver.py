"""A receiver of webhooks: a real HTTP server that keeps what it is sent, and answers as told."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Received:
    """One request.

    Args:
        path: with its query.
        headers: by lower-case name.
        body: the bytes.
    """

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The delivery's id."""
        return self.headers["webhook-id"]

    def verified(self, key: str | bytes) -> dict[str, Any]:
        """Return the content, once the Standard Webhooks library has found it genuine."""
        content: dict[str, Any] = Webhook(key).verify(self.body, self.headers)
        return content

    def check_seed_signature(self, secret: str) -> None:
        """Check seed 001's signature as the guide tells receivers to."""
        signed, _, rest = self.body.rpartition(b',"signature":"')
        assert rest.endswith(b'"}')
        digest = hmac.new(secret.encode(), signed + b"}", hashlib.sha256).hexdigest()
        assert hmac.compare_digest(rest[:-2], f"sha256={digest}".encode())
        # What a receiver gets that parses, removes the member and writes compactly again.
        content = json.loads(self.body)
        del content["signature"]
        again = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        assert again == signed + b"}"


Respond = Callable[[BaseHTTPRequestHandler, Received], None]


def answer(status: int, **headers: str) -> Respond:
    """Return what answers with a status."""

    def respond(handler: BaseHTTPRequestHandler, _: Received) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", "0")
        handler.end_headers()

    return respond


class Receiver:
    """An HTTP server on loopback.

    Args:
        respond: answers requests; may be changed while it serves.
        tls: serves HTTPS.
        host: address to listen on.
    """

    def __init__(
        self,
        respond: Respond | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.respond = respond or answer(204)
        self.received: list[Received] = []
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Received(self.path, headers, body)
                receiver.received.append(request)
                receiver.respond(self, request)

            do_GET = do_POST  # noqa: N815 - the base class names it

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def handle_error(self, *_: object) -> None:
                """Clients that leave early are what some tests are about."""

        self._server = Server((host, port), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._scheme = "https" if tls else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        """Return its address."""
        return f"{self._scheme}://{host}:{self.port}{path}"

    def wait(self, count: int = 1, seconds: float = 20.0) -> list[Received]:
        """Return what was received, once that is so many requests."""
        deadline = time.monotonic() + seconds
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} of {count} came"
            time.sleep(0.02)
        return list(self.received)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
