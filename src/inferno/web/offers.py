"""Requests that offer to go on in another protocol, which nobody has to accept (RFC 9110, 7.8).

Java's own HTTP client offers HTTP/2 (`Upgrade: h2c`) with each first request in the clear. llhttp
takes whatever follows the head of such a request for the other protocol's, its body too. So the
body is read by another parser, which is told of nothing but how long it is, and goes on with what
follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import httptools

FRAMING = frozenset({b"content-length", b"transfer-encoding"})
"""What says where a body ends (RFC 9112, 6)."""


class Callbacks(Protocol):
    """What a parser tells of a request."""

    def on_message_begin(self) -> None:
        """A request begins."""

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field."""

    def on_headers_complete(self) -> None:
        """The head is complete."""

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""

    def on_message_complete(self) -> None:
        """The request is complete."""


def has_body(named: Mapping[bytes, bytes]) -> bool:
    """Return whether a request with such fields has a body."""
    return b"transfer-encoding" in named or named.get(b"content-length", b"0").strip(b"0") != b""


def behind(headers: Iterable[tuple[bytes, bytes]], told: Callbacks) -> httptools.HttpRequestParser:
    """Return a parser for what follows the head of a request.

    Args:
        headers: of that request, as another parser has found them to be right.
        told: of the body, and of the requests behind it.
    """
    parser = httptools.HttpRequestParser(_FirstHeadUntold(told))
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own parser
    framing = (b"%b: %b\r\n" % one for one in headers if one[0] in FRAMING)
    parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing))
    return parser


class _FirstHeadUntold:
    """Callbacks that leave out the first head, which is made up."""

    def __init__(self, told: Callbacks) -> None:
        self._told = told
        self._is_behind = False
        self.on_body = told.on_body
        self.on_message_complete = told.on_message_complete

    def on_message_begin(self) -> None:
        if self._is_behind:
            self._told.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._is_behind:
            self._told.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_behind:
            self._told.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_behind:
            self._told.on_headers_complete()
        self._is_behind = True
