"""The breaker gives up quickly and comes back by itself."""

import pytest

from inferno.limits.breaker import PATIENCE, PAUSE, Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def broken(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(PATIENCE):
        assert breaker.may_try()
        breaker.failed()
    return breaker


def test_failures_with_answers_between_break_nothing(clock: Clock) -> None:
    breaker = Breaker(clock)
    for _ in range(PATIENCE * 3):
        breaker.failed()
        assert not breaker.succeeded()
    assert breaker.may_try()


def test_breaks_after_failures_in_a_row(clock: Clock) -> None:
    breaker = broken(clock)
    assert breaker.is_broken
    assert not breaker.may_try()


def test_one_at_a_time_tries_again(clock: Clock) -> None:
    breaker = broken(clock)
    clock.now += PAUSE
    assert breaker.may_try()
    assert not breaker.may_try()
    breaker.failed()
    clock.now += PAUSE / 2
    assert not breaker.may_try()
    clock.now += PAUSE / 2
    assert breaker.may_try()


def test_an_answer_mends_it(clock: Clock) -> None:
    breaker = broken(clock)
    clock.now += PAUSE
    assert breaker.may_try()
    assert breaker.succeeded()
    assert breaker.may_try()
    assert breaker.may_try()
