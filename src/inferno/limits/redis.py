"""Limits that several processes share, in Redis: one atomic script, one round trip for each call.

Concurrent places are leases: those of a process that was killed come back when they end. Time is
Redis' own, so that the processes' clocks do not matter.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from inferno.core.errors import ConfigurationError, Overloaded
from inferno.core.tenancy import LimitPolicy
from inferno.limits import scripts
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
from inferno.limits.script_server import Arguments, Script, ScriptServer, ServerAway

T = TypeVar("T")

SECOND = 1_000_000
"""In the microseconds of Redis' clock."""

UNSETTLED = 10_000
"""Settlements that are kept for when Redis is back; the leases of others end by themselves."""

_ADMIT = Script(scripts.ADMIT)
_RESERVE = Script(scripts.RESERVE)
_SETTLE = Script(scripts.SETTLE)
_STANDING = Script(scripts.STANDING)
_RESET = Script(scripts.RESET)


@dataclass(slots=True)
class _Lease:
    """What one admission holds: its id and the names of its entries, empty where there is none."""

    id: str
    keys: list[str]
    minute: bytes
    hour: bytes
    reservation: bytes = b""
    reserved: int = 0
    reserving: asyncio.Task[None] | None = None


class RedisLimiter:
    """A `Limiter` for all processes that use the same Redis.

    Args:
        url: of the Redis server.
        on_failure: what happens while it is away: "open" lets every request in, "closed" none.
        lease_seconds: after which a concurrent place comes back that was not given back: longer
            than any request takes. The same in all processes.
        prefix: of all keys, so that others may use the same server.
        timeout: seconds for Redis to answer.
        connections: most that are open at a time.
        minute: length of the shorter window in seconds; for tests.
        hour: length of the longer window in seconds; for tests.

    Raises:
        ConfigurationError: the URL or the prefix cannot work.
    """

    def __init__(
        self,
        url: str,
        *,
        on_failure: Literal["open", "closed"],
        lease_seconds: float,
        prefix: str = "inferno:limits",
        timeout: float = 0.25,
        connections: int = 64,
        minute: float = MINUTE,
        hour: float = HOUR,
    ) -> None:
        if "{" in prefix:  # a cluster would take it for the part that decides on the slot
            raise ConfigurationError("The prefix of Redis keys must not contain '{'.")
        self._server = ScriptServer(url, timeout=timeout, connections=connections)
        self._prefix = prefix
        self._is_open = on_failure == "open"
        self._lease = round(lease_seconds * SECOND)
        self._windows = (
            round(minute * SECOND),
            round(hour * SECOND),
            EXACT_REQUESTS,
            EXACT_RESERVATIONS,
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unsettled: deque[tuple[list[str], Arguments]] = deque(maxlen=UNSETTLED)
        self._is_settling = False

    @property
    def instant(self) -> None:
        """Nobody: Redis has to be asked."""

    async def admit(self, subject: str, policy: LimitPolicy) -> Admission:
        """See `Limiter.admit`.

        Raises:
            Refused: a limit is used up; nothing was counted.
            Overloaded: Redis is away, and that closes the limits.
        """
        if policy.is_unlimited:
            return Admission(subject, policy, None)
        task = self._start(self._admit(subject, policy))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._abandon)
            raise

    async def reserve(self, admission: Admission, tokens: int) -> None:
        """See `Limiter.reserve`.

        Raises:
            Refused: they do not fit; the admission is undone as if it had never been.
            Overloaded: Redis is away, and that closes the limits; settle the admission all the
                same.
        """
        lease: _Lease | None = admission.handle
        limit = admission.policy.tokens_per_minute
        if lease is not None and limit is not None:
            lease.reserving = self._start(self._reserve(admission, lease, tokens, limit))
            await asyncio.shield(lease.reserving)

    async def settle(self, admission: Admission, tokens: int | None) -> None:
        """See `Limiter.settle`; what Redis cannot take now, it is told when it is back."""
        lease: _Lease | None = admission.handle
        if lease is None:
            return
        admission.handle = None
        if admission.policy.tokens_per_minute is None:
            tokens = None
        # The caller may be cancelled, as its client has left; the place is given back all the same.
        await asyncio.shield(self._start(self._settle(lease, tokens)))

    async def standing(self, subject: str, policy: LimitPolicy) -> dict[str, int]:
        """See `Limiter.standing`.

        Raises:
            Overloaded: Redis is away.
        """
        reply = await self._ask(_STANDING, self._keys(subject), self._arguments(policy))
        minute, hour, tokens, concurrent = reply
        return {
            "requests_per_minute": minute,
            "requests_per_hour": hour,
            "tokens_per_minute": tokens,
            "concurrent_requests": concurrent,
        }

    async def reset(self, subject: str) -> None:
        """See `Limiter.reset`.

        Raises:
            Overloaded: Redis is away.
        """
        await self._ask(_RESET, self._keys(subject), ())

    async def close(self) -> None:
        """See `Limiter.close`; what was begun is finished before."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.close()

    def _keys(self, subject: str) -> list[str]:
        """Return the keys of a subject; hashed, whatever it contains, they name one slot."""
        digest = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return [f"{self._prefix}:{{{digest}}}:{name}" for name in scripts.KEYS]

    def _arguments(self, policy: LimitPolicy) -> Arguments:
        """Return what all scripts take first."""
        return (*self._windows, "hour" if policy.requests_per_minute is None else "minute")

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start what runs to its end, whatever becomes of the caller."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, script: Script, keys: list[str], arguments: Arguments) -> Any:
        reply = await self._server.run(script, keys, arguments)
        if self._unsettled and not self._is_settling:
            self._is_settling = True
            self._start(self._settle_rest())
        return reply

    async def _ask(self, script: Script, keys: list[str], arguments: Arguments) -> Any:
        try:
            return await self._run(script, keys, arguments)
        except ServerAway as error:
            raise _unreachable() from error

    async def _admit(self, subject: str, policy: LimitPolicy) -> Admission:
        keys, identifier = self._keys(subject), uuid.uuid4().hex
        limits = (policy.requests_per_minute, policy.requests_per_hour, policy.concurrent_requests)
        arguments = (
            *self._arguments(policy),
            identifier,
            self._lease,
            *(-1 if limit is None else limit for limit in limits),
        )
        try:
            reply = await self._run(_ADMIT, keys, arguments)
        except ServerAway as away:
            if away.tried:  # Redis may have heard, and lost the answer
                lost = _Lease(identifier, keys, b"", b"")
                self._unsettled.append(self._settlement(lost, None))
            if self._is_open:
                return Admission(subject, policy, None)
            raise _unreachable() from away
        if not reply[0]:
            raise _refusal(policy, reply)
        _, minute, hour, *used = reply
        return Admission(
            subject, policy, _standing(policy, used), _Lease(identifier, keys, minute, hour)
        )

    async def _reserve(self, admission: Admission, lease: _Lease, tokens: int, limit: int) -> None:
        entries = (lease.minute.decode(), lease.hour.decode())
        arguments = (*self._arguments(admission.policy), lease.id, *entries, tokens, limit)
        try:
            reply = await self._run(_RESERVE, lease.keys, arguments)
        except ServerAway as away:
            if self._is_open:
                return
            raise _unreachable() from away
        if reply[0]:
            lease.reservation, lease.reserved = reply[1], tokens
            return
        admission.handle = None
        wait, standing = reply[1] / SECOND, _standing(admission.policy, reply[2:])
        raise Refused("tokens_per_minute", limit, wait=wait, standing=standing)

    def _abandon(self, task: asyncio.Task[Admission]) -> None:
        """Give back what nobody waited for."""
        if not task.cancelled() and task.exception() is None:
            self._start(self.settle(task.result(), None))

    async def _settle(self, lease: _Lease, tokens: int | None) -> None:
        if lease.reserving is not None and not lease.reserving.done():
            await asyncio.wait([lease.reserving])  # its caller was cancelled meanwhile
        settlement = self._settlement(lease, tokens)
        try:
            await self._run(_SETTLE, *settlement)
        except ServerAway:
            self._unsettled.append(settlement)

    async def _settle_rest(self) -> None:
        """Catch up on what could not be settled; what was settled unheard is not settled twice."""
        try:
            while self._unsettled:
                settlement = self._unsettled.popleft()
                try:
                    await self._server.run(_SETTLE, *settlement)
                except ServerAway:
                    self._unsettled.appendleft(settlement)
                    return
        finally:
            self._is_settling = False

    def _settlement(self, lease: _Lease, tokens: int | None) -> tuple[list[str], Arguments]:
        used = -1 if tokens is None else tokens
        reservation = (lease.reservation.decode(), lease.reserved)
        return lease.keys, (*self._windows, "minute", lease.id, *reservation, used)


def _unreachable() -> Overloaded:
    return Overloaded("The rate limiter cannot be reached.", retry_after=1)


def _refusal(policy: LimitPolicy, reply: list[int]) -> Refused:
    """Return why a request was refused; the longest wait is what the caller is told."""
    _, is_full, minute, hour, *used = reply
    wait, name, maximum = max(
        (PLACE_WAIT if is_full else 0.0, "concurrent_requests", policy.concurrent_requests or 0),
        (minute / SECOND, "requests_per_minute", policy.requests_per_minute or 0),
        (hour / SECOND, "requests_per_hour", policy.requests_per_hour or 0),
    )
    return Refused(name, maximum, wait=wait, standing=_standing(policy, used))


def _standing(policy: LimitPolicy, used: list[int]) -> Standing | None:
    minute, hour, reset_after = used
    return standing_of(policy, minute, hour, reset_after / SECOND)
