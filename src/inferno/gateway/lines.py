"""Lines: who waits for the endpoints of a model or a pool, and who is next.

A request that finds room is handed an endpoint at once; else it waits. The most important are
served first, strictly; among equals, flows (tenants) take turns, and within a flow the first come
is the first served. Under pressure what matters least goes first: what may be shed is refused as
soon as there is no room, and one who matters more takes the place of the last of those who matter
less where the line is full. Waiting for a busy endpoint and waiting for a model that is still
loading are the same wait. Nothing here does I/O.

Background work (batches) stands behind everybody: it takes only places in which an engine would
idle, and gives way when somebody else needs one.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from inferno.core.errors import InfernoError, Overloaded, QuotaExceeded, Shed
from inferno.gateway.endpoints import Endpoint, GiveWay
from inferno.gateway.picking import BACKGROUND, Picker, Want, unread_bytes

Place = asyncio.Future[Endpoint]


class Waiting:
    """Those who wait, in bands by priority and flows within a band."""

    def __init__(self) -> None:
        self.bands: dict[int, OrderedDict[str, deque[tuple[Place, Want]]]] = {}
        """Empty where nobody waits."""
        self._counts: dict[int, int] = {}

    def count(self) -> int:
        """Return how many wait, background work aside."""
        return sum(number for band, number in self._counts.items() if band != BACKGROUND)

    def counts(self) -> dict[int, int]:
        """Return how many wait in each band."""
        return {band: number for band, number in self._counts.items() if number}

    def before(self, priority: int) -> bool:
        """Return whether anybody waits who is served before a newcomer of that priority."""
        return any(number and band >= priority for band, number in self._counts.items())

    def push(self, place: Place, want: Want) -> None:
        """Put somebody at the end of its flow."""
        band = self.bands.setdefault(want.priority, OrderedDict())
        band.setdefault(want.flow, deque()).append((place, want))
        self._counts[want.priority] = self._counts.get(want.priority, 0) + 1

    def remove(self, place: Place, want: Want) -> bool:
        """Take somebody out. Returns False where it was out already."""
        band = self.bands.get(want.priority, OrderedDict())
        flow = band.get(want.flow)
        if flow is None or (place, want) not in flow:
            return False
        flow.remove((place, want))
        self._took(want)
        return True

    def heads(self) -> Iterator[tuple[Place, Want]]:
        """Yield the first of each flow, the most important first; serve none, or one and stop."""
        for priority in sorted(self.bands, reverse=True):
            for flow in list(self.bands[priority].values()):
                yield flow[0]

    def take(self, want: Want) -> None:
        """Take the head of a flow out; the other flows of its band come before it now."""
        self.bands[want.priority][want.flow].popleft()
        self._took(want)
        band = self.bands.get(want.priority)
        if band is not None and want.flow in band:
            band.move_to_end(want.flow)

    def last_below(self, priority: int) -> tuple[Place, Want] | None:
        """Return the latest of the least important who matter less than that; no background."""
        for band in sorted(self.bands):
            if band == BACKGROUND:
                continue
            if band >= priority:
                return None
            flow = max(self.bands[band].values(), key=len)
            return flow[-1]
        return None

    def clear(self) -> list[Place]:
        """Take everybody out."""
        places = [
            place for band in self.bands.values() for flow in band.values() for place, _ in flow
        ]
        self.bands.clear()
        self._counts.clear()
        return places

    def _took(self, want: Want) -> None:
        self._counts[want.priority] -= 1
        band = self.bands[want.priority]
        if not band[want.flow]:
            del band[want.flow]
        if not band:
            del self.bands[want.priority]


class Line:
    """The endpoints of one model, or of one pool, and the requests that wait for one.

    Args:
        model: the model's or the pool's name.
        max_waiting: requests that may wait; one more is refused.
        picker: chooses among endpoints that have room.
    """

    def __init__(self, model: str, max_waiting: int, picker: Picker) -> None:
        self.model = model
        self.max_waiting = max_waiting
        self.endpoints: dict[str, Endpoint] = {}
        self.is_remote = True
        """Whether all its endpoints are run by somebody else."""
        self.last_used = time.monotonic()
        self.tight = False
        """Whether requests of different importance meet here. Then what is not critical does not
        queue inside engines, where nobody can overtake it."""
        self._picker = picker
        self._waiting = Waiting()

    @property
    def waiting(self) -> int:
        """How many requests wait; background work is not counted."""
        return self._waiting.count()

    @property
    def background_waiting(self) -> int:
        """How much background work waits."""
        return self._waiting.counts().get(BACKGROUND, 0)

    @property
    def waiting_by_priority(self) -> dict[int, int]:
        """How many requests of each priority wait."""
        return self._waiting.counts()

    @property
    def in_flight(self) -> int:
        """How many requests endpoints work on."""
        return sum(endpoint.in_flight for endpoint in self.endpoints.values())

    @property
    def busy(self) -> bool:
        """Whether anybody works on or waits for this model."""
        return bool(self._waiting.bands) or self.in_flight > 0

    @property
    def reads_prompts(self) -> bool:
        """Whether it matters here how a prompt begins."""
        return self._picker.reads_prompts and len(self.endpoints) > 1

    def any_fit(self, want: Want) -> bool:
        """Return whether any endpoint is fit for a request, be it now or when it has room."""
        now = time.monotonic()
        return any(self._fits(endpoint, want, now) for endpoint in self.endpoints.values())

    def touch(self) -> None:
        """Note that the model is used now."""
        self.last_used = time.monotonic()

    def take(self, want: Want) -> Endpoint | None:
        """Return an endpoint with one of its places taken, if there is one at once."""
        self.last_used = now = time.monotonic()
        if self._waiting.bands and self._waiting.before(want.priority):
            return None
        endpoint = self._pick(want, now)
        if endpoint is None or (want.priority < 0 and want.sheddable and endpoint.saturated):
            return None
        self._hand_over(endpoint, want)
        return endpoint

    async def acquire(self, want: Want) -> Endpoint:
        """Return an endpoint with one of its places taken; give it back with `release`.

        Raises:
            QuotaExceeded: every endpoint that is fit has had as many as its quotas allow.
            Shed: there is no room for what matters so little.
            Overloaded: too many requests wait already.
            InfernoError: what `fail` was called with meanwhile.
        """
        if (endpoint := self.take(want)) is not None:
            return endpoint
        if (refusal := self._quota_exceeded(want)) is not None:
            raise refusal
        if want.sheddable and self.endpoints:
            raise Shed("saturated")
        self._make_room(want)
        place: Place = asyncio.get_running_loop().create_future()
        takes_turns = any(endpoint.adapters for endpoint in self.endpoints.values())
        if takes_turns:
            self._part_by_adapter(want)
        self._waiting.push(place, want)
        if takes_turns:  # those before it may be waiting for their turn alone
            self.serve_waiting()
        try:
            return await place
        except asyncio.CancelledError:
            self._give_up(place, want)
            raise

    def _part_by_adapter(self, want: Want) -> None:
        """Let a request go past those of its flow that wait for another adapter's turn."""
        adapters = (endpoint.adapter_for(want.model) for endpoint in self.endpoints.values())
        adapter = f" {max(adapters, default='')}"
        if adapter != " " and not want.flow.endswith(adapter):
            want.flow += adapter

    def _make_room(self, want: Want) -> None:
        """See to it that one more may wait. Raises Overloaded where nobody matters less."""
        if want.give_way is not None or self.waiting < self.max_waiting:
            return
        least = self._waiting.last_below(want.priority)
        if least is None:
            raise Overloaded(
                f"{self.max_waiting} requests are waiting for model '{self.model}' already.",
                waiting=self.waiting,
            )
        place, other = least
        self._waiting.remove(place, other)
        if not place.done():
            place.set_exception(Shed("displaced"))

    def _give_up(self, place: Place, want: Want) -> None:
        """Leave the line; an endpoint that was handed over in the same instant goes back."""
        if place.done() and not place.cancelled() and place.exception() is None:
            self.release(place.result(), want.give_way, want.unread)
        else:
            self._waiting.remove(place, want)

    def release(self, endpoint: Endpoint, give_way: GiveWay | None = None, unread: int = 0) -> None:
        """Give a place back; whoever is next gets it, in whichever line of the endpoint."""
        endpoint.give_back(give_way, unread)
        self.last_used = time.monotonic()
        if len(endpoint.lines) < 2:
            if self._waiting.bands:
                self.serve_waiting()
            return
        for line in sorted(endpoint.lines, key=lambda line: -line._waiting_priority()):
            line.serve_waiting()

    def _waiting_priority(self) -> int:
        return max(self._waiting.counts(), default=BACKGROUND)

    def add(self, endpoint: Endpoint) -> None:
        """Put an endpoint to use; from now on the model can be idle."""
        self.touch()
        self.endpoints[endpoint.name] = endpoint
        self._look()
        if self not in endpoint.lines:
            endpoint.lines.append(self)
        self.serve_waiting()

    def remove(self, name: str) -> None:
        """Give an endpoint no more requests; those it works on go on."""
        endpoint = self.endpoints.pop(name, None)
        self._look()
        if endpoint is not None and self in endpoint.lines:
            endpoint.lines.remove(self)

    def _look(self) -> None:
        self.is_remote = all(endpoint.remote for endpoint in self.endpoints.values())

    def failed(self, endpoint: Endpoint, *, surely: bool) -> None:
        """Note that an endpoint did not do its work; it may be passed over for a while.

        Args:
            endpoint: which.
            surely: whether nothing was there at all.
        """
        now = time.monotonic()
        endpoint.health.failed(now, surely=surely)
        away = endpoint.health.ejected_until - now
        if away > 0:
            asyncio.get_running_loop().call_later(away, self.serve_waiting)

    def fail(self, error: Callable[[], InfernoError]) -> None:
        """Refuse all that wait; each gets an error of its own."""
        for place in self._waiting.clear():
            if not place.done():
                place.set_exception(error())

    def serve_waiting(self) -> None:
        """Hand free places to those who wait, the most important first."""
        while self._waiting.bands and self._serve_one():
            pass

    def _serve_one(self) -> bool:
        for place, want in self._waiting.heads():
            if place.done():
                self._waiting.take(want)
                return True
            endpoint = self._pick(want, time.monotonic())
            if endpoint is not None:
                self._waiting.take(want)
                self._hand_over(endpoint, want)
                place.set_result(endpoint)
                return True
            if (refusal := self._quota_exceeded(want)) is not None:
                self._waiting.take(want)
                place.set_exception(refusal)
                return True
        return False

    def _hand_over(self, endpoint: Endpoint, want: Want) -> None:
        want.unread = 0
        if want.prompt and self.reads_prompts:
            want.unread = unread_bytes(endpoint, want)
            endpoint.prefixes.add(want.blocks, time.monotonic())
        if endpoint.adapters:
            endpoint.give_turn(want.model, time.monotonic())
        endpoint.take(want.give_way, want.unread)
        if endpoint.quota is not None:
            endpoint.quota.take(want)

    def _pick(self, want: Want, now: float) -> Endpoint | None:
        """Return the best endpoint that is fit, knows the model and has room for such work."""
        candidates = [
            endpoint
            for endpoint in self.endpoints.values()
            if endpoint.in_flight < self._room(endpoint, want, now)
            and self._fits(endpoint, want, now)
            and (endpoint.quota is None or endpoint.quota.used_up(want) is None)
            and (
                not endpoint.adapters
                or endpoint.has_turn(want.model, now, background=want.give_way is not None)
            )
        ]
        if want.tried and len(candidates) > 1:
            candidates = [e for e in candidates if e not in want.tried] or candidates
        return self._picker.pick(candidates, want) if candidates else None

    def _quota_exceeded(self, want: Want) -> QuotaExceeded | None:
        """Return why no endpoint that is fit takes such a request, where their quotas say so."""
        now = time.monotonic()
        used_up = []
        for endpoint in self.endpoints.values():
            if self._fits(endpoint, want, now):
                found = endpoint.quota and endpoint.quota.used_up(want)
                if not found:
                    return None
                used_up.append(found)
        return min(used_up, key=lambda one: one.wait).error() if used_up else None

    def _fits(self, endpoint: Endpoint, want: Want, now: float) -> bool:
        return (
            endpoint.health.admits(now)
            and endpoint.knows(want.model)
            and (want.only is None or str(endpoint.address) in want.only)
        )

    def _room(self, endpoint: Endpoint, want: Want, now: float) -> float:
        """Return how many requests an endpoint may have before one more of that kind.

        One that comes back after failures is given its share little by little.
        """
        if want.give_way is not None or (self.tight and want.priority <= 0):
            room = endpoint.slots
        else:
            room = endpoint.capacity
        return room if not endpoint.health.well_since else room * endpoint.health.share(now)


class LineTable:
    """The lines of all models and pools.

    Args:
        max_waiting: requests that may wait in one line.
        picker: chooses among endpoints that have room.
    """

    def __init__(self, *, max_waiting: int, picker: Picker) -> None:
        self._max_waiting = max_waiting
        self._picker = picker
        self._lines: dict[str, Line] = {}

    def line(self, name: str) -> Line:
        """Return the line of a known model or pool, made when it is first asked for."""
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = Line(name, self._max_waiting, self._picker)
        return line

    def drop(self, name: str, error: Callable[[], InfernoError]) -> None:
        """Forget a model or pool that is gone; those who wait for it are refused."""
        line = self._lines.pop(name, None)
        if line is not None:
            for endpoint in list(line.endpoints):
                line.remove(endpoint)
            line.fail(error)

    def lines(self) -> list[Line]:
        """Return all lines."""
        return list(self._lines.values())
