"""The limiter in memory against an oracle, and what it holds on to."""

import asyncio
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from inferno.core.tenancy import LimitPolicy
from inferno.limits.base import Admission, Refused
from inferno.limits.memory import MemoryLimiter

T = TypeVar("T")

MINUTE, HOUR = 10, 30
"""In nanoseconds, so that edges are met often."""

POLICIES = st.builds(
    LimitPolicy,
    requests_per_minute=st.sampled_from([None, 0, 1, 3, 5]),
    requests_per_hour=st.sampled_from([None, 2, 6]),
    tokens_per_minute=st.sampled_from([None, 0, 10, 25]),
    concurrent_requests=st.sampled_from([None, 1, 4]),
)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never waits, without an event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("The limiter in memory waited for something.")


def outcome(work: Coroutine[Any, Any, T]) -> T | Refused:
    """Return the result, or the refusal."""
    try:
        return run(work)
    except Refused as refused:
        return refused


class Log:
    """Timestamps and weights of what was counted."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.entries: list[list[int]] = []

    def used(self, now: int) -> int:
        return sum(weight for at, weight in self.entries if now - at < self.length)

    def add(self, now: int, weight: int) -> list[int]:
        self.entries.append([now, weight])
        return self.entries[-1]

    def wait(self, now: int, weight: int, limit: int | None) -> int:
        if limit is None:
            return 0
        for wait in range(self.length):
            if self.used(now + wait) + weight <= limit:
                return wait
        return self.length

    def reset_after(self, now: int) -> int:
        ends = (at + self.length - now for at, weight in self.entries if weight)
        return min((end for end in ends if end > 0), default=0)


class Held:
    """An admission and what the oracle has counted for it."""

    def __init__(self, admission: Admission, logs: list[list[int]]) -> None:
        self.admission = admission
        self.logs = logs
        self.reservation: list[int] | None = None
        self.reserved = 0
        self.is_running = True


class AgainstOracle(RuleBasedStateMachine):
    """One subject, any order of calls."""

    running = Bundle("running")
    over = Bundle("over")

    @initialize()
    def begin(self) -> None:
        self.now = 1_000
        self.limiter = MemoryLimiter(lambda: self.now, minute=MINUTE / 1e9, hour=HOUR / 1e9)
        self.minute, self.hour, self.tokens = Log(MINUTE), Log(HOUR), Log(MINUTE)
        self.concurrent = 0

    @rule(nanoseconds=st.integers(0, 12))
    def pass_time(self, nanoseconds: int) -> None:
        self.now += nanoseconds

    @rule(target=running, policy=POLICIES)
    def admit(self, policy: LimitPolicy) -> Any:
        waits = {
            "requests_per_minute": self.minute.wait(self.now, 1, policy.requests_per_minute) / 1e9,
            "requests_per_hour": self.hour.wait(self.now, 1, policy.requests_per_hour) / 1e9,
        }
        places = policy.concurrent_requests
        if places is not None and self.concurrent >= places:
            waits["concurrent_requests"] = 1.0
        admission = outcome(self.limiter.admit("caller", policy))
        if isinstance(admission, Refused):
            assert admission.wait == max(waits.values()) > 0
            assert waits[admission.details["limit"]] == admission.wait
            self._check_standing(admission.standing, policy)
            return Held(Admission("caller", policy, None), [])
        assert not any(waits.values())
        logs = []
        if policy.requests_per_minute is not None:
            logs.append(self.minute.add(self.now, 1))
        if policy.requests_per_hour is not None:
            logs.append(self.hour.add(self.now, 1))
        self.concurrent += not policy.is_unlimited
        self._check_standing(admission.standing, policy)
        return Held(admission, logs)

    @rule(held=running, tokens=st.integers(0, 12))
    def reserve(self, held: Held, tokens: int) -> None:
        policy = held.admission.policy
        if held.admission.handle is None or held.reservation is not None:
            return
        wait = self.tokens.wait(self.now, tokens, policy.tokens_per_minute)
        refused = outcome(self.limiter.reserve(held.admission, tokens))
        if isinstance(refused, Refused):
            assert refused.wait == wait / 1e9 > 0
            for entry in held.logs:
                entry[1] = 0
            self.concurrent -= 1
            self._check_standing(refused.standing, policy)
            assert held.admission.handle is None
            return
        assert wait == 0
        if policy.tokens_per_minute is not None:
            held.reservation, held.reserved = self.tokens.add(self.now, tokens), tokens

    @rule(target=over, held=consumes(running), tokens=st.none() | st.integers(0, 15))
    def settle(self, held: Held, tokens: int | None) -> Held:
        was_held = held.admission.handle is not None
        run(self.limiter.settle(held.admission, tokens))
        if was_held:
            self.concurrent -= 1
            if tokens is not None and held.admission.policy.tokens_per_minute is not None:
                if tokens > held.reserved:
                    self.tokens.add(self.now, tokens - held.reserved)
                elif held.reservation is not None:
                    held.reservation[1] = tokens
        return held

    @rule(held=over, tokens=st.none() | st.integers(0, 15))
    def settle_again(self, held: Held, tokens: int | None) -> None:
        run(self.limiter.settle(held.admission, tokens))

    @rule()
    def reset(self) -> None:
        run(self.limiter.reset("caller"))
        for log in (self.minute, self.hour, self.tokens):
            for entry in log.entries:
                entry[0] = -1_000

    @rule(policy=POLICIES)
    def others_come_and_go(self, policy: LimitPolicy) -> None:
        for number in range(20):
            try:
                run(self.limiter.settle(run(self.limiter.admit(f"{number}", policy)), 3))
            except Refused:
                continue

    @invariant()
    def counts_are_those_of_the_oracle(self) -> None:
        if not hasattr(self, "limiter"):
            return
        assert run(self.limiter.standing("caller", LimitPolicy())) == {
            "requests_per_minute": self.minute.used(self.now),
            "requests_per_hour": self.hour.used(self.now),
            "tokens_per_minute": self.tokens.used(self.now),
            "concurrent_requests": self.concurrent,
        }

    def _check_standing(self, standing: Any, policy: LimitPolicy) -> None:
        limit, log = policy.requests_per_minute, self.minute
        if limit is None:
            limit, log = policy.requests_per_hour, self.hour
        if limit is None:
            assert standing is None
            return
        assert standing.limit == limit
        assert standing.remaining == max(0, limit - log.used(self.now))
        assert standing.reset_after == log.reset_after(self.now) / 1e9


TestAgainstOracle = AgainstOracle.TestCase
TestAgainstOracle.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


LIMITS = LimitPolicy()


async def test_callers_that_have_gone_are_forgotten() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    for number in range(5_000):
        await limiter.settle(await limiter.admit(f"early {number}", LIMITS), 10)
    assert limiter.subjects == 5_000
    clock.now += 3_600 * 10**9
    for number in range(2_500):
        await limiter.settle(await limiter.admit(f"late {number}", LIMITS), 10)
    assert limiter.subjects == 2_500


async def test_caller_that_stays_sweeps_those_that_have_gone() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    for number in range(1_000):
        await limiter.settle(await limiter.admit(f"early {number}", LIMITS), 10)
    clock.now += 3_600 * 10**9
    for _ in range(1_100):
        await limiter.settle(
            await limiter.admit(
                "late", LimitPolicy(requests_per_minute=None, requests_per_hour=None)
            ),
            10,
        )
    assert limiter.subjects == 1


async def test_callers_that_are_always_refused_take_no_memory() -> None:
    limiter = MemoryLimiter()
    nothing = LimitPolicy(requests_per_minute=0)
    for number in range(1_000):
        with pytest.raises(Refused):
            await limiter.admit(f"{number}", nothing)
    assert limiter.subjects <= 2


async def test_callers_that_run_are_not_forgotten() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    one_place = LimitPolicy(concurrent_requests=1)
    running = await limiter.admit("slow", one_place)
    clock.now += 10 * 3_600 * 10**9
    for number in range(100):
        await limiter.settle(await limiter.admit(f"{number}", LIMITS), None)
    with pytest.raises(Refused):
        await limiter.admit("slow", one_place)
    await limiter.settle(running, None)
    await limiter.admit("slow", one_place)


async def test_refusals_of_tokens_leave_no_trace() -> None:
    limiter = MemoryLimiter()
    limits = LimitPolicy(requests_per_minute=10, requests_per_hour=10, tokens_per_minute=5)
    before = await limiter.standing("a", limits)
    for _ in range(1_000):
        admission = await limiter.admit("a", limits)
        with pytest.raises(Refused):
            await limiter.reserve(admission, 6)
    assert await limiter.standing("a", limits) == before
    assert len(limiter._accounts["a"].hour) == 0


async def test_huge_limit_takes_bounded_memory() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    limits = LimitPolicy(requests_per_minute=None, requests_per_hour=10**7, tokens_per_minute=10**9)
    for _ in range(50_000):
        clock.now += 500_000
        admission = await limiter.admit("a", limits)
        await limiter.reserve(admission, 10)
        await limiter.settle(admission, 5)
    used = await limiter.standing("a", limits)
    assert used["requests_per_hour"] == 50_000
    assert used["tokens_per_minute"] == 250_000
    account = limiter._accounts["a"]
    assert len(account.hour) <= 20_001
    assert len(account.tokens) <= 2_001


async def test_clock_is_not_the_wall_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting the machine's clock neither opens nor closes a limit."""
    limiter, limits = MemoryLimiter(), LimitPolicy(requests_per_minute=1)
    await limiter.admit("a", limits)
    for jump in (1e9, 4e9):
        monkeypatch.setattr("time.time", lambda jump=jump: jump)
        monkeypatch.setattr("time.time_ns", lambda jump=jump: int(jump * 1e9))
        with pytest.raises(Refused) as caught:
            await limiter.admit("a", limits)
        assert 50 < caught.value.wait <= 60


async def test_concurrent_tasks_never_exceed() -> None:
    limiter, limits = (
        MemoryLimiter(),
        LimitPolicy(requests_per_minute=100, concurrent_requests=None),
    )

    async def one() -> bool:
        await asyncio.sleep(0)
        try:
            await limiter.admit("a", limits)
        except Refused:
            return False
        return True

    assert sum(await asyncio.gather(*(one() for _ in range(500)))) == 100


def test_limits_in_memory_need_no_redis() -> None:
    code = "import sys, inferno.limits.memory; sys.exit('redis' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
