"""Endpoints: which replicas can answer for a model, and who waits for them.

One `Line` per model: ready replicas with room are handed out at once, least loaded first; else
requests wait in order, up to a bound. Waiting for a busy replica and waiting for a model that is
still loading are the same wait. Nothing here does I/O.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from inferno.core.errors import InfernoError, Overloaded
from inferno.gateway.upstream import Address


@dataclass(slots=True, eq=False)
class Endpoint:
    """A ready replica.

    Args:
        name: the pod's name.
        model: the model it answers for, by name.
        address: where it listens.
        authorization: the header value that opens it.
        capacity: requests that it is given at once.
        context_size: tokens that one request can hold.
        capabilities: what its engine can do with the model.
        in_flight: requests that it works on now.
        suspect_until: monotonic time before which it is passed over, after a failed connection.
    """

    name: str
    model: str
    address: Address
    authorization: bytes
    capacity: int
    context_size: int
    capabilities: frozenset[str]
    in_flight: int = 0
    suspect_until: float = 0.0

    @property
    def has_room(self) -> bool:
        """Whether it takes another request."""
        return self.in_flight < self.capacity


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

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """How many requests replicas work on."""
        return sum(endpoint.in_flight for endpoint in self.endpoints.values())

    @property
    def busy(self) -> bool:
        """Whether anybody works on or waits for this model."""
        return bool(self._waiting) or self.in_flight > 0

    def touch(self) -> None:
        """Note that the model is used now."""
        self.last_used = time.monotonic()

    async def acquire(self) -> Endpoint:
        """Return an endpoint with one of its places taken; give it back with `release`.

        Raises:
            Overloaded: too many requests wait already.
            InfernoError: what `fail` was called with meanwhile.
        """
        self.touch()
        if not self._waiting and (endpoint := self._pick()) is not None:
            endpoint.in_flight += 1
            return endpoint
        if len(self._waiting) >= self.max_waiting:
            raise Overloaded(
                f"{self.max_waiting} requests are waiting for model '{self.model}' already.",
                waiting=len(self._waiting),
            )
        place: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            self._give_up(place)
            raise

    def _give_up(self, place: asyncio.Future[Endpoint]) -> None:
        """Leave the line; an endpoint that was handed over in the same instant goes back."""
        if place.done() and not place.cancelled() and place.exception() is None:
            self.release(place.result())
        elif place in self._waiting:
            self._waiting.remove(place)

    def release(self, endpoint: Endpoint) -> None:
        """Give a place back; the longest waiting request gets it."""
        endpoint.in_flight -= 1
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
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_exception(error())

    def serve_waiting(self) -> None:
        """Hand free places to waiting requests, in order."""
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            endpoint = self._pick()
            if endpoint is None:
                return
            endpoint.in_flight += 1
            self._waiting.popleft().set_result(endpoint)

    def _pick(self) -> Endpoint | None:
        """Return the least loaded endpoint that has room and is not suspect."""
        best: Endpoint | None = None
        for endpoint in self.endpoints.values():
            if not endpoint.has_room or endpoint.suspect_until > time.monotonic():
                continue
            if best is None or endpoint.in_flight < best.in_flight:
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
