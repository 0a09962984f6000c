"""What every limiter keeps to, in windows that nothing leaves while the test lasts."""

import asyncio

import pytest

from inferno.core.tenancy import UNLIMITED
from inferno.limits.base import Limiter, Refused
from tests.contract.limits.calls import admitted, enter, refusal
from tests.contract.limits.subject import policy

HOSTILE = ["", "{}", "a}b{c", "key:*", "a\nb\0c", "ü😀", "\ud800", "x" * 10_000, "'; return 1 --"]


async def test_limit_holds_among_concurrent_requests(limiter: Limiter) -> None:
    limits = policy(hour=60)
    assert await admitted(limiter, "a", limits, 200) == 60
    used = await limiter.standing("a", limits)
    assert used["requests_per_hour"] == 60
    assert used["concurrent_requests"] == 0


async def test_refused_request_consumes_nothing(limiter: Limiter) -> None:
    limits = policy(minute=100, hour=2, tokens=10)
    assert await admitted(limiter, "a", limits, 50) == 2
    used = await limiter.standing("a", limits)
    assert used == {
        "requests_per_minute": 2,
        "requests_per_hour": 2,
        "tokens_per_minute": 0,
        "concurrent_requests": 0,
    }


@pytest.mark.parametrize(("used", "counted"), [(30, 30), (0, 0), (80, 80), (130, 130), (None, 80)])
async def test_tokens_are_settled_once(limiter: Limiter, used: int | None, counted: int) -> None:
    limits = policy(tokens=100)
    admission = await enter(limiter, "a", limits, 80)
    for _ in range(2):
        await limiter.settle(admission, used)
        assert (await limiter.standing("a", limits))["tokens_per_minute"] == counted
    if counted < 100:
        await enter(limiter, "a", limits, 100 - counted)


async def test_tokens_used_without_a_reservation_count(limiter: Limiter) -> None:
    limits = policy(tokens=100)
    await limiter.settle(await enter(limiter, "a", limits), 70)
    assert (await limiter.standing("a", limits))["tokens_per_minute"] == 70


async def test_places_are_given_back(limiter: Limiter) -> None:
    limits = policy(concurrent=2)
    first, _ = await enter(limiter, "a", limits), await enter(limiter, "a", limits)
    refused = await refusal(limiter, "a", limits)
    assert refused.details["limit"] == "concurrent_requests"
    assert refused.standing is None
    await limiter.settle(first, None)
    await limiter.settle(first, None)  # gives nothing back twice
    await enter(limiter, "a", limits)
    await refusal(limiter, "a", limits)


async def test_places_never_exceed_the_limit(limiter: Limiter) -> None:
    limits = policy(concurrent=5)
    running = most = 0

    async def one() -> None:
        nonlocal running, most
        while True:
            try:
                admission = await limiter.admit("a", limits)
            except Refused:
                await asyncio.sleep(0.002)
                continue
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            await limiter.settle(admission, None)
            return

    await asyncio.gather(*(one() for _ in range(40)))
    assert most <= 5
    assert (await limiter.standing("a", limits))["concurrent_requests"] == 0


async def test_cancelled_requests_leave_no_place_taken(limiter: Limiter) -> None:
    limits = policy(concurrent=50, tokens=10_000)

    async def one() -> None:
        admission = await limiter.admit("a", limits)
        try:
            await limiter.reserve(admission, 10)
            await asyncio.sleep(10)
        finally:
            await limiter.settle(admission, 3)

    tasks = [asyncio.create_task(one()) for _ in range(40)]
    for number, task in enumerate(tasks):
        if number % 4 == 0:
            await asyncio.sleep(0.001)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(200):
        used = await limiter.standing("a", limits)
        if not used["concurrent_requests"]:
            break
        await asyncio.sleep(0.01)
    assert used["concurrent_requests"] == 0
    assert used["tokens_per_minute"] % 3 == 0  # none kept its reservation of 10


async def test_subjects_do_not_share(limiter: Limiter) -> None:
    limits = policy(minute=1)
    for name in HOSTILE:
        await enter(limiter, name, limits)
    for name in HOSTILE:
        assert (await limiter.standing(name, limits))["requests_per_minute"] == 1


async def test_unlimited_is_not_counted(limiter: Limiter) -> None:
    admission = await enter(limiter, "a", UNLIMITED, 10**12)
    assert admission.standing is None
    await limiter.settle(admission, 10**12)
    assert set((await limiter.standing("a", UNLIMITED)).values()) == {0}


async def test_zero_tokens_let_nothing_but_nothing_in(limiter: Limiter) -> None:
    await enter(limiter, "a", policy(tokens=0), 0)
    with pytest.raises(Refused):
        await enter(limiter, "a", policy(tokens=0), 1)


async def test_reset_forgets_all_but_places(limiter: Limiter) -> None:
    limits = policy(minute=1, hour=1, tokens=10, concurrent=2)
    admission = await enter(limiter, "a", limits, 10)
    await limiter.reset("a")
    await limiter.reset("unknown")
    used = await limiter.standing("a", limits)
    assert used == dict.fromkeys(used, 0) | {"concurrent_requests": 1}
    again = await enter(limiter, "a", limits, 10)
    await limiter.settle(admission, 3)  # was forgotten: it corrects nothing of the new
    await limiter.settle(again, None)
    used = await limiter.standing("a", limits)
    assert used["tokens_per_minute"] == 10
    assert used["concurrent_requests"] == 0
