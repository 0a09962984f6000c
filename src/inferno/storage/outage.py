"""Telling once that the store is away, and once that it is back, instead of at every attempt."""

from __future__ import annotations

from typing import Any

from inferno.core.errors import Overloaded


class Outage:
    """Whether the store is away, as one of those who use it sees it.

    Args:
        log: what is told of it; a logger of structlog.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._is_away = False

    def explains(self, error: Exception) -> bool:
        """Return whether an error is an outage, and tell of it where it has just begun.

        Args:
            error: of a call to the store; others than outages are the caller's to tell of.
        """
        if not isinstance(error, Overloaded):  # what a store that cannot be reached raises
            return False
        if not self._is_away:
            self._log.warning("store_away", error=error.message)
        self._is_away = True
        return True

    def over(self) -> None:
        """Note that the store has answered."""
        if self._is_away:
            self._log.info("store_back")
        self._is_away = False
