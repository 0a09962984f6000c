"""Which endpoint a request goes to: scorers give each candidate a figure, the best sum wins.

A scorer is a pure function of the candidates and of what the request wants; each gives figures
from 0 (worst) to 1 (best). A picker adds them up with weights and takes the highest; among equals
the one with the least in flight, then the next in turn. The weights are a setting (`picker`), so
that pickers can be compared: `prefix=3,queue=2,kv-cache=2`, or `round-robin` or `random` alone.

The scorers are those of the Gateway API Inference Extension's Endpoint Picker, and what they lack:
requests that were sent since a server last said how busy it is are counted, and places that are
free count more than places in a queue.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Sequence

import msgspec

from inferno.core.errors import ConfigurationError
from inferno.gateway.endpoints import Endpoint, GiveWay
from inferno.gateway.prefixes import BLOCK_BYTES, blocks_of

BACKGROUND = -(2**31)
"""The priority of background work: below every other."""


class Want(msgspec.Struct, eq=False):
    """What a request wants of an endpoint.

    Args:
        priority: above 0 it is shed last, below 0 it is shed first.
        flow: requests of one flow wait in turn, those of several take turns.
        model: the name that the endpoint has to know; empty for any.
        prompt: its text; endpoints that had its beginning before are preferred.
        session: endpoints are preferred that had the session before.
        only: addresses that it may go to, as `host:port`; None for any.
        give_way: what ends it when its place is needed; makes it background work.
        tried: endpoints that it was sent to in vain.
        unread: bytes of its prompt that the endpoint which it went to had not in its cache.
        tenant: whose it is; sessions of two tenants are two, whatever they are called.
        block: the name that servers know its model by, for their quotas.
    """

    priority: int = 0
    flow: str = ""
    model: str = ""
    prompt: bytes = b""
    session: str = ""
    only: frozenset[str] | None = None
    give_way: GiveWay | None = None
    tried: list[Endpoint] = []
    unread: int = 0
    tenant: str = ""
    block: str = ""
    _blocks: list[int] | None = None

    @property
    def sheddable(self) -> bool:
        """Whether it is refused as soon as there is no room for it."""
        return self.priority < 0 and self.give_way is None

    @property
    def blocks(self) -> list[int]:
        """The hashes of its prompt's blocks."""
        if self._blocks is None:
            self._blocks = blocks_of(self.prompt, salt=self.model)
        return self._blocks


ANSWER_BYTES = 2048
"""What an engine could read while it writes one answer alone."""

CONVERSATIONS_BYTES = 4096
"""What it costs a new conversation that as many are led already as there are slots."""

RETURNING = 0.5
"""How likely the prompt comes again that has to be forgotten for another."""

TELLING_BYTES = 4096
"""A difference in cost that should tell: about 1,000 tokens."""

Scorer = Callable[[Sequence[Endpoint], Want], list[float]]


def spread(values: Sequence[float]) -> list[float]:
    """Return 1 for the least of some values, 0 for the greatest, all 1 where they are equal."""
    least, greatest = min(values), max(values)
    if least == greatest:
        return [1.0] * len(values)
    return [(greatest - value) / (greatest - least) for value in values]


def by_queue(candidates: Sequence[Endpoint], want: Want) -> list[float]:
    """Prefer those in which fewer requests wait."""
    del want
    return spread([endpoint.waiting for endpoint in candidates])


def by_kv_cache(candidates: Sequence[Endpoint], want: Want) -> list[float]:
    """Prefer those with more room in their cache."""
    del want
    return [1.0 - endpoint.kv_cache_usage for endpoint in candidates]


def by_in_flight(candidates: Sequence[Endpoint], want: Want) -> list[float]:
    """Prefer those that have less to do for what they can do at once."""
    del want
    return spread([endpoint.others / endpoint.slots for endpoint in candidates])


def by_prefix(candidates: Sequence[Endpoint], want: Want) -> list[float]:
    """Prefer those that had the beginning of the prompt before: the share of it that they had."""
    blocks = want.blocks
    if not blocks:
        return [0.0] * len(candidates)
    return [endpoint.prefixes.matching(blocks) / len(blocks) for endpoint in candidates]


def unread_bytes(endpoint: Endpoint, want: Want) -> int:
    """Return how much of a prompt an endpoint has not in its cache, so that it has to read it."""
    return len(want.prompt) - endpoint.prefixes.matching(want.blocks) * BLOCK_BYTES


def cost(endpoint: Endpoint, want: Want, now: float) -> float:
    """Return what a request costs at an endpoint, in bytes of prompts that have to be read.

    What it has to read of the prompt counts thrice, since that delays others too; what it has to
    read of others' prompts by half, since on average half of that is done. Besides, it writes
    others' answers meanwhile, in all its slots at once, and those beyond its slots wait for whole
    answers; what this prompt takes the place of may have to be read again; and the conversations
    that it leads will come back, which keeps new ones away.
    """
    read = unread_bytes(endpoint, want)
    slots, busy, prefixes = endpoint.slots, endpoint.busy, endpoint.prefixes
    writing = min(busy, slots) / slots + max(0, busy - slots)
    lost = prefixes.displaced(read // BLOCK_BYTES) * BLOCK_BYTES
    is_new = bool(want.prompt) and not prefixes.goes_on(want.blocks)
    led = prefixes.live(now) / slots if is_new else 0.0
    return (
        3 * read
        + endpoint.backlog / 2
        + writing * ANSWER_BYTES
        + lost * RETURNING
        + led * CONVERSATIONS_BYTES
    )


def by_cost(candidates: Sequence[Endpoint], want: Want) -> list[float]:
    """Prefer those at which it costs least; what costs `TELLING_BYTES` more has half the score."""
    now = time.monotonic()
    costs = [cost(endpoint, want, now) for endpoint in candidates]
    least = min(costs)
    return [TELLING_BYTES / (TELLING_BYTES + one - least) for one in costs]


def by_lora(candidates: Sequence[Endpoint], want: Want) -> list[float]:
    """Prefer those that hold the adapter, then those with room for one more.

    llama.cpp has all its adapters in memory, but works with one of them at a time: there, those
    are preferred that would not have to change.
    """
    return [_lora(endpoint, want.model) for endpoint in candidates]


def _lora(endpoint: Endpoint, model: str) -> float:
    if endpoint.adapters:
        return 1.0 if endpoint.adapter == endpoint.adapter_for(model) else 0.0
    load = endpoint.fresh_load
    if load is None or not load.max_lora:
        return 0.0
    if model in load.loras:
        return 1.0
    return 0.8 if len(load.loras) < load.max_lora else 0.0


def by_session(candidates: Sequence[Endpoint], want: Want) -> list[float]:
    """Prefer the one that a session belongs to, whoever else comes and goes.

    Rendezvous hashing (Thaler and Ravishankar, 1998): only the sessions of an endpoint that goes
    move.
    """
    if not want.session:
        return [0.0] * len(candidates)
    session = want.session.encode()
    ranks = [zlib.crc32(endpoint.name.encode(), zlib.crc32(session)) for endpoint in candidates]
    best = max(ranks)
    return [1.0 if rank == best else 0.0 for rank in ranks]


def at_random(candidates: Sequence[Endpoint], want: Want) -> list[float]:
    """Prefer anyone."""
    del want
    return [random.random() for _ in candidates]  # noqa: S311 - nothing secret


def by_turn(candidates: Sequence[Endpoint], want: Want) -> list[float]:
    """Prefer nobody: the picker takes the next in turn."""
    del want
    return [0.0] * len(candidates)


SCORERS: dict[str, Scorer] = {
    "cost": by_cost,
    "queue": by_queue,
    "kv-cache": by_kv_cache,
    "in-flight": by_in_flight,
    "prefix": by_prefix,
    "lora": by_lora,
    "session": by_session,
    "random": at_random,
    "round-robin": by_turn,
}

DEFAULT = "cost=4,session=3,lora=2,kv-cache=1"


class Picker:
    """Adds up weighted scores.

    Args:
        scorers: with their weights.
        in_turn: whether equals are taken in turn, whatever they have in flight.
    """

    def __init__(self, scorers: Sequence[tuple[Scorer, float]], *, in_turn: bool = False) -> None:
        self._scorers = tuple(scorers)
        self._in_turn = in_turn
        self._turn = 0
        self.reads_prompts = any(scorer in (by_cost, by_prefix) for scorer, _ in scorers)

    @classmethod
    def parse(cls, text: str) -> Picker:
        """Return the picker that a setting names.

        Args:
            text: `prefix=3,queue=2`; a name without a weight has 1.

        Raises:
            ConfigurationError: no such scorer, or a weight that is no positive number.
        """
        scorers: list[tuple[Scorer, float]] = []
        for part in text.split(","):
            name, _, weight = part.strip().partition("=")
            if name not in SCORERS:
                raise ConfigurationError(
                    f"picker: there is no scorer '{name}'; choose from {', '.join(SCORERS)}."
                )
            try:
                number = float(weight or 1)
            except ValueError:
                number = 0.0
            if not 0 < number < 1e6:
                raise ConfigurationError(
                    f"picker: the weight of '{name}' must be a positive number, not '{weight}'."
                )
            scorers.append((SCORERS[name], number))
        return cls(scorers, in_turn=[scorer for scorer, _ in scorers] == [by_turn])

    def pick(self, candidates: Sequence[Endpoint], want: Want) -> Endpoint:
        """Return the best of at least one candidate."""
        if len(candidates) == 1:
            return candidates[0]
        self._turn += 1
        if self._in_turn:
            return candidates[self._turn % len(candidates)]
        totals = [0.0] * len(candidates)
        for scorer, weight in self._scorers:
            for place, score in enumerate(scorer(candidates, want)):
                totals[place] += weight * score
        best = max(totals)
        equal = [e for e, total in zip(candidates, totals, strict=True) if total >= best - 1e-9]
        least = min(endpoint.others / endpoint.slots for endpoint in equal)
        idlest = [endpoint for endpoint in equal if endpoint.others / endpoint.slots == least]
        return idlest[self._turn % len(idlest)]
