"""Endpoints: which replicas can answer for a model, and who waits for them.

One `Line` per model: ready replicas with room are handed out at once, least loaded first; else
requests wait in order, up to a bound. Waiting for a busy replica and waiting for a model that is
still loading are the same wait. Nothing here does I/O.

Background work (batches) stands behind everybody: it waits in a line of its own, takes only places
in which the engine would idle, and gives way when somebody else needs one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from inferno.core.errors import InfernoError, Overloaded
from inferno.gateway.upstream import Address

GiveWay = Callable[[], None]
"""Called once on background work whose place is needed; it has to stop soon."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """A ready replica.

    Args:
        name: the pod's name.
        model: the model it answers for, by name.
        address: where it listens.
        authorization: the header value that opens it.
        capacity: requests that it is given at once.
        slots: requests that its engine works on at once; the rest wait inside it.
        context_size: tokens that one request can hold.
        capabilities: what its engine can do with the model.
        in_flight: requests that it works on now.
        background: how to end those of them that are background work, the oldest first.
        suspect_until: monotonic time before which it is passed over, after a failed connection.
    """

    name: str
    model: str
    address: Address
    authorization: bytes
    capacity: int
    slots: int
    context_size: int
    capabilities: frozenset[str]
    in_flight: int = 0
    background: list[GiveWay] = field(default_factory=list)
    suspect_until: float = 0.0

    @property
    def has_room(self) -> bool:
        """Whether it takes another request."""
        return self.in_flight < self.capacity

    @property
    def idles(self) -> bool:
        """Whether its engine would idle in part without another request."""
        return self.in_flight < self.slots

    @property
    def load(self) -> int:
        """Requests that another one would have to share it with: background work gives way."""
        return self.in_flight - len(self.background)

    def take(self, give_way: GiveWay | None) -> None:
        """Take a place. Whoever is no background work has one of that give way, if it must."""
        self.in_flight += 1
        if give_way is not None:
            self.background.append(give_way)
        elif self.in_flight > self.slots and self.background:
            self.background.pop()()

    def give_back(self, give_way: GiveWay | None) -> None:
        """Give a place back."""
        self.in_flight -= 1
        if give_way in self.background:
            self.background.remove(give_way)


@dataclass(slots=True)
class Line:
    """The endpoints of one model and the requests that wait for one.

    Args:
        model: the model's name.
        max_waiting: requests that may wait; one more is refused.
    """

    model: str
    max_waiting: int
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    last_used: float = field(default_factory=time.monotonic)
    _waiting: deque[asyncio.Future[Endpoint]] = field(default_factory=deque)
    _behind: deque[tuple[asyncio.Future[Endpoint], GiveWay]] = field(default_factory=deque)

    @property
    def waiting(self) -> int:
        """How many requests wait; background work is not counted."""
        return len(self._waiting)

    @property
    def background_waiting(self) -> int:
        """How much background work waits."""
        return len(self._behind)

    @property
    def in_flight(self) -> int:
        """How many requests replicas work on."""
        return sum(endpoint.in_flight for endpoint in self.endpoints.values())

    @property
    def busy(self) -> bool:
        """Whether anybody works on or waits for this model."""
        return bool(self._waiting or self._behind) or self.in_flight > 0

    def touch(self) -> None:
        """Note that the model is used now."""
        self.last_used = time.monotonic()

    async def acquire(self, give_way: GiveWay | None = None) -> Endpoint:
        """Return an endpoint with one of its places taken; give it back with `release`.

        Args:
            give_way: what makes it background work.

        Raises:
            Overloaded: too many requests wait already.
            InfernoError: what `fail` was called with meanwhile.
        """
        self.touch()
        if not self._waiting and (endpoint := self._pick(give_way)) is not None:
            endpoint.take(give_way)
            return endpoint
        if give_way is None and len(self._waiting) >= self.max_waiting:
            raise Overloaded(
                f"{self.max_waiting} requests are waiting for model '{self.model}' already.",
                waiting=len(self._waiting),
            )
        place: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        if give_way is None:
            self._waiting.append(place)
        else:
            self._behind.append((place, give_way))
        try:
            return await place
        except asyncio.CancelledError:
            self._give_up(place, give_way)
            raise

    def _give_up(self, place: asyncio.Future[Endpoint], give_way: GiveWay | None) -> None:
        """Leave the line; an endpoint that was handed over in the same instant goes back."""
        if place.done() and not place.cancelled() and place.exception() is None:
            self.release(place.result(), give_way)
        elif place in self._waiting:
            self._waiting.remove(place)
        elif give_way is not None and (place, give_way) in self._behind:
            self._behind.remove((place, give_way))

    def release(self, endpoint: Endpoint, give_way: GiveWay | None = None) -> None:
        """Give a place back; the longest waiting request gets it."""
        endpoint.give_back(give_way)
        self.touch()
        self.serve_waiting()

    def add(self, endpoint: Endpoint) -> None:
        """Put a ready replica to use; from now on the model can be idle."""
        self.touch()
        self.endpoints[endpoint.name] = endpoint
        self.serve_waiting()

    def remove(self, name: str) -> None:
        """Give a replica no more requests; those it works on go on."""
        self.endpoints.pop(name, None)

    def suspect(self, endpoint: Endpoint, seconds: float) -> None:
        """Pass over a replica that did not answer, for a while."""
        endpoint.suspect_until = time.monotonic() + seconds
        asyncio.get_running_loop().call_later(seconds, self.serve_waiting)

    def fail(self, error: Callable[[], InfernoError]) -> None:
        """Refuse all that wait; each gets an error of its own."""
        waiting = [*self._waiting, *(place for place, _ in self._behind)]
        self._waiting.clear()
        self._behind.clear()
        for place in waiting:
            if not place.done():
                place.set_exception(error())

    def serve_waiting(self) -> None:
        """Hand free places to waiting requests, in order; then idle ones to background work."""
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            endpoint = self._pick(None)
            if endpoint is None:
                return
            endpoint.take(None)
            self._waiting.popleft().set_result(endpoint)
        while self._behind:
            place, give_way = self._behind[0]
            endpoint = None if place.done() else self._pick(give_way)
            if endpoint is None and not place.done():
                return
            self._behind.popleft()
            if endpoint is not None:
                endpoint.take(give_way)
                place.set_result(endpoint)

    def _pick(self, give_way: GiveWay | None) -> Endpoint | None:
        """Return the least loaded endpoint that has room for such work and is not suspect."""
        best: Endpoint | None = None
        for endpoint in self.endpoints.values():
            fits = endpoint.has_room if give_way is None else endpoint.idles
            if not fits or endpoint.suspect_until > time.monotonic():
                continue
            if best is None or endpoint.load < best.load:
                best = endpoint
        return best


class EndpointTable:
    """The lines of all models.

    Args:
        max_waiting: requests that may wait for one model.
    """

    def __init__(self, *, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._lines: dict[str, Line] = {}

    def line(self, model: str) -> Line:
        """Return the line of a known model, made when it is first asked for."""
        line = self._lines.get(model)
        if line is None:
            line = self._lines[model] = Line(model, self._max_waiting)
        return line

    def drop(self, model: str, error: Callable[[], InfernoError]) -> None:
        """Forget a model that is gone; those who wait for it are refused."""
        line = self._lines.pop(model, None)
        if line is not None:
            line.fail(error)

    def lines(self) -> list[Line]:
        """Return all lines."""
        return list(self._lines.values())
