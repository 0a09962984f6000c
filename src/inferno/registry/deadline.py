"""How long a query may take, and when it lets others go first."""

from __future__ import annotations

import asyncio
import time

from inferno.core.errors import DeadlineExceeded

SECONDS = 30.0
"""How long one query may take."""

SLICE = 0.01
"""Seconds of work after which others have their turn."""


class Deadline:
    """The end of the time that a query has; begins now."""

    def __init__(self) -> None:
        self._paused = time.monotonic()
        self._end = self._paused + SECONDS

    async def breathe(self) -> None:
        """Let others be served, if it is time for that. Raises DeadlineExceeded."""
        if time.monotonic() - self._paused > SLICE:
            await self.pause()

    async def pause(self) -> None:
        """Let others be served. Raises DeadlineExceeded."""
        if time.monotonic() > self._end:
            raise DeadlineExceeded(
                f"The query took longer than {SECONDS:g} s; narrow it down by equality, or page "
                "through it."
            )
        await asyncio.sleep(0)
        self._paused = time.monotonic()
