"""Whom to refuse when there is not enough of everything (seed 002, `Criticality`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inferno.core.inference_models import Criticality

QUEUE_SHARES: dict[Criticality, float] = {"Sheddable": 0.0, "Default": 0.5, "Critical": 1.0}
"""How full the queue may be, while the pool is saturated, for a request to join it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What an endpoint with room looks like.

    Args:
        waiting: requests that wait in the engine, at most.
        kv_cache: share of the KV cache in use, at most.
        staleness: seconds; older figures say nothing.
    """

    waiting: int = 5
    kv_cache: float = 0.8
    staleness: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What an endpoint last said of itself.

    Args:
        waiting: requests that wait in the engine.
        kv_cache: share of the KV cache in use, 0 to 1.
        age: seconds since it said so.
    """

    waiting: int
    kv_cache: float
    age: float = 0.0


def has_room(load: Load, thresholds: Thresholds) -> bool:
    """Return whether an endpoint can take a request that nothing forces it to take."""
    return (
        load.waiting <= thresholds.waiting
        and load.kv_cache <= thresholds.kv_cache
        and load.age <= thresholds.staleness
    )


def is_saturated(loads: Iterable[Load], thresholds: Thresholds) -> bool:
    """Return whether no endpoint has room; where there is no endpoint, none has."""
    return not any(has_room(load, thresholds) for load in loads)


def sheds(criticality: Criticality, *, saturated: bool, queued: int, queue_size: int) -> bool:
    """Return whether a request is refused.

    While any endpoint has room, only a full queue refuses. In a saturated pool `Sheddable`
    requests go at once, `Default` ones when the queue is half full, `Critical` ones when it is
    full: whoever is refused, nobody less important is let in.

    Args:
        criticality: of the request.
        saturated: whether its pool `is_saturated`.
        queued: requests that wait already.
        queue_size: how many may wait.
    """
    share = QUEUE_SHARES[criticality] if saturated else 1.0
    return queued >= queue_size * share
