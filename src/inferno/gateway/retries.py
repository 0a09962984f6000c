"""A budget for retries: failures must not multiply the load that causes them."""

from __future__ import annotations

RATIO = 0.2
"""Retries for each request, in the long run."""

RESERVE = 100.0
"""Retries that may be saved up."""


class RetryBudget:
    """Lets so many requests be sent once more.

    Each request puts a share of a retry aside, up to a reserve; each retry takes a whole one.

    Args:
        ratio: what a request puts aside.
        reserve: what can be saved up; there at the beginning.
    """

    __slots__ = ("_left", "_ratio", "_reserve")

    def __init__(self, ratio: float = RATIO, reserve: float = RESERVE) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        """Count a request."""
        if self._left < self._reserve:
            self._left = min(self._reserve, self._left + self._ratio)

    def spend(self) -> bool:
        """Return whether a request may be sent once more, and count that."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
