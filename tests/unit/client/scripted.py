"""A server that answers as a test says, to see what the client does about it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer.

    Args:
        status: of the answer; 0 closes the connection without one.
        body: JSON, or bytes as they are.
        headers: more of them.
        announced: length that the head gives; that of the body where not given.
    """

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None


@dataclass
class Heard:
    """What the server was sent."""

    url: str
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.requests]


@contextmanager
def scripted(replies: Sequence[Reply]) -> Iterator[Heard]:
    """Serve the replies one after the other; the last one for ever."""
    waiting = list(replies)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            with lock:
                sent = {name.lower(): value for name, value in self.headers.items()}
                heard.requests.append((self.command, self.path, sent, body))
                reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if reply.status == 0:
                self.close_connection = True
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body)
            content = content if isinstance(content, bytes) else content.encode()
            length = len(content) if reply.announced is None else reply.announced
            self.send_response(reply.status)
            headers = {"content-type": "application/json", **reply.headers}
            for name, value in {**headers, "content-length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = length != len(content)

        do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    heard = Heard(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
