"""Endpoints: the servers that can answer, and how much each of them has to do.

An endpoint is a local replica or a model server that somebody else runs. It may stand in several
lines (`lines`): that of its own model, and those of the pools that select it. Nothing here does
I/O.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inferno.gateway.health import Health
from inferno.gateway.prefixes import SPARE_CONTEXTS, PrefixIndex, room_for
from inferno.gateway.quotas import ServerQuota
from inferno.gateway.scraping import EndpointLoad
from inferno.gateway.upstream import Address, UpstreamClient

if TYPE_CHECKING:
    from inferno.gateway.lines import Line

GiveWay = Callable[[], None]
"""Called once on background work whose place is needed; it has to stop soon."""

MAX_WAITING = 5
MAX_KV_CACHE_USAGE = 0.8
"""Beyond either, an endpoint has no room for what may be shed (the Endpoint Picker's defaults)."""

TURN_SECONDS = 2.0
"""For which an engine is given requests for one adapter while others wait for theirs."""

STALE_SECONDS = 10.0
"""A load that was scraped so long ago tells nothing any more."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """A server that can answer.

    Args:
        name: the pod's or the model server's.
        model: the model it answers for, by the service's name; empty for a server of others.
        address: where it listens.
        authorization: the header value that opens it; empty for none.
        capacity: requests that it is given at once.
        slots: requests that its engine works on at once; the rest wait inside it.
        context_size: tokens that one request can hold; 0 where nobody knows.
        capabilities: what its engine can do with the model; None where nobody knows.
        serves: names of models that it knows; None for any.
        adapters: LoRA adapters that requests to it have to name by number (llama.cpp).
        adapter: the one of these that it works with; empty for none.
        turn_ends: when requests for another one may have it (`time.monotonic`).
        others_wait: whether there are any.
        remote: whether somebody else runs it.
        client: speaks its TLS; None for the gateway's own client, which speaks none.
        quota: how many requests its owner lets it have; None for no quota.
        in_flight: requests that it works on now.
        backlog: bytes of their prompts that it had not in its cache, so that it has to read them.
        background: how to end those of them that are background work, the oldest first.
        health: whether it is fit.
        load: what it last said of itself.
        in_flight_then: requests that it had from here when it said so.
        prefixes: beginnings of prompts that it has probably in its cache.
        lines: where requests wait for it.
    """

    name: str
    model: str
    address: Address
    authorization: bytes
    capacity: int
    slots: int
    context_size: int
    capabilities: frozenset[str] | None
    serves: frozenset[str] | None = None
    adapters: dict[str, int] = field(default_factory=dict)
    adapter: str = ""
    turn_ends: float = 0.0
    others_wait: bool = False
    remote: bool = False
    client: UpstreamClient | None = None
    quota: ServerQuota | None = None
    in_flight: int = 0
    backlog: int = 0
    background: list[GiveWay] = field(default_factory=list)
    health: Health = field(default_factory=Health)
    load: EndpointLoad | None = None
    in_flight_then: int = 0
    prefixes: PrefixIndex = field(default_factory=PrefixIndex)
    lines: list[Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A replica of ours with adapters keeps nothing besides what is in its slots.
        spare = 0 if self.adapters and not self.remote else SPARE_CONTEXTS
        self.prefixes.remembered = room_for(self.slots, self.context_size, spare=spare)

    @property
    def others(self) -> int:
        """Requests that another one would have to share it with: background work gives way."""
        return self.in_flight - len(self.background)

    @property
    def busy(self) -> int:
        """Requests that it has to do with, as far as anybody knows: ours, and those of others."""
        load = self.fresh_load
        if load is None:
            return self.others
        seen = load.running + load.waiting + self.in_flight - self.in_flight_then
        return max(self.others, seen - len(self.background))

    @property
    def waiting(self) -> int:
        """Requests that wait inside it, as it said, and as ours have changed since."""
        load = self.fresh_load
        if load is None:
            return max(0, self.in_flight - self.slots)
        return max(0, load.waiting + self.in_flight - self.in_flight_then)

    @property
    def kv_cache_usage(self) -> float:
        """Share of its cache that is in use; 0 where nobody knows."""
        load = self.fresh_load
        return (load.kv_cache_usage or 0.0) if load is not None else 0.0

    @property
    def fresh_load(self) -> EndpointLoad | None:
        """What it said of itself, unless that is too long ago."""
        load = self.load
        if load is None or time.monotonic() - load.at > STALE_SECONDS:
            return None
        return load

    @property
    def saturated(self) -> bool:
        """Whether it has no room for what may be shed."""
        return (
            self.in_flight >= self.capacity
            or self.waiting > MAX_WAITING
            or self.kv_cache_usage > MAX_KV_CACHE_USAGE
        )

    def knows(self, model: str) -> bool:
        """Return whether it serves a model of that name; the empty name is any."""
        return not model or self.serves is None or model in self.serves

    def adapter_for(self, model: str) -> str:
        """Return the LoRA adapter that a request for a model wants of it; empty for none."""
        return model if model in self.adapters else ""

    def has_turn(self, model: str, now: float, *, background: bool) -> bool:
        """Return whether its engine would begin on a request for a model.

        llama.cpp works with one adapter at a time: what wants another one would sit in its slots
        until all before it is done, and that may be never. So requests for the same one are given
        to it together, and when their time is over and others wait, it finishes what it has.
        """
        if not self.in_flight:
            return True
        if self.adapter_for(model) == self.adapter:
            return now < self.turn_ends or not self.others_wait
        if not background:
            self.others_wait = True
            if not self.others:
                self._end_background()
        return False

    def give_turn(self, model: str, now: float) -> None:
        """Have it work with the adapter that a request wants."""
        wanted = self.adapter_for(model)
        if wanted != self.adapter or not self.in_flight:
            self.adapter, self.turn_ends, self.others_wait = wanted, now + TURN_SECONDS, False

    def _end_background(self) -> None:
        while self.background:
            self.background.pop()()

    def scraped(self, load: EndpointLoad) -> None:
        """Take in what it says of itself."""
        self.load = load
        self.in_flight_then = self.in_flight

    def take(self, give_way: GiveWay | None, unread: int = 0) -> None:
        """Take a place. Whoever is no background work has one of that give way, if it must."""
        self.in_flight += 1
        self.backlog += unread
        self.health.sending()
        if give_way is not None:
            self.background.append(give_way)
        elif self.in_flight > self.slots and self.background:
            self.background.pop()()

    def give_back(self, give_way: GiveWay | None, unread: int = 0) -> None:
        """Give a place back."""
        self.in_flight -= 1
        self.backlog -= unread
        if give_way in self.background:
            self.background.remove(give_way)
