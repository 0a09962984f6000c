"""The bell between those who hand in batches and the runner that works on them."""

from __future__ import annotations

import asyncio
import contextlib


class Bell:
    """Wakes the runner, and tells it when the platform is to stop."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self.look = True
        self.draining = False

    def ring(self) -> None:
        """Say that there is something new in the database."""
        self.look = True
        self._rung.set()

    def nudge(self) -> None:
        """Say that something in memory has changed."""
        self._rung.set()

    def drain(self) -> None:
        """Say that no more requests are to be sent."""
        self.draining = True
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, or for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        self._rung.clear()
