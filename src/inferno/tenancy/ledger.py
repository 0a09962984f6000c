"""One place that every write to users and keys goes through, so that no change goes unnoticed.

The ledger's version is a row of the database that every such transaction increments; whoever
keeps a picture of users and keys in memory looks at that one row to know whether it is old.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.storage.database import Database
from inferno.storage.tables import counters

NAME = "accounts"
TURN = 200
"""Items that are worked on before others have their turn."""

T = TypeVar("T")


class Ledger:
    """Transactions over users and keys.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection whose writes are committed together, as a new version.

        Writers take turns: what one reads in its transaction, no other changes before its end.
        """
        async with self._database.transaction() as connection:
            # First, since on Postgres it is the row's lock that makes the others wait.
            await _raise_version(connection)
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection for reading."""
        async with self._database.read() as connection:
            yield connection

    @asynccontextmanager
    async def noting(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection for writes that change nobody's rights; the version stays."""
        async with self._database.transaction() as connection:
            yield connection

    async def version(self) -> int:
        """Return the present version; 0 before the first write."""
        async with self._database.read() as connection:
            return await version_seen_by(connection)


async def _raise_version(connection: AsyncConnection) -> None:
    raised = sa.update(counters).where(counters.c.name == NAME).values(value=counters.c.value + 1)
    if (await connection.execute(raised)).rowcount == 0:
        start = "INSERT INTO counters (name, value) VALUES (:name, 0) ON CONFLICT DO NOTHING"
        await connection.execute(sa.text(start), {"name": NAME})
        await connection.execute(raised)


async def version_seen_by(connection: AsyncConnection) -> int:
    """Return the version that a connection's transaction sees."""
    query = sa.select(counters.c.value).where(counters.c.name == NAME)
    return int((await connection.execute(query)).scalar_one_or_none() or 0)


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield many items, and let requests be answered meanwhile."""
    for place, item in enumerate(items):
        if place % TURN == TURN - 1:
            await asyncio.sleep(0)
        yield item


def now_text() -> str:
    """Return the time as it is stored: RFC 3339 in UTC with milliseconds, so that text sorts."""
    return text_of(datetime.now(UTC))


def text_of(moment: datetime) -> str:
    """Return a time as it is stored."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
