"""A batch that this process works on: what is at hand, in flight, to come back, and done."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from dataclasses import dataclass, field

from inferno.batches.types import Batch, Item, Status

PAGE = 32
"""Requests that are read from the database at once."""


@dataclass(slots=True, eq=False)
class Work:
    """A batch with a lease.

    Args:
        batch: as it was when it was claimed.
        cursor: the last place in the input that was read.
        exhausted: whether the input was read to its end.
        ready: requests at hand.
        returned: requests that wait to be tried again: (time, number, request).
        tries: how often requests in memory have been tried.
        in_flight: requests that are being answered.
        unsaved: answers that are not in the database yet.
        strikes: how often in a row nothing could take a request.
        paused_until: monotonic time before which nothing is sent.
        ending: what it becomes once nothing is in flight, where that is not `completed`.
        chore: validates the input or ends the batch.
    """

    batch: Batch
    cursor: int = -1
    exhausted: bool = False
    ready: deque[Item] = field(default_factory=deque)
    returned: list[tuple[float, int, Item]] = field(default_factory=list)
    tries: dict[int, int] = field(default_factory=dict)
    in_flight: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    unsaved: int = 0
    strikes: int = 0
    paused_until: float = 0.0
    ending: Status | None = None
    chore: asyncio.Task[None] | None = None

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.batch.tenant

    @property
    def running(self) -> int:
        """How many of its requests are being answered."""
        return len(self.in_flight)

    @property
    def needs_input(self) -> bool:
        """Whether more requests should be read."""
        few = len(self.ready) < PAGE // 2 and len(self.returned) < PAGE
        return few and not self.exhausted and self.is_open

    @property
    def is_open(self) -> bool:
        """Whether requests of it may be sent."""
        return (
            self.batch.status is Status.IN_PROGRESS and self.ending is None and self.chore is None
        )

    @property
    def is_through(self) -> bool:
        """Whether nothing of it is left to answer or to write."""
        if self.in_flight or self.unsaved or self.chore is not None:
            return False
        if self.ending is not None or self.batch.status is Status.FINALIZING:
            return True
        return self.is_open and self.exhausted and not self.ready and not self.returned

    def due(self, now: float) -> bool:
        """Return whether a request can be sent now."""
        if not self.is_open or now < self.paused_until:
            return False
        return bool(self.ready) or bool(self.returned and self.returned[0][0] <= now)

    def next_due(self) -> float | None:
        """Return the monotonic time when a request that waits may be tried again."""
        if not self.is_open or not (self.ready or self.returned):
            return None
        first = 0.0 if self.ready else self.returned[0][0]
        return max(first, self.paused_until)

    def take(self, now: float) -> Item:
        """Return the next request to send; only where one is due."""
        if self.returned and self.returned[0][0] <= now:
            return heapq.heappop(self.returned)[2]
        return self.ready.popleft()

    def give_back(self, item: Item, seconds: float) -> None:
        """Have a request tried again after some time."""
        heapq.heappush(self.returned, (time.monotonic() + seconds, item.number, item))

    def cut(self) -> None:
        """Stop answering: what is in flight is cancelled, what waits is dropped."""
        self.ready.clear()
        self.returned.clear()
        for task in self.in_flight.values():
            task.cancel()
