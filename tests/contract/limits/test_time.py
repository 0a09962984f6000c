"""What every limiter keeps to as time passes."""

import pytest

from inferno.core.tenancy import LimitPolicy
from inferno.limits.base import Refused
from tests.contract.limits.calls import admitted, enter, refusal
from tests.contract.limits.subject import HOUR, MINUTE, Subject, policy


async def test_place_comes_free_exactly_when_the_first_is_a_window_old(subject: Subject) -> None:
    limits = policy(minute=2)
    first = subject.now()
    await enter(subject.limiter, "a", limits)
    await subject.pass_time(MINUTE / 4)
    await enter(subject.limiter, "a", limits)
    refused = await refusal(subject.limiter, "a", limits)
    assert refused.details["limit"] == "requests_per_minute"
    assert refused.details["maximum"] == 2
    await subject.pass_time(refused.wait)
    assert subject.now() - first >= MINUTE - 1e-9
    await enter(subject.limiter, "a", limits)
    await refusal(subject.limiter, "a", limits)  # the second is not as old yet


async def test_a_bit_less_than_the_wait_is_not_enough(subject: Subject) -> None:
    limits = policy(minute=1)
    for attempt in range(5):
        name, start = f"caller {attempt}", subject.now()
        await enter(subject.limiter, name, limits)
        wait = (await refusal(subject.limiter, name, limits)).wait
        await subject.pass_time(wait - 0.1)
        outcome = await admitted(subject.limiter, name, limits, 1)
        if subject.is_within(start, MINUTE):  # else the machine was too slow to tell
            assert outcome == 0
            return
    pytest.fail("This machine is too slow to test with windows this short.")


@pytest.mark.parametrize(("limits", "window"), [(policy(minute=3), MINUTE), (policy(hour=3), HOUR)])
async def test_waiting_as_told_is_enough(
    subject: Subject, limits: LimitPolicy, window: float
) -> None:
    assert await admitted(subject.limiter, "a", limits, 3) == 3
    refused = await refusal(subject.limiter, "a", limits)
    assert 0 < refused.wait <= window
    assert refused.retry_after >= refused.wait
    assert refused.standing is not None
    assert refused.standing.limit == 3
    assert refused.standing.remaining == 0
    assert 0 < refused.standing.reset_after <= window
    await subject.pass_time(refused.wait)
    await enter(subject.limiter, "a", limits)


async def test_the_longest_wait_is_told(subject: Subject) -> None:
    await enter(subject.limiter, "a", limits := policy(minute=1, hour=1, concurrent=1))
    refused = await refusal(subject.limiter, "a", limits)
    assert refused.details["limit"] == "requests_per_hour"
    assert refused.wait > MINUTE


async def test_refused_tokens_undo_the_admission(subject: Subject) -> None:
    limiter, limits = subject.limiter, policy(minute=10, hour=10, tokens=100, concurrent=10)
    await enter(limiter, "a", limits, 60)
    before = await limiter.standing("a", limits)
    refused_one = await enter(limiter, "a", limits)
    other = await enter(limiter, "a", limits)  # came in between, and stays
    with pytest.raises(Refused) as caught:
        await limiter.reserve(refused_one, 41)
    assert caught.value.details["limit"] == "tokens_per_minute"
    assert 0 < caught.value.wait <= MINUTE
    assert caught.value.standing is not None
    assert caught.value.standing.remaining == 8
    await limiter.settle(refused_one, 41)  # does nothing any more
    await limiter.settle(other, None)
    after = await limiter.standing("a", limits)
    expected = {"requests_per_minute": 2, "requests_per_hour": 2}
    assert after == before | expected
    await enter(limiter, "a", limits, 40)


async def test_tokens_fit_after_the_wait(subject: Subject) -> None:
    limits = policy(tokens=100)
    for tokens in (30, 20, 50):
        await enter(subject.limiter, "a", limits, tokens)
        await subject.pass_time(0.05)
    with pytest.raises(Refused) as caught:
        await enter(subject.limiter, "a", limits, 40)
    await subject.pass_time(caught.value.wait)
    await enter(subject.limiter, "a", limits, 40)


async def test_more_tokens_than_the_limit_never_fit(subject: Subject) -> None:
    limits = policy(tokens=100)
    with pytest.raises(Refused) as caught:
        await enter(subject.limiter, "a", limits, 101)
    assert caught.value.wait == pytest.approx(MINUTE)
    assert (await subject.limiter.standing("a", limits))["concurrent_requests"] == 0


async def test_tokens_in_excess_count_from_the_correction_on(subject: Subject) -> None:
    limiter, limits = subject.limiter, policy(tokens=100)
    admission = await enter(limiter, "a", limits, 10)
    await subject.pass_time(MINUTE)
    await limiter.settle(admission, 90)
    assert (await limiter.standing("a", limits))["tokens_per_minute"] == 80
    await subject.pass_time(MINUTE)
    assert (await limiter.standing("a", limits))["tokens_per_minute"] == 0


async def test_correction_of_what_has_left_the_window_changes_nothing(subject: Subject) -> None:
    limiter, limits = subject.limiter, policy(tokens=100)
    admission = await enter(limiter, "a", limits, 90)
    await subject.pass_time(MINUTE)
    await limiter.settle(admission, 10)
    assert (await limiter.standing("a", limits))["tokens_per_minute"] == 0


@pytest.mark.parametrize(
    ("limits", "wait"),
    [(policy(minute=0), MINUTE), (policy(hour=0), HOUR), (policy(concurrent=0), 1.0)],
)
async def test_zero_lets_nothing_in(subject: Subject, limits: LimitPolicy, wait: float) -> None:
    refused = await refusal(subject.limiter, "a", limits)
    assert refused.wait == pytest.approx(wait)
    assert refused.details["maximum"] == 0


async def test_changed_limit_applies_to_what_was_counted(subject: Subject) -> None:
    limiter = subject.limiter
    for _ in range(4):
        await enter(limiter, "a", policy(hour=4))
        await subject.pass_time(0.01)
    assert await admitted(limiter, "a", policy(hour=6), 5) == 2
    refused = await refusal(limiter, "a", policy(hour=2))
    await subject.pass_time(refused.wait)
    await enter(limiter, "a", policy(hour=2))


async def test_standing_is_that_of_the_minute_else_of_the_hour(subject: Subject) -> None:
    both = await enter(subject.limiter, "a", policy(minute=5, hour=100))
    hour = await enter(subject.limiter, "b", policy(hour=100))
    neither = await enter(subject.limiter, "c", policy(tokens=100))
    assert both.standing is not None
    assert (both.standing.limit, both.standing.remaining) == (5, 4)
    assert both.standing.reset_after == pytest.approx(MINUTE)
    assert hour.standing is not None
    assert (hour.standing.limit, hour.standing.remaining) == (100, 99)
    assert hour.standing.reset_after == pytest.approx(HOUR)
    assert neither.standing is None
