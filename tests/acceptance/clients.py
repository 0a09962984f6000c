"""Clients that behave badly: they leave early, or do not read."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.acceptance.platform import Platform

STREAM = {"stream": True, "ignore_eos": True, "temperature": 0}


class Connection:
    """A connection of a client's own, on which one request was sent; closing it is leaving.

    Args:
        platform: what to ask.
        path: of the operation.
        body: JSON.
        receive_buffer: bytes that the kernel may hold for a client that does not read.
    """

    def __init__(
        self, platform: Platform, path: str, body: Any, *, receive_buffer: int | None = None
    ) -> None:
        address = urlsplit(platform.url)
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer {platform.api_key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect((address.hostname, address.port))
        self.socket.sendall(head.encode() + content)
        self.received = b""

    def read_until(self, wanted: bytes, *, times: int = 1) -> bytes:
        """Read until something was received so often, and return all that was received so far."""
        while self.received.count(wanted) < times:
            part = self.socket.recv(65536)
            if not part:
                raise AssertionError(f"the answer ended without {wanted!r}: {self.shown}")
            self.received += part
        return self.received

    def read_all(self) -> str:
        """Read to the end of a stream, and return all that was received."""
        return self.read_until(b"\r\n0\r\n\r\n").decode()

    @property
    def shown(self) -> str:
        """The end of what was received, for people."""
        return self.received[-500:].decode("utf-8", "replace")

    def leave(self) -> None:
        """Go away, whatever is still to come."""
        self.socket.close()


@contextmanager
def connections(
    platform: Platform, path: str, bodies: Sequence[Any], **options: Any
) -> Iterator[list[Connection]]:
    """Open a connection for each request; those that have not left leave at the end."""
    with ExitStack() as stack:
        opened = [Connection(platform, path, body, **options) for body in bodies]
        for one in opened:
            stack.callback(one.leave)
        yield opened


def events_of(text: str) -> list[Any]:
    """Return the JSON values of an event stream; `[DONE]` as it is."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in data]
