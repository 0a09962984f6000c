"""Requests that come back to the gateway which sent them, known by `Via` (RFC 9110, 7.6.3).

A pool may have the platform itself among its servers, or two platforms each other: found in a
registry, say. Without this a request would go round until its time is over.
"""

from __future__ import annotations

import secrets

from inferno.core.errors import LoopDetected

VIA = b"via"


class Loops:
    """Marks what is sent to servers, and knows it when it comes back.

    Attributes:
        header: what a request is marked with that came through no other gateway.
    """

    def __init__(self) -> None:
        self._name = f"inferno-{secrets.token_hex(8)}"
        self._mark = f"1.1 {self._name}"
        self.header = (VIA, self._mark.encode("ascii"))

    def check(self, via: str) -> None:
        """Refuse a request that has been here before.

        Args:
            via: its `Via`, lines joined by commas; empty where it has none.

        Raises:
            LoopDetected: it has.
        """
        if self._name in via:
            raise LoopDetected

    def header_behind(self, via: str) -> tuple[bytes, bytes]:
        """Return the `Via` of a request that came here with one."""
        return (VIA, f"{via}, {self._mark}".encode("ascii")) if via else self.header
