"""Processes that share limits: `python -m … URL PREFIX JOB NUMBER PROCESSES`.

Each does the job; what they were let do is printed as JSON. They are forked from one that has
loaded everything, as long as nothing runs in it yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import sys
import time

from inferno.limits.base import Refused
from inferno.limits.redis import RedisLimiter
from tests.contract.limits.subject import policy

SHARED = policy(minute=500, hour=700, tokens=10_000, concurrent=5_000)
"""Of which the hour is generous, the minute fills up, and so do the tokens at 20 each."""

ROLLING = policy(minute=20)
ROLLING_WINDOW = 0.4


def limiter(url: str, prefix: str, *, minute: float = 60.0) -> RedisLimiter:
    return RedisLimiter(
        url,
        on_failure="closed",
        lease_seconds=2,
        prefix=prefix,
        timeout=20,
        connections=4,
        minute=minute,
    )


async def share(url: str, prefix: str, tasks: int) -> list[int]:
    """Make requests at a time, each with tokens."""
    shared = limiter(url, prefix)

    async def one() -> int:
        try:
            admission = await shared.admit("shared", SHARED)
            await shared.reserve(admission, 20)
        except Refused:
            return 0
        await shared.settle(admission, 20)
        return 1

    results = await asyncio.gather(*(one() for _ in range(tasks)))
    await shared.close()
    return results


async def roll(url: str, prefix: str, seconds: int) -> list[int]:
    """Ask without pause; return Redis' times of what was let in, in microseconds."""
    shared = limiter(url, prefix, minute=ROLLING_WINDOW)
    end, times = time.monotonic() + seconds, []
    while time.monotonic() < end:
        with contextlib.suppress(Refused):
            admission = await shared.admit("rolling", ROLLING)
            times.append(int(admission.handle.minute))
            await shared.settle(admission, None)
    await shared.close()
    return times


async def hold(url: str, prefix: str, places: int) -> list[int]:
    """Take places and keep them."""
    shared = limiter(url, prefix)
    for _ in range(places):
        await shared.admit("held", policy(concurrent=places))
    print("holding", flush=True)
    await asyncio.sleep(60)
    return []


JOBS = {"share": share, "roll": roll, "hold": hold}


def main() -> None:
    url, prefix, job, number, count = sys.argv[1:]
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    start = context.Barrier(int(count))

    def work() -> None:
        start.wait()
        results.put(asyncio.run(JOBS[job](url, prefix, int(number))))

    processes = [context.Process(target=work, daemon=True) for _ in range(int(count))]
    for process in processes:
        process.start()
    print(json.dumps([entry for _ in processes for entry in results.get()]))


if __name__ == "__main__":
    main()
