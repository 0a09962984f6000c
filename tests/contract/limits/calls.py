"""What the tests of limiters do over and over."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from inferno.core.tenancy import LimitPolicy
from inferno.limits.base import Admission, Limiter, Refused


async def admitted(limiter: Limiter, name: str, limits: LimitPolicy, times: int) -> int:
    """Return how many of so many requests at a time are let in; they end at once."""

    async def one() -> bool:
        with contextlib.suppress(Refused):
            await limiter.settle(await limiter.admit(name, limits), None)
            return True
        return False

    return sum(await asyncio.gather(*(one() for _ in range(times))))


async def refusal(limiter: Limiter, name: str, limits: LimitPolicy) -> Refused:
    with pytest.raises(Refused) as caught:
        await limiter.admit(name, limits)
    return caught.value


async def enter(
    limiter: Limiter, name: str, limits: LimitPolicy, tokens: int | None = None
) -> Admission:
    admission = await limiter.admit(name, limits)
    if tokens is not None:
        await limiter.reserve(admission, tokens)
    return admission
