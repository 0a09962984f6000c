"""A queue of keys in which no key waits twice, with a growing pause for keys that fail."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys to work on, first in, first out. For one event loop.

    Args:
        first_delay: seconds before a key that failed once comes back; doubles with each failure.
        max_delay: the longest pause, in seconds.
    """

    def __init__(self, *, first_delay: float = 0.1, max_delay: float = 60.0) -> None:
        self._first_delay = first_delay
        self._max_delay = max_delay
        self._waiting: OrderedDict[K, None] = OrderedDict()
        self._has_work = asyncio.Event()
        self._failures: dict[K, int] = {}
        self._delayed: dict[K, asyncio.TimerHandle] = {}

    def add(self, key: K) -> None:
        """Have the key worked on soon; once, however often it is added meanwhile."""
        if timer := self._delayed.pop(key, None):
            timer.cancel()
        self._waiting[key] = None
        self._has_work.set()

    async def take(self) -> K:
        """Wait for a key and remove it."""
        while not self._waiting:
            self._has_work.clear()
            await self._has_work.wait()
        key, _ = self._waiting.popitem(last=False)
        return key

    def retry(self, key: K) -> float:
        """Bring the key back after a pause, which is returned in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._first_delay * 2.0 ** min(failures, 32), self._max_delay)
        if key not in self._waiting and key not in self._delayed:
            loop = asyncio.get_running_loop()
            self._delayed[key] = loop.call_later(delay, self.add, key)
        return delay

    def forget(self, key: K) -> None:
        """Note that the key was worked on without failure."""
        self._failures.pop(key, None)

    def close(self) -> None:
        """Drop all timers."""
        for timer in self._delayed.values():
            timer.cancel()
        self._delayed.clear()
