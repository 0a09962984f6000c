"""The change feed: what happens to entries that match a filter, in the order in which it happened.

Changes are read from the database, so those of other processes are told too, and a client that was
away goes on where it left (`since`, or `Last-Event-ID`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import sqlalchemy as sa

from inferno.core.documents.matching import matches
from inferno.core.documents.tree import Filter
from inferno.core.documents.weight import weight
from inferno.core.errors import Expired
from inferno.registry.catalog import TURNS, decoded
from inferno.registry.entries import Document
from inferno.registry.examining import Examiner
from inferno.storage.database import Database
from inferno.storage.tables import counters, registry_changes
from inferno.web.exchange import EVENT_STREAM, Exchange
from inferno.web.sse import encode_event

LOOK_EVERY = 0.5
COMMENT_EVERY = 15.0
AT_ONCE = 100
LONGEST = 3600.0
"""Seconds after which a client has to come back, with credentials that still hold."""


_NEWEST = sa.select(counters.c.value).where(counters.c.name == TURNS)


class Watcher:
    """Streams changes.

    Args:
        database: where they are.
        stopping: set when the platform goes.
    """

    def __init__(self, database: Database, stopping: asyncio.Event) -> None:
        self._database = database
        self._stopping = stopping
        self._looking = asyncio.Lock()
        self._looked = -LOOK_EVERY
        self._latest = 0
        self._examiner = Examiner()

    async def watch(self, exchange: Exchange, filter_: Filter, since: int | None) -> None:
        """Stream changes until the client leaves, its time is over, or the platform stops.

        Args:
            exchange: of the request.
            filter_: which entries.
            since: the number of the last change that the client knows; None begins now.

        Raises:
            Expired: changes after that one are forgotten already.
        """
        position = await self._position(since)
        await exchange.start(200, EVENT_STREAM)
        with exchange.client_present():
            await self._stream(exchange, filter_, position)
        await exchange.finish()

    async def _stream(self, exchange: Exchange, filter_: Filter, position: int) -> None:
        began = spoke = time.monotonic()
        heavy = weight(filter_)
        await exchange.write(_position_event(b"watching", position))
        while not self._stopping.is_set() and time.monotonic() - began < LONGEST:
            latest = await self._newest()
            rows = await self._after(position) if latest > position else []
            for row in rows:
                position = row.version
                cost = heavy * (len(row.before or "") + len(row.after or ""))
                told = await self._examiner.ask(cost, change_for, filter_, row.before, row.after)
                if told is not None:
                    event = msgspec.json.encode({**told, "version": position})
                    await exchange.write(b"id: %d\n" % position + encode_event(event))
                    spoke = time.monotonic()
                await asyncio.sleep(0)  # others want to be served too
            if len(rows) == AT_ONCE:
                continue
            # Writers take turns: whatever has a number up to that one has been read.
            position = max(position, latest)
            if time.monotonic() - spoke > COMMENT_EVERY:
                await exchange.write(_position_event(b"still here", position))
                spoke = time.monotonic()
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _position(self, since: int | None) -> int:
        """Return after which change to begin. Raises Expired."""
        oldest = sa.select(sa.func.min(registry_changes.c.version))
        async with self._database.read() as connection:
            latest = int(await connection.scalar(_NEWEST) or 0)
            kept = int(await connection.scalar(oldest) or 0)
        if since is None:
            return latest
        if since > latest or since + 1 < kept:
            raise Expired("Changes since then are not known any more; ask for all entries again.")
        return since

    async def _newest(self) -> int:
        """Return the number of the latest change; all who watch look together."""
        async with self._looking:
            if time.monotonic() - self._looked >= LOOK_EVERY / 2:
                async with self._database.read() as connection:
                    self._latest = int(await connection.scalar(_NEWEST) or 0)
                self._looked = time.monotonic()
            return self._latest

    async def _after(self, position: int) -> list[Any]:
        columns = registry_changes.c
        query = sa.select(columns.version, columns.before, columns.after)
        query = query.where(columns.version > position).order_by(columns.version).limit(AT_ONCE)
        async with self._database.read() as connection:
            return list((await connection.execute(query)).all())


def _position_event(comment: bytes, position: int) -> bytes:
    """Return an event of an id alone: it is no change, but a client that comes back names it.

    So it goes on where it was, though it may have seen nothing that matches its filter.
    """
    return b": %s\nid: %d\n\n" % (comment, position)


def change_for(filter_: Filter, before: str | None, after: str | None) -> dict[str, Any] | None:
    """Return what a change is to somebody who sees only what a filter admits; None if nothing.

    Args:
        filter_: which entries.
        before: the document, as text; None where the entry is new.
        after: likewise; None where it is gone.
    """
    old, new = _seen(filter_, before), _seen(filter_, after)
    if new is not None:
        return {"type": "MODIFIED" if old is not None else "ADDED", "document": new}
    return {"type": "DELETED", "document": old} if old is not None else None


def _seen(filter_: Filter, text: str | None) -> Document | None:
    if text is None:
        return None
    document = decoded(text)
    return document if matches(filter_, document) else None
