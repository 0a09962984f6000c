"""Limits of one process, in memory. Nothing here waits, so every call is atomic."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Self

from inferno.core.tenancy import LimitPolicy
from inferno.limits.base import (
    EXACT_REQUESTS,
    EXACT_RESERVATIONS,
    HOUR,
    MINUTE,
    PLACE_WAIT,
    Admission,
    Refused,
    Standing,
    standing_of,
)
from inferno.limits.window import Window

SECOND = 1_000_000_000
"""In the clock's nanoseconds."""

SWEEP_EVERY = 8
"""Admissions between two looks for callers that have gone; few, so that no look takes long."""


class _Account:
    """What is counted for one subject."""

    __slots__ = ("concurrent", "hour", "minute", "subject", "tokens")

    def __init__(self, subject: str, minute: int, hour: int) -> None:
        self.subject = subject
        self.minute = Window(minute, EXACT_REQUESTS)
        self.hour = Window(hour, EXACT_REQUESTS)
        self.tokens = Window(minute, EXACT_RESERVATIONS)
        self.concurrent = 0

    def advance(self, now: int) -> None:
        self.minute.advance(now)
        self.hour.advance(now)
        self.tokens.advance(now)

    def is_idle(self, now: int) -> bool:
        """Whether nothing is counted any more."""
        self.advance(now)
        return not (self.concurrent or self.minute.total or self.hour.total or self.tokens.total)


class _Taken:
    """What one admission holds: the numbers of its entries, None where there is none."""

    __slots__ = ("account", "hour", "minute", "reservation", "reserved")

    def __init__(self, account: _Account, minute: int | None, hour: int | None) -> None:
        self.account = account
        self.minute = minute
        self.hour = hour
        self.reservation: int | None = None
        self.reserved = 0

    def undo(self) -> None:
        """Give everything back as if it had never been taken."""
        account = self.account
        account.concurrent -= 1
        if self.minute is not None:
            account.minute.take(self.minute, 1)
        if self.hour is not None:
            account.hour.take(self.hour, 1)

    def correct(self, used: int, now: int) -> None:
        """Replace the reservation by what was used."""
        tokens = self.account.tokens
        if used > self.reserved:
            tokens.advance(now)
            tokens.add(now, used - self.reserved)
        elif used < self.reserved and self.reservation is not None:
            tokens.take(self.reservation, self.reserved - used)


class MemoryLimiter:
    """A `Limiter` for one process.

    Args:
        clock: nanoseconds, never going back; a wall clock that is set must not open or close a
            limit.
        minute: length of the shorter window in seconds; for tests.
        hour: length of the longer window in seconds; for tests.
    """

    def __init__(
        self,
        clock: Callable[[], int] = time.monotonic_ns,
        *,
        minute: float = MINUTE,
        hour: float = HOUR,
    ) -> None:
        self._clock = clock
        self._minute, self._hour = round(minute * SECOND), round(hour * SECOND)
        self._accounts: dict[str, _Account] = {}
        self._to_sweep: deque[_Account] = deque()
        self._until_sweep = SWEEP_EVERY

    @property
    def subjects(self) -> int:
        """Return the number of callers that take memory."""
        return len(self._accounts)

    @property
    def instant(self) -> Self:
        """Itself: nothing here waits."""
        return self

    async def admit(self, subject: str, policy: LimitPolicy) -> Admission:
        """See `Limiter.admit`."""
        return self.admit_now(subject, policy)

    async def reserve(self, admission: Admission, tokens: int) -> None:
        """See `Limiter.reserve`."""
        self.reserve_now(admission, tokens)

    async def settle(self, admission: Admission, tokens: int | None) -> None:
        """See `Limiter.settle`."""
        self.settle_now(admission, tokens)

    def admit_now(self, subject: str, policy: LimitPolicy) -> Admission:
        """See `Limiter.admit`."""
        if policy.is_unlimited:
            return Admission(subject, policy, None)
        now = self._clock()
        account = self._accounts.get(subject) or self._open(subject, now)
        minute, hour = account.minute, account.hour
        minute.advance(now)
        hour.advance(now)
        per_minute, per_hour = policy.requests_per_minute, policy.requests_per_hour
        places = policy.concurrent_requests
        if (
            (places is not None and account.concurrent >= places)
            or (per_minute is not None and minute.total >= per_minute)
            or (per_hour is not None and hour.total >= per_hour)
        ):
            raise _refusal(account, policy, now)
        account.concurrent += 1
        taken = _Taken(
            account,
            None if per_minute is None else minute.add(now, 1),
            None if per_hour is None else hour.add(now, 1),
        )
        self._until_sweep -= 1
        if not self._until_sweep:
            self._until_sweep = SWEEP_EVERY
            self._sweep(now, SWEEP_EVERY)
        return Admission(subject, policy, _standing(account, policy, now), taken)

    def reserve_now(self, admission: Admission, tokens: int) -> None:
        """See `Limiter.reserve`."""
        taken: _Taken | None = admission.handle
        limit = admission.policy.tokens_per_minute
        if taken is None or limit is None:
            return
        now = self._clock()
        account = taken.account
        account.tokens.advance(now)
        wait = account.tokens.wait(now, tokens, limit)
        if wait:
            admission.handle = None
            taken.undo()
            account.advance(now)
            standing = _standing(account, admission.policy, now)
            raise Refused("tokens_per_minute", limit, wait=wait / SECOND, standing=standing)
        if tokens:
            taken.reservation, taken.reserved = account.tokens.add(now, tokens), tokens

    def settle_now(self, admission: Admission, tokens: int | None) -> None:
        """See `Limiter.settle`."""
        taken: _Taken | None = admission.handle
        if taken is None:
            return
        admission.handle = None
        taken.account.concurrent -= 1
        if (
            tokens is not None
            and tokens != taken.reserved
            and admission.policy.tokens_per_minute is not None
        ):
            taken.correct(tokens, self._clock())

    async def standing(self, subject: str, policy: LimitPolicy) -> dict[str, int]:
        """See `Limiter.standing`."""
        del policy
        account = self._accounts.get(subject) or _Account(subject, self._minute, self._hour)
        account.advance(self._clock())
        return {
            "requests_per_minute": account.minute.total,
            "requests_per_hour": account.hour.total,
            "tokens_per_minute": account.tokens.total,
            "concurrent_requests": account.concurrent,
        }

    async def reset(self, subject: str) -> None:
        """See `Limiter.reset`."""
        account = self._accounts.get(subject)
        if account is not None:
            account.minute.clear()
            account.hour.clear()
            account.tokens.clear()

    async def close(self) -> None:
        """See `Limiter.close`."""

    def _open(self, subject: str, now: int) -> _Account:
        self._sweep(now, 2)  # more than come, also where every one is refused at once
        account = self._accounts[subject] = _Account(subject, self._minute, self._hour)
        self._to_sweep.append(account)
        return account

    def _sweep(self, now: int, count: int) -> None:
        """Look at the next few callers, in turn, and forget those of whom nothing is counted."""
        for _ in range(min(count, len(self._to_sweep))):
            account = self._to_sweep.popleft()
            if account.is_idle(now):
                del self._accounts[account.subject]
            else:
                self._to_sweep.append(account)


def _refusal(account: _Account, policy: LimitPolicy, now: int) -> Refused:
    """Return why a request does not fit; the longest wait is what the caller is told."""
    refusals: list[tuple[float, str, int]] = []
    places = policy.concurrent_requests
    if places is not None and account.concurrent >= places:
        refusals.append((PLACE_WAIT, "concurrent_requests", places))
    for name, window, limit in (
        ("requests_per_minute", account.minute, policy.requests_per_minute),
        ("requests_per_hour", account.hour, policy.requests_per_hour),
    ):
        if limit is not None and (wait := window.wait(now, 1, limit)):
            refusals.append((wait / SECOND, name, limit))
    wait_seconds, name, maximum = max(refusals)
    standing = _standing(account, policy, now)
    return Refused(name, maximum, wait=wait_seconds, standing=standing)


def _standing(account: _Account, policy: LimitPolicy, now: int) -> Standing | None:
    minute, hour = account.minute, account.hour
    window = hour if policy.requests_per_minute is None else minute
    return standing_of(policy, minute.total, hour.total, window.reset_after(now) / SECOND)
