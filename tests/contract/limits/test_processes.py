"""Several processes share one limit in Redis."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferno.limits.base import Refused
from tests.contract.limits.subject import RedisServer, policy
from tests.contract.limits.worker import ROLLING, ROLLING_WINDOW, SHARED

ROOT = Path(__file__).parents[3]
PROCESSES = 50
TASKS = 15


@contextlib.contextmanager
def processes(
    server: RedisServer, prefix: str, job: str, number: int, count: int
) -> Iterator[subprocess.Popen[str]]:
    """Start processes that do a job, and kill what is left of them."""
    command = [sys.executable, "-m", "tests.contract.limits.worker", server.url, prefix, job]
    started = subprocess.Popen(
        [*command, str(number), str(count)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate()


def results(started: subprocess.Popen[str]) -> list[int]:
    output, _ = started.communicate(timeout=30)
    numbers: list[int] = json.loads(output)
    return numbers


async def test_limit_is_neither_exceeded_nor_lost_by_one(
    redis_server: RedisServer, prefix: str
) -> None:
    with processes(redis_server, prefix, "share", TASKS, PROCESSES) as started:
        outcomes = results(started)
    assert len(outcomes) == PROCESSES * TASKS
    assert sum(outcomes) == SHARED.requests_per_minute
    limiter = redis_server.limiter(prefix)
    assert await limiter.standing("shared", SHARED) == {
        "requests_per_minute": 500,
        "requests_per_hour": 500,
        "tokens_per_minute": 10_000,
        "concurrent_requests": 0,
    }
    await limiter.close()


def test_no_stretch_of_time_holds_more_and_no_place_stays_empty(
    redis_server: RedisServer, prefix: str
) -> None:
    with processes(redis_server, prefix, "roll", 2, 4) as started:
        times = sorted(results(started))
    limit = ROLLING.requests_per_minute
    assert limit is not None
    window = ROLLING_WINDOW * 1e6
    ages = [later - first for first, later in zip(times, times[limit:], strict=False)]
    assert min(ages) >= window
    assert min(ages) < window + 50_000  # and somebody came in as soon as there was room


async def test_places_of_a_killed_process_come_back(redis_server: RedisServer, prefix: str) -> None:
    limiter, limits = redis_server.limiter(prefix), policy(concurrent=3)
    with processes(redis_server, prefix, "hold", 3, 1) as holder:
        assert holder.stdout is not None
        while holder.stdout.readline() != "holding\n":
            pass
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()
        with pytest.raises(Refused):  # nobody knows yet
            await limiter.admit("held", limits)
    for _ in range(100):
        with contextlib.suppress(Refused):
            await limiter.admit("held", limits)
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("The places of a killed process did not come back.")
    await limiter.close()
