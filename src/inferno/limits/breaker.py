"""A circuit breaker: what does not answer is not asked again by every request.

It measures with a clock that never goes back and does no input or output itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 3
"""Failures in a row after which it breaks; a single late answer is no outage."""

PAUSE = 1.0
"""Seconds between two attempts while it is broken: how late a recovery is noticed."""


class Breaker:
    """Says whether to try.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._next_attempt = 0.0

    @property
    def is_broken(self) -> bool:
        """Whether only one attempt in `PAUSE` seconds is made."""
        return self._failures >= PATIENCE

    def may_try(self) -> bool:
        """Return whether the caller is to try; while it is broken, one caller is at a time."""
        if not self.is_broken:
            return True
        if self._clock() < self._next_attempt:
            return False
        self._next_attempt = self._clock() + PAUSE
        return True

    def failed(self) -> None:
        """Take note of a failure."""
        self._failures += 1
        self._next_attempt = self._clock() + PAUSE

    def succeeded(self) -> bool:
        """Take note of an answer; return whether it ends an outage."""
        was_broken = self.is_broken
        self._failures = 0
        return was_broken
