"""What the contract is tested on: a limiter, and the time that it goes by."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from inferno.core.tenancy import UNLIMITED, LimitPolicy
from inferno.limits.base import Limiter
from inferno.limits.memory import MemoryLimiter
from inferno.limits.redis import RedisLimiter

MINUTE, HOUR = 1.0, 1.8
"""The windows under test in seconds, as Redis' clock cannot be set."""


def policy(
    *,
    minute: int | None = None,
    hour: int | None = None,
    tokens: int | None = None,
    concurrent: int | None = None,
) -> LimitPolicy:
    """Return a policy that limits what is named."""
    limits = LimitPolicy(
        requests_per_minute=minute,
        requests_per_hour=hour,
        tokens_per_minute=tokens,
        concurrent_requests=concurrent,
    )
    assert limits != UNLIMITED
    return limits


class RedisServer:
    """A Redis server of our own, that can be stopped and started again.

    Args:
        binary: of redis-server.
        folder: for its socket and its log.
    """

    def __init__(self, binary: str, folder: str) -> None:
        self._binary = binary
        self._folder = Path(folder)
        self._process: Popen[bytes] | None = None
        self.url = f"unix://{folder}/redis.sock"

    def start(self) -> None:
        options = {"port": "0", "unixsocket": f"{self._folder}/redis.sock", "save": ""}
        options |= {"appendonly": "no", "dir": str(self._folder), "logfile": "log"}
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = Popen([self._binary, *flags], stdout=DEVNULL, stderr=DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.client().ping()
            except RedisConnectionError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("Redis did not start:\n" + (self._folder / "log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def limiter(self, prefix: str, **changes: Any) -> RedisLimiter:
        """Return a limiter that is patient with a busy machine."""
        arguments: dict[str, Any] = {"on_failure": "closed", "lease_seconds": 30, "timeout": 10}
        return RedisLimiter(self.url, prefix=prefix, **(arguments | changes))

    def client(self) -> Redis:
        return Redis.from_url(self.url)


class Subject(ABC):
    """A limiter and its clock."""

    limiter: Limiter

    @abstractmethod
    async def pass_time(self, seconds: float) -> None:
        """Let at least so much time pass."""

    @abstractmethod
    def is_within(self, start: float, seconds: float) -> bool:
        """Return whether surely less time has passed since `start`."""

    @abstractmethod
    def now(self) -> float:
        """Return the time in seconds."""


class MemorySubject(Subject):
    """A limiter in memory, by a clock that the test moves."""

    def __init__(self) -> None:
        self.nanoseconds = 5_000_000_000
        self.limiter = MemoryLimiter(lambda: self.nanoseconds, minute=MINUTE, hour=HOUR)

    async def pass_time(self, seconds: float) -> None:
        self.nanoseconds += round(seconds * 1e9)

    def is_within(self, start: float, seconds: float) -> bool:
        return self.now() - start < seconds

    def now(self) -> float:
        return self.nanoseconds / 1e9


class RedisSubject(Subject):
    """A limiter in Redis, by the time that really passes."""

    def __init__(self, server: RedisServer, prefix: str) -> None:
        self.limiter = server.limiter(prefix, minute=MINUTE, hour=HOUR)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds + 0.001)

    def is_within(self, start: float, seconds: float) -> bool:
        return self.now() - start < seconds

    def now(self) -> float:
        return time.monotonic()
