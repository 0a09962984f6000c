"""Who is refused when there is not enough (seed 002, `Criticality`)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.core.inference_models import Criticality
from inferno.core.shedding import Load, Thresholds, has_room, is_saturated, sheds

LIMITS = Thresholds()
BY_IMPORTANCE: tuple[Criticality, ...] = ("Sheddable", "Default", "Critical")


@pytest.mark.parametrize(
    ("waiting", "kv_cache", "age", "expected"),
    [
        (0, 0.0, 0.0, True),
        (5, 0.8, 0.2, True),
        (6, 0.0, 0.0, False),
        (0, 0.81, 0.0, False),
        (0, 0.0, 0.21, False),
        (0, float("nan"), 0.0, False),
    ],
)
def test_room(waiting: int, kv_cache: float, age: float, expected: bool) -> None:
    assert has_room(Load(waiting=waiting, kv_cache=kv_cache, age=age), LIMITS) is expected


def test_a_pool_is_saturated_when_no_endpoint_has_room() -> None:
    free, busy = Load(waiting=0, kv_cache=0), Load(waiting=9, kv_cache=0)
    assert not is_saturated([busy, free], LIMITS)
    assert is_saturated([busy, busy], LIMITS)
    assert is_saturated([], LIMITS)


@given(st.booleans(), st.integers(0, 200), st.integers(1, 100))
def test_whoever_is_refused_nobody_less_important_is_let_in(
    saturated: bool, queued: int, queue_size: int
) -> None:
    refused = [
        sheds(one, saturated=saturated, queued=queued, queue_size=queue_size)
        for one in BY_IMPORTANCE
    ]
    assert refused == sorted(refused, reverse=True)
    if queued >= queue_size:
        assert all(refused)
    elif not saturated:
        assert not any(refused)


def test_a_saturated_pool_sheds_in_bands() -> None:
    def refused(queued: int) -> list[Criticality]:
        return [
            one for one in BY_IMPORTANCE if sheds(one, saturated=True, queued=queued, queue_size=10)
        ]

    assert refused(0) == ["Sheddable"]
    assert refused(4) == ["Sheddable"]
    assert refused(5) == ["Sheddable", "Default"]
    assert refused(10) == ["Sheddable", "Default", "Critical"]
