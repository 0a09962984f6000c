"""Counting what quotas are about: requests to a server, of a session and for a block.

Rates are sliding windows of one second (`limits.window`). What a session or a block has had in all
is counted until nobody has asked for an hour, or until somebody resets it. A request is counted
when it is given to a server; one that is refused counts nowhere. Counts are those of this process.

Sessions belong to tenants, which invent their names: a tenant has so many at most, and a new one
takes the place of that which was used the longest ago. Nothing here does I/O, and everything that
happens to a request takes constant time.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from inferno.core.errors import QuotaExceeded
from inferno.core.model_servers import ModelServer
from inferno.core.quotas import Quotas
from inferno.core.registry_queries import ENTRY_ANNOTATION
from inferno.limits.window import Window

SECOND = 1_000_000_000
"""In the clock's nanoseconds."""

IDLE_SECONDS = 3600
"""After which a session, a block or a server that nobody used is forgotten."""

MAX_SESSIONS = 10_000
"""Of one tenant."""

MAX_BLOCKS = 1_000
"""Of one server."""

LONGEST_NAME = 64
"""Characters of a session's name that are kept; of a longer one, its hash."""

EXACT = 1_000
"""Requests within a second that are told apart."""


def name_of(server: ModelServer) -> str:
    """Return by what name a server's requests are counted.

    An entry of the registry that is in several pools has one count for all of them.
    """
    metadata = server.metadata
    entry = metadata.annotations.get(ENTRY_ANNOTATION)
    return f"registry/{entry}" if entry else f"{metadata.namespace}/{metadata.name}"


class Claim(Protocol):
    """A request, as far as quotas are concerned."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def session(self) -> str:
        """Of which session; empty for none: it is one of its own then, and within any quota."""

    @property
    def block(self) -> str:
        """The name that servers know its model by."""


@dataclass(frozen=True, slots=True)
class UsedUp:
    """A quota that has no room.

    Args:
        quota: its name.
        limit: how many requests it is.
        wait: nanoseconds until there is room.
    """

    quota: str
    limit: int
    wait: int

    def error(self) -> QuotaExceeded:
        """Return what a caller is told."""
        seconds = max(1, math.ceil(self.wait / SECOND))
        return QuotaExceeded(self.quota, limit=self.limit, retry_after=seconds)


class Count:
    """Requests of one session, or for one block, at one server.

    Args:
        now: in the clock's nanoseconds.
    """

    __slots__ = ("number", "recent", "seen")

    def __init__(self, now: int) -> None:
        self.number = 0
        self.recent: Window | None = None
        self.seen = now

    def add(self, now: int, *, rated: bool) -> None:
        """Count a request, for a rate as well where there is one."""
        self.number += 1
        self.seen = now
        if rated:
            if self.recent is None:
                self.recent = Window(SECOND, EXACT)
            self.recent.advance(now)
            self.recent.add(now, 1)

    def in_last_second(self, now: int) -> int:
        """Return how many were counted in the last second, where that was counted."""
        if self.recent is None:
            return 0
        self.recent.advance(now)
        return self.recent.total

    def used_up(
        self, now: int, rate: int | None, most: int | None, names: tuple[str, str]
    ) -> UsedUp | None:
        """Return the quota that has no room for one more.

        Args:
            now: in the clock's nanoseconds.
            rate: requests within a second; None for any number.
            most: requests in all; likewise.
            names: of the two quotas.
        """
        if most is not None and self.number >= most and not is_idle(self.seen, now):
            return UsedUp(names[1], most, self.seen + IDLE_SECONDS * SECOND - now)
        if rate is not None and self.in_last_second(now) >= rate and self.recent is not None:
            return UsedUp(names[0], rate, self.recent.wait(now, 1, rate))
        return None


class Session:
    """What one session had of each server.

    Args:
        now: in the clock's nanoseconds.
    """

    __slots__ = ("counts", "seen")

    def __init__(self, now: int) -> None:
        self.counts: dict[str, Count] = {}
        self.seen = now


class ServerQuota:
    """The quotas of one server, with what is counted for all and for each block.

    Args:
        book: counts sessions, which go to many servers.
        server: by what name it is counted.
        limits: its quotas.
    """

    __slots__ = ("_book", "_total", "blocks", "limits", "seen", "server")

    def __init__(self, book: QuotaBook, server: str, limits: Quotas) -> None:
        self.server = server
        self.limits = limits
        self.blocks: OrderedDict[str, Count] = OrderedDict()
        self.seen = book.clock()
        self._book = book
        self._total = Window(SECOND, EXACT)

    def used_up(self, claim: Claim) -> UsedUp | None:
        """Return the quota that has no room for a request; None where all have."""
        now = self._book.clock()
        limits = self.limits
        total = limits.requests_per_second_total
        if total is not None:
            self._total.advance(now)
            if self._total.total >= total:
                wait = self._total.wait(now, 1, total)
                return UsedUp("requests_per_second_total", total, wait)
        found = None
        if limits.count_blocks and (count := self.blocks.get(claim.block)) is not None:
            rate, most = limits.requests_per_second_per_block_id, limits.requests_per_block_id
            found = count.used_up(now, rate, most, BLOCK_QUOTAS)
        if found is None and limits.count_sessions and claim.session:
            session = self._book.session(claim.tenant, claim.session)
            count = session.counts.get(self.server) if session is not None else None
            if count is not None:
                rate, most = limits.requests_per_second_per_session, limits.requests_per_session_id
                found = count.used_up(now, rate, most, SESSION_QUOTAS)
        return found

    def take(self, claim: Claim) -> None:
        """Count a request that is given to the server."""
        now = self.seen = self._book.clock()
        limits = self.limits
        if limits.requests_per_second_total is not None:
            self._total.advance(now)
            self._total.add(now, 1)
        if limits.count_blocks:
            rated = limits.requests_per_second_per_block_id is not None
            self._block(claim.block, now).add(now, rated=rated)
        if limits.count_sessions and claim.session:
            rated = limits.requests_per_second_per_session is not None
            self._book.count(claim, self.server, now).add(now, rated=rated)

    def _block(self, block: str, now: int) -> Count:
        count = self.blocks.get(block)
        if count is None or is_idle(count.seen, now):
            count = self.blocks[block] = Count(now)
            while len(self.blocks) > MAX_BLOCKS:
                self.blocks.popitem(last=False)
        self.blocks.move_to_end(block)
        return count


BLOCK_QUOTAS = ("requests_per_second_per_block_id", "requests_per_block_id")
SESSION_QUOTAS = ("requests_per_second_per_session", "requests_per_session_id")


class QuotaBook:
    """What has been counted, by server and by session.

    Args:
        clock: nanoseconds, never going back.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.clock = clock
        self._servers: dict[str, ServerQuota] = {}
        self._tenants: dict[str, OrderedDict[str, Session]] = {}

    def of(self, server: str, limits: Quotas | None) -> ServerQuota | None:
        """Return the quotas of a server with what was counted for it; None where it has none.

        A server that goes and comes back finds its counts again, and so does one whose quotas are
        changed.

        Args:
            server: by what name it is counted.
            limits: its quotas.
        """
        if limits is None:
            return None
        found = self._servers.get(server)
        if found is None:
            self._forget_servers()
            found = self._servers[server] = ServerQuota(self, server, limits)
        found.limits = limits
        found.seen = self.clock()
        return found

    def servers(self) -> Iterator[ServerQuota]:
        """Yield what is counted for each server."""
        yield from self._servers.values()

    def session(self, tenant: str, name: str) -> Session | None:
        """Return what a session had, unless it is not known, or not any more."""
        session = self._tenants.get(tenant, _NONE).get(_short(name))
        return None if session is None or is_idle(session.seen, self.clock()) else session

    def count(self, claim: Claim, server: str, now: int) -> Count:
        """Return the count of a request's session at a server; a new one where there is none."""
        sessions = self._tenants.setdefault(claim.tenant, OrderedDict())
        name = _short(claim.session)
        session = sessions.get(name)
        if session is None or is_idle(session.seen, now):
            session = sessions[name] = Session(now)
            sessions.move_to_end(name)
            _forget_sessions(sessions, now)
        sessions.move_to_end(name)
        session.seen = now
        count = session.counts.get(server)
        if count is None or is_idle(count.seen, now):
            count = session.counts[server] = Count(now)
        return count

    def reset(self, tenant: str, name: str) -> None:
        """Let a session begin anew; it stays known."""
        session = self.session(tenant, name)
        if session is not None:
            session.counts.clear()

    def forget(self, tenant: str, name: str) -> None:
        """Let go of a session."""
        sessions = self._tenants.get(tenant)
        if sessions is not None:
            sessions.pop(_short(name), None)
            if not sessions:
                del self._tenants[tenant]

    def _forget_servers(self) -> None:
        """Let go of servers that have not been there for long."""
        now = self.clock()
        for gone in [name for name, one in self._servers.items() if is_idle(one.seen, now)]:
            del self._servers[gone]


_NONE: OrderedDict[str, Session] = OrderedDict()


def is_idle(seen: int, now: int) -> bool:
    """Return whether something was used so long ago that it counts no more."""
    return now - seen > IDLE_SECONDS * SECOND


def _forget_sessions(sessions: OrderedDict[str, Session], now: int) -> None:
    """Let go of the oldest: of those that are too many, and two of those that are idle."""
    for _ in range(2):
        oldest = next(iter(sessions.values()))
        if len(sessions) <= MAX_SESSIONS and not is_idle(oldest.seen, now):
            return
        sessions.popitem(last=False)


def _short(name: str) -> str:
    """Return a name by which a session is kept."""
    if len(name) <= LONGEST_NAME:
        return name
    return hashlib.sha256(name.encode()).hexdigest() + "…"
