"""Watching a kind: a position in the event history that moves forward."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, Literal, TypeVar, cast

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import Expired
from inferno.core.resources import Resource
from inferno.storage.base import WatchEvent
from inferno.storage.database import Database
from inferno.storage.documents import decode, kind_key
from inferno.storage.feed import Feed
from inferno.storage.journal import read_version
from inferno.storage.tables import resource_events, resource_history

R = TypeVar("R", bound=Resource)

_BATCH = 256
"""Events read at once, which is also the most that a watch holds in memory."""


class Watch(AsyncIterator[WatchEvent[R]], Generic[R]):
    """Iterates over changes of a kind after a version.

    It owns nothing that needs closing, and a cancelled `anext` loses no event: the next one goes
    on where the last one that returned was.

    Args:
        database: where the events are.
        feed: says when there are new ones.
        kind: what to watch.
        since: version after which to start.
    """

    def __init__(self, database: Database, feed: Feed, kind: type[R], since: int) -> None:
        self._database = database
        self._feed = feed
        self._kind = kind
        self._key = kind_key(kind)
        self._position = since
        self._read: deque[tuple[int, str, str]] = deque()
        self._is_behind = True

    def __aiter__(self) -> Watch[R]:
        return self

    async def __anext__(self) -> WatchEvent[R]:
        """Return the next change. Raises Expired."""
        while not self._read:
            if not self._is_behind and not await self._feed.newer(self._key, self._position):
                raise StopAsyncIteration
            if self._feed.closed:
                raise StopAsyncIteration
            await self._catch_up()
        version, event, document = self._read.popleft()
        return WatchEvent(
            cast("Literal['ADDED', 'MODIFIED', 'DELETED']", event),
            decode(document, self._kind),
            version,
        )

    async def _catch_up(self) -> None:
        async with self._database.read() as connection:
            newest = await read_version(connection)
            await self._check_history(connection, newest)
            events = resource_events.c
            found = await connection.execute(
                select(events.version, events.type, events.document)
                .where(events.kind == self._key, events.version > self._position)
                .order_by(events.version)
                .limit(_BATCH)
            )
            rows = found.all()
        self._is_behind = len(rows) == _BATCH
        self._position = rows[-1][0] if self._is_behind else newest
        self._read.extend(rows)

    async def _check_history(self, connection: AsyncConnection, newest: int) -> None:
        query = select(resource_history.c.pruned_through).where(
            resource_history.c.kind == self._key
        )
        pruned = await connection.scalar(query) or 0
        # A version from the future comes from another database, whose history is not ours.
        if self._position < pruned or self._position > newest:
            raise Expired(
                f"The changes after version {self._position} are no longer kept; list again.",
                resource_version=newest,
            )
