"""A batch that this process works on: what is at hand, in flight, to come back, and done."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from inferno.batches.types import Batch, Item, Status

PAGE = 32
"""Requests that are read from the database at once."""

HELD_MOST = 1024
HELD_BYTES = 16 * 2**20
"""What may be at hand of a batch: requests for models that are there are looked for behind those
for models that are not, as far as this reaches."""

Admits = Callable[[str], bool]
"""Whether a request for a model may be sent now."""


@dataclass(slots=True)
class Gate:
    """How a batch fares with one model.

    Args:
        strikes: how often in a row nothing could take a request.
        paused_until: monotonic time before which nothing is sent.
    """

    strikes: int = 0
    paused_until: float = 0.0


@dataclass(slots=True, eq=False)
class Work:
    """A batch with a lease.

    Args:
        batch: as it was when it was claimed.
        cursor: the last place in the input that was read.
        exhausted: whether the input was read to its end.
        ready: requests at hand, by their models, in the order of the input.
        bytes_ready: what these take.
        returned: requests that wait to be tried again: (time, number, request).
        tries: how often requests in memory have been tried.
        in_flight: requests that are being answered.
        recalled: numbers of those that are called back, to be sent again.
        unsaved: answers that are not in the database yet.
        gates: how it fares with its models.
        ending: what it becomes once nothing is in flight, where that is not `completed`.
        chore: validates the input or ends the batch.
    """

    batch: Batch
    cursor: int = -1
    exhausted: bool = False
    ready: dict[str, deque[Item]] = field(default_factory=dict)
    bytes_ready: int = 0
    returned: list[tuple[float, int, Item]] = field(default_factory=list)
    tries: dict[int, int] = field(default_factory=dict)
    in_flight: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    recalled: set[int] = field(default_factory=set)
    unsaved: int = 0
    gates: dict[str, Gate] = field(default_factory=dict)
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

    def needs_input(self, admits: Admits) -> bool:
        """Return whether more requests should be read."""
        if self.exhausted or not self.is_open or len(self.returned) >= PAGE:
            return False
        held = sum(map(len, self.ready.values()))
        if held >= HELD_MOST or self.bytes_ready >= HELD_BYTES:
            return False
        return sum(len(of) for model, of in self.ready.items() if admits(model)) < PAGE // 2

    def add(self, page: Iterable[Item]) -> None:
        """Take in requests that were read, in their order."""
        for item in page:
            self.ready.setdefault(item.model, deque()).append(item)
            self.bytes_ready += len(item.body)

    def gate(self, model: str) -> Gate:
        """Return how it fares with a model."""
        return self.gates.setdefault(model, Gate())

    def due(self, now: float, admits: Admits) -> bool:
        """Return whether a request can be sent now."""
        if not self.is_open:
            return False
        self._come_back(now)
        return any(self._may(model, now) and admits(model) for model in self.ready)

    def _may(self, model: str, now: float) -> bool:
        gate = self.gates.get(model)
        return gate is None or now >= gate.paused_until

    def _come_back(self, now: float) -> None:
        """Put what has waited for long enough at hand again, before what was read since."""
        while self.returned and self.returned[0][0] <= now:
            item = heapq.heappop(self.returned)[2]
            self.ready.setdefault(item.model, deque()).appendleft(item)
            self.bytes_ready += len(item.body)

    def next_due(self) -> float | None:
        """Return the monotonic time when something can be sent that cannot be now, if any."""
        if not self.is_open:
            return None
        times = [self.gates[model].paused_until for model in self.ready if model in self.gates]
        if self.returned:
            first, _, item = self.returned[0]
            times.append(max(first, self.gate(item.model).paused_until))
        later = [when for when in times if when]
        return min(later, default=None)

    def take(self, now: float, admits: Admits) -> Item:
        """Return the next request to send; only where one is due."""
        models = [one for one in self.ready if self._may(one, now) and admits(one)]
        model = min(models, key=lambda one: self.ready[one][0].number)
        item = self.ready[model].popleft()
        if not self.ready[model]:
            del self.ready[model]
        self.bytes_ready -= len(item.body)
        return item

    def give_back(self, item: Item, seconds: float) -> None:
        """Have a request tried again after some time."""
        heapq.heappush(self.returned, (time.monotonic() + seconds, item.number, item))

    def recall(self, number: int) -> None:
        """Call back a request that is in flight; it is sent again later."""
        if number in self.in_flight and number not in self.recalled:
            self.recalled.add(number)
            self.in_flight[number].cancel()

    def cut(self) -> None:
        """Stop answering: what is in flight is cancelled, what waits is dropped."""
        self.ready.clear()
        self.bytes_ready = 0
        self.returned.clear()
        for task in self.in_flight.values():
            task.cancel()
