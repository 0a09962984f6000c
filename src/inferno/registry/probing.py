"""Looks whether the servers that are registered answer, and keeps what it finds in their entries.

Each round asks every active entry's server once, a few at a time. Only news is written: a server
that answers as it did costs the database nothing. Of several processes over one database, one
looks. Addresses are named by whoever registers, so they are connected to as webhooks are: only on
the public internet, unless the operator opens more, at the very address that was checked, without
redirects.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
import structlog

from inferno.core.errors import InfernoError
from inferno.registry.catalog import Catalog, decoded
from inferno.registry.entries import (
    ACTIVE,
    HEALTH,
    HEALTH_CHECK,
    HEALTHY,
    ID,
    STATE,
    UNHEALTHY,
    UNKNOWN,
    URL,
    Document,
    Finding,
)
from inferno.registry.finding import Finder, Query, parse
from inferno.registry.turn import Turn
from inferno.storage.database import Database
from inferno.storage.tables import registry_entries
from inferno.version import __version__
from inferno.webhooks.sending import Answer, Sender

DEFAULT_PATH = "/health"
FAILURES = 2
"""Looks in a row that have to fail until a healthy server counts as unhealthy."""

PAGE = 20
"""Servers that are looked at together; then others have their turn on the event loop."""

LEAST_PAUSE = 0.01
"""Between two rounds, in seconds, however many servers there are."""

LONGEST_PAUSE = 5.0
"""Between two pages of a round, in seconds: the turn has to be kept meanwhile."""

SHARE = 0.8
"""Of the interval, over which a round is spread."""

SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""How servers are asked, by the scheme of their URL; others are not."""

HEADERS = {"user-agent": f"inferno-registry/{__version__}"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """A server to look at.

    Args:
        id: of its entry.
        url: of its entry.
        state: of its health, as it is known; None where it is not.
        path: that its owner named; None for the usual one.
        is_wanted: whether the owner wants it to be looked at.
    """

    id: str
    url: str
    state: str | None
    path: str | None
    is_wanted: bool

    @classmethod
    def of(cls, entry: Document) -> Target:
        """Return what to look at for an entry."""
        check = entry.get(HEALTH_CHECK, {})
        return cls(
            id=entry[ID],
            url=entry[URL],
            state=entry.get(HEALTH, {}).get("state"),
            path=check.get("path"),
            is_wanted=check.get("enabled", True),
        )

    def address(self) -> str | None:
        """Return the URL to ask; None where it is none that we can ask."""
        parts = urlsplit(self.url)
        scheme = SCHEMES.get(parts.scheme)
        path = parts.path.rstrip("/") + (self.path or DEFAULT_PATH)
        return None if scheme is None else f"{scheme}://{parts.netloc}{path}"


def judged(answer: Answer, *, own_path: bool) -> tuple[str, str]:
    """Return what an answer says of a server's health, and why.

    Whoever names a path means that it answers with success. Of others it is enough that something
    speaks HTTP there and does not fail: many have no `/health`, or let nobody ask.

    Args:
        answer: of the server.
        own_path: whether the path is one that the entry's owner named.
    """
    if answer.refused:
        return UNKNOWN, "The registry does not look at such an address."
    if answer.status is None:
        return UNHEALTHY, answer.error
    if answer.status < 300 or (answer.status < 500 and not own_path):
        return HEALTHY, ""
    return UNHEALTHY, f"It answered {answer.status}."


_HAS_SERVER = sa.and_(registry_entries.c.state == ACTIVE, registry_entries.c.url.is_not(None))
_HOW_MANY = sa.select(sa.func.count()).select_from(registry_entries).where(_HAS_SERVER)


class HealthProber:
    """Looks at servers.

    Args:
        database: where the entries are.
        catalog: keeps what was found.
        sender: asks; knows which addresses are open.
        turn: whose turn it is.
        interval: seconds from the beginning of one round to that of the next.
        concurrency: servers that are asked at once.
    """

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        sender: Sender,
        turn: Turn,
        *,
        interval: float,
        concurrency: int,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._finder = Finder(database)
        self._sender = sender
        self._turn = turn
        self._interval = interval
        self._places = asyncio.Semaphore(concurrency)
        self._failures: dict[str, int] = {}

    @asynccontextmanager
    async def probing(self) -> AsyncIterator[None]:
        """Look while the block runs; with an interval of 0, only forget what was once found."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._run() if self._interval else self._forget())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait({task})
                if self._interval:
                    with suppress(InfernoError):
                        await self._turn.give_up()

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                if await self._turn.take():
                    await self.look(within=self._interval * SHARE)
            except InfernoError as error:
                log.warning("registry_not_probed", error=error.message)
            except Exception:  # the registry serves, whatever is the matter here
                log.exception("registry_probing_failed")
            await asyncio.sleep(max(LEAST_PAUSE, began + self._interval - time.monotonic()))

    async def look(self, *, within: float = 0.0) -> None:
        """Look at every server once.

        Args:
            within: seconds over which to spread it.
        """
        after, seen = 0, set[str]()
        async with self._database.read() as connection:
            count = int(await connection.scalar(_HOW_MANY) or 0)
        pause = min(within * PAGE / count, LONGEST_PAUSE) if count > PAGE else 0.0
        while rows := await self._page(after):
            if after:
                await asyncio.sleep(pause)
            after = rows[-1].seq
            targets = [Target.of(decoded(row.document)) for row in rows]
            seen.update(target.id for target in targets)
            async with asyncio.TaskGroup() as tasks:
                looks = [tasks.create_task(self._examine(target)) for target in targets]
            news = [finding for look in looks if (finding := look.result()) is not None]
            if not await self._turn.take():
                return  # another process has taken over: what it finds is newer
            if news:
                await self._catalog.note_health(news)
        self._failures = {id_: n for id_, n in self._failures.items() if id_ in seen}

    async def _page(self, after: int) -> list[Any]:
        columns = registry_entries.c
        query = sa.select(columns.seq, columns.document).where(_HAS_SERVER, columns.seq > after)
        async with self._database.read() as connection:
            return list((await connection.execute(query.order_by(columns.seq).limit(PAGE))).all())

    async def _examine(self, target: Target) -> Finding | None:
        """Look at a server; return what is news."""
        if not target.is_wanted:
            return Finding(target.id, target.url, None) if target.state is not None else None
        state, reason = await self._ask(target)
        if state == UNHEALTHY:
            failures = self._failures[target.id] = self._failures.get(target.id, 0) + 1
            if target.state == HEALTHY and failures < FAILURES:
                return None
        else:
            self._failures.pop(target.id, None)
        return Finding(target.id, target.url, state, reason) if state != target.state else None

    async def _ask(self, target: Target) -> tuple[str, str]:
        address = target.address()
        if address is None:
            return UNKNOWN, "The registry only speaks HTTP."
        async with self._places:
            answer = await self._sender.send(address, HEADERS, b"", method="GET")
        return judged(answer, own_path=target.path is not None)

    async def _forget(self) -> None:
        """Take out of the entries what was found when somebody looked; now nobody does."""
        try:
            if await self._turn.is_taken():
                return
            wanted = {f"{HEALTH}.state": {"$in": [HEALTHY, UNHEALTHY, UNKNOWN]}, STATE: ACTIVE}
            query = Query(filter=parse(wanted), limit=PAGE)
            noted = PAGE
            while noted:
                found = (await self._finder.find(query)).documents
                old = [Finding(entry[ID], entry[URL], None) for entry in found]
                noted = await self._catalog.note_health(old) if old else 0
        except InfernoError as error:
            log.warning("registry_health_not_forgotten", error=error.message)
