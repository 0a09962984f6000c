"""Run with `python -m benchmarks.identity`; takes about 10 seconds.

Each operation is timed alone, so that the clock's own 0.1 µs is in every figure. The kinds take
turns, so that all meet the same disturbances. The aim: a key found, a request admitted, its tokens
reserved and settled, in under 30 µs at the median. Peers that are not installed are left out.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import random
import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from inferno.core.tenancy import DEFAULT_TENANT, ROLE_PERMISSIONS, LimitPolicy, Principal, Role
from inferno.identity import api_keys
from inferno.identity.api_keys import KeyRing, KnownKey
from inferno.limits.base import Refused
from inferno.limits.memory import MemoryLimiter

KEYS = 10_000
ROUNDS = 20
OPERATIONS = 1_000
"""Of each kind in each round."""

AIM = 30.0
SECONDS = 15.0
"""After which no further round begins."""

FLOOD = 10
"""Wrong keys that arrive together, once a millisecond."""

Operation = Callable[[int], Awaitable[None]]
"""Does it once for the caller of this number."""


@dataclass
class Kind:
    """What is measured, and its times in nanoseconds."""

    name: str
    operation: Operation
    times: array[int] = field(default_factory=lambda: array("q"))

    async def measure(self, callers: list[int]) -> None:
        """Time the operation for each of the callers."""
        operation, times, clock = self.operation, self.times, time.perf_counter_ns
        for caller in callers:
            start = clock()
            await operation(caller)
            times.append(clock() - start)

    def quantile(self, share: float) -> float:
        """Return what so many of the times do not exceed, in microseconds."""
        return sorted(self.times)[int(share * (len(self.times) - 1))] / 1e3


class Door:
    """A key ring and a limiter, with keys to try."""

    def __init__(self) -> None:
        secrets = [api_keys.generate() for _ in range(KEYS)]
        self.headers = [f"Bearer {secret}".encode() for secret in secrets]
        self.wrong = [f"Bearer {api_keys.generate()}".encode() for _ in range(KEYS)]
        self.ring = KeyRing(
            KnownKey(api_keys.digest(secret), _principal(number))
            for number, secret in enumerate(secrets)
        )
        self.subjects = [f"key:key-{number}" for number in range(KEYS)]
        self.limits = LimitPolicy()
        self.limiter, self.shared = MemoryLimiter(), MemoryLimiter()

    def find(self, header: bytes) -> Principal | None:
        """Return whom a header stands for."""
        scheme, _, key = header.partition(b" ")
        return self.ring.find(key) if scheme.lower() == b"bearer" else None

    async def identify(self, caller: int) -> None:
        """Find a right key."""
        self.find(self.headers[caller])

    async def reject(self, caller: int) -> None:
        """Look for a wrong key."""
        self.find(self.wrong[caller])

    async def count(self, caller: int) -> None:
        """Admit and settle."""
        admission = await self.limiter.admit(self.subjects[caller], self.limits)
        await self.limiter.settle(admission, None)

    async def both(self, caller: int) -> None:
        """Identify, admit, reserve, settle."""
        principal = self.find(self.headers[caller])
        assert principal is not None
        limiter = self.shared
        admission = await limiter.admit(principal.limit_subject, principal.limits)
        await limiter.reserve(admission, 20)
        await limiter.settle(admission, 10)

    async def refuse(self, caller: int) -> None:
        """Turn away a caller that has used up its limit."""
        del caller
        try:
            await self.limiter.admit("key:greedy", self.limits)
        except Refused:
            return

    async def both_in_turn(self, caller: int) -> None:
        """Identify and count after whatever else the event loop has to do."""
        await asyncio.sleep(0)
        await self.both(caller)

    async def flood(self) -> None:
        """Show wrong keys, `FLOOD` each millisecond, for ever."""
        sent, start = 0, time.perf_counter()
        while True:
            if sent < (time.perf_counter() - start) * 1e3:
                sent += 1
                for header in random.choices(self.wrong, k=FLOOD):
                    self.find(header)
            await asyncio.sleep(0)


def _principal(number: int) -> Principal:
    return Principal(
        user_id=f"user-{number}",
        username=f"user-{number}",
        tenant=DEFAULT_TENANT,
        role=Role.USER,
        permissions=ROLE_PERMISSIONS[Role.USER],
        credential="api_key",
        credential_id=f"key-{number}",
        limits=LimitPolicy(tokens_per_minute=1_000_000),
    )


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def peers() -> list[Kind]:
    """Return what others do in Python, as far as they are installed."""
    kinds: list[Kind] = []
    if (jwt := _optional("jwt")) is not None:
        secret = "s" * 32
        claims = {"sub": "user", "tenant": DEFAULT_TENANT, "role": "user", "exp": 2**32}
        token = jwt.encode(claims, secret, algorithm="HS256")

        async def decode(caller: int) -> None:
            del caller
            jwt.decode(token, secret, algorithms=["HS256"])

        kinds.append(Kind("PyJWT: decode HS256", decode))
    if (limits := _optional("limits")) is not None:
        limiter = limits.strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())
        minute, hour = limits.RateLimitItemPerMinute(60), limits.RateLimitItemPerHour(1000)

        async def hit(caller: int) -> None:
            name = f"key-{caller}"
            assert limiter.hit(minute, name)
            assert limiter.hit(hour, name)

        kinds.append(Kind("limits: moving window, minute and hour", hit))
    return kinds


async def measure(door: Door, quiet: list[Kind], flooded: list[Kind]) -> None:
    """Let the kinds take turns; the last ones while wrong keys pour in."""
    end = time.monotonic() + SECONDS
    for _ in range(ROUNDS):
        callers = random.sample(range(KEYS), OPERATIONS)
        for kind in quiet:
            await kind.measure(callers)
        flood = asyncio.create_task(door.flood())
        for kind in flooded:
            await kind.measure(callers)
        flood.cancel()
        gc.collect()
        if time.monotonic() > end:
            return


def show(kinds: list[Kind], reference: Kind) -> None:
    """Print a table; the last column compares the medians."""
    print(f"{KEYS:,} keys, {len(reference.times):,} operations of each kind; µs\n")
    print(f"{'':48}{'median':>9}{'p99':>9}{'ratio':>9}")
    for kind in kinds:
        ratio = kind.quantile(0.5) / reference.quantile(0.5)
        print(f"{kind.name:48}{kind.quantile(0.5):9.2f}{kind.quantile(0.99):9.2f}{ratio:9.2f}")
    verdict = "met" if reference.quantile(0.5) < AIM else "missed"
    print(f"\nAim: under {AIM:.0f} µs at the median for identification and limits: {verdict}.")


async def main() -> None:
    """Measure everything and print it."""
    door = Door()
    for _ in range(door.limits.requests_per_minute or 0):
        await door.limiter.settle(await door.limiter.admit("key:greedy", door.limits), None)
    both = Kind("identify, admit, reserve, settle", door.both)
    quiet = [
        Kind("identify: SHA-256 and look-up", door.identify),
        Kind("identify: wrong key", door.reject),
        Kind("limits in memory: admit, settle", door.count),
        Kind("limits in memory: refuse", door.refuse),
        both,
        Kind("the same after a turn of the event loop", door.both_in_turn),
    ]
    flooded = [Kind(f"the same beside {FLOOD * 1000:,} wrong keys/s", door.both_in_turn)]
    others = peers()
    await measure(door, [*quiet, *others], flooded)
    show([*quiet, *flooded, *others], both)


if __name__ == "__main__":
    asyncio.run(main())
