"""Conditions: observed facts about a resource that keep the time at which they became so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from inferno.core.resources import Condition


def settled(
    previous: Sequence[Condition], observed: Iterable[Condition], *, generation: int, now: str
) -> list[Condition]:
    """Return the observed conditions with their generation and times.

    A condition that was there before with the same status keeps its time, whatever became of its
    reason: that is what `lastTransitionTime` means.

    Args:
        previous: conditions of the resource up to now.
        observed: what is seen now; the types that it does not name are kept as they were.
        generation: of the spec that was looked at.
        now: RFC 3339.
    """
    before = {condition.type: condition for condition in previous}
    for condition in observed:
        old = before.get(condition.type)
        since = old.last_transition_time if old and old.status == condition.status else ""
        before[condition.type] = msgspec.structs.replace(
            condition, last_transition_time=since or now, observed_generation=generation
        )
    return list(before.values())


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """Return the condition of a type, if there is one."""
    return next((condition for condition in conditions if condition.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: str) -> bool:
    """Return whether the condition of a type is there and true."""
    condition = find(conditions, kind)
    return condition is not None and condition.status == "True"


def present() -> str:
    """Return the time as RFC 3339 in UTC, to the second, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
