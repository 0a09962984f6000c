"""Runs scripts on a Redis server, and gives up on it quickly when it is away."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from inferno.core.errors import ConfigurationError
from inferno.limits.breaker import Breaker

WARN_EVERY = 10.0
"""Seconds between two warnings that the server is away."""

Arguments = tuple[str | int, ...]


class ServerAway(Exception):
    """The server gave no answer.

    Args:
        tried: whether it was asked, so that it may have done what it was asked for.
    """

    def __init__(self, *, tried: bool) -> None:
        super().__init__("The Redis server gave no answer.")
        self.tried = tried


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name that the server knows it by."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha)


class ScriptServer:
    """A Redis server.

    Args:
        url: where it is (`redis://`, `rediss://`, `unix://`).
        timeout: seconds for it to connect, and to answer.
        connections: most that are open at a time; further calls wait for one.
    """

    def __init__(self, url: str, *, timeout: float, connections: int) -> None:
        try:
            self._redis: Redis = Redis.from_url(
                url,
                max_connections=connections,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                # Asking again might count twice what the server has counted already.
                retry=Retry(NoBackoff(), 0),
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
            )
        except (ValueError, TypeError) as error:
            # Without the reason: it may hold the URL and with it the password.
            raise ConfigurationError(
                "The Redis URL is not valid; it looks like redis://HOST:6379/0."
            ) from error
        self._free = asyncio.Semaphore(connections)
        self._breaker = Breaker()
        self._warned_at = -WARN_EVERY

    async def run(self, script: Script, keys: Sequence[str], arguments: Arguments) -> Any:
        """Run a script and return its reply.

        Raises:
            ServerAway: there was no answer, or none was waited for.
        """
        was_broken = self._breaker.is_broken
        if not self._breaker.may_try():
            raise ServerAway(tried=False)
        async with self._free:
            if self._breaker.is_broken and not was_broken:  # meanwhile
                raise ServerAway(tried=False)
            try:
                reply = await self._call(script, keys, arguments)
            except (RedisError, OSError, TimeoutError) as error:
                self._failed(error)
                raise ServerAway(tried=True) from error
        if self._breaker.succeeded():
            self._log().info("rate_limiter_back")
        return reply

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    async def _call(self, script: Script, keys: Sequence[str], arguments: Arguments) -> Any:
        try:
            return await self._redis.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # the server has restarted, or is new
            return await self._redis.eval(script.source, len(keys), *keys, *arguments)

    def _failed(self, error: Exception) -> None:
        self._breaker.failed()
        now = time.monotonic()
        if now - self._warned_at >= WARN_EVERY:
            self._warned_at = now
            self._log().warning("rate_limiter_away", error=f"{type(error).__name__}: {error}")

    @staticmethod
    def _log() -> Any:
        return structlog.get_logger(__name__)
