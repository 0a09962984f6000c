from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferno.gateway.health import (
    EJECTED_SECONDS,
    FAILURES,
    MAX_EJECTED_SECONDS,
    SLOW_START_SECONDS,
    SLOW_START_SHARE,
    Health,
)
from inferno.gateway.retries import RESERVE, RetryBudget


def test_failures_in_a_row_eject_and_a_success_between_them_does_not() -> None:
    health = Health()
    for _ in range(FAILURES - 1):
        health.failed(10.0, surely=False)
    health.succeeded(10.0)
    health.failed(10.0, surely=False)
    assert health.admits(10.0)
    for _ in range(FAILURES - 1):
        health.failed(10.0, surely=False)
    assert not health.admits(10.0)
    assert health.admits(10.0 + EJECTED_SECONDS)


def test_half_open_is_one_trial_at_a_time() -> None:
    health = Health()
    health.failed(0.0, surely=True)
    assert health.admits(EJECTED_SECONDS)
    health.sending()
    assert not health.admits(EJECTED_SECONDS)
    health.undecided()
    assert health.admits(EJECTED_SECONDS)
    health.sending()
    health.succeeded(EJECTED_SECONDS)
    assert health.admits(EJECTED_SECONDS)


def test_a_failed_trial_keeps_it_away_for_longer_and_longer() -> None:
    health, now, away = Health(), 0.0, []
    for _ in range(8):
        health.failed(now, surely=True)
        away.append(health.ejected_until - now)
        now = health.ejected_until
    assert away[:3] == [EJECTED_SECONDS, 2 * EJECTED_SECONDS, 4 * EJECTED_SECONDS]
    assert away[-1] == MAX_EJECTED_SECONDS


def test_one_that_comes_back_has_its_share_little_by_little() -> None:
    health = Health()
    assert health.share(5.0) == 1.0
    health.failed(0.0, surely=True)
    health.succeeded(10.0)
    assert health.share(10.0) == SLOW_START_SHARE
    halfway = health.share(10.0 + SLOW_START_SECONDS / 2)
    assert SLOW_START_SHARE < halfway < 1.0
    assert health.share(10.0 + SLOW_START_SECONDS) == 1.0


def test_one_that_probes_do_not_reach_gets_nothing() -> None:
    health = Health(reachable=False)
    assert not health.admits(1e9)


@given(st.lists(st.booleans(), max_size=200))
def test_retries_stay_within_their_share_of_requests(plan: list[bool]) -> None:
    budget = RetryBudget(ratio=0.2)
    requests = retries = 0
    for is_request in plan:
        if is_request:
            budget.earn()
            requests += 1
        elif budget.spend():
            retries += 1
        assert retries <= RESERVE + 0.2 * requests
