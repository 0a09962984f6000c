"""A task that one process has at a time: whoever has it says so in the database, for a while."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from inferno.registry.entries import text_of
from inferno.storage.database import Database
from inferno.storage.tables import meta


class Turn:
    """The right to do a task, for a while.

    Processes' clocks may differ by less than the time that it is given for.

    Args:
        database: that the processes share.
        task: name of the task.
        holder: name of this process, unlike that of any other.
        seconds: how long it is given for; it can be taken again before it is over.
        clock: says what time it is.
    """

    def __init__(
        self,
        database: Database,
        task: str,
        holder: str,
        *,
        seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._key = f"turn:{task}"
        self._holder = holder
        self._seconds = seconds
        self._clock = clock

    async def take(self) -> bool:
        """Take the turn, or keep it; return whether it is ours now."""
        now = self._clock()
        until = text_of(now + timedelta(seconds=self._seconds))
        mine = f"{until} {self._holder}"
        start = "INSERT INTO meta (key, value) VALUES (:key, '') ON CONFLICT DO NOTHING"
        row = meta.c.key == self._key
        async with self._database.transaction() as connection:
            await connection.execute(sa.text(start), {"key": self._key})
            query = sa.select(meta.c.value).where(row).with_for_update()
            until, _, holder = str(await connection.scalar(query) or "").partition(" ")
            if holder != self._holder and until > text_of(now):
                return False
            await connection.execute(sa.update(meta).where(row).values(value=mine))
        return True

    async def is_taken(self) -> bool:
        """Return whether any process has it."""
        query = sa.select(meta.c.value).where(meta.c.key == self._key)
        async with self._database.read() as connection:
            until = str(await connection.scalar(query) or "").partition(" ")[0]
        return until > text_of(self._clock())

    async def give_up(self) -> None:
        """Let another process have it at once."""
        mine = sa.and_(meta.c.key == self._key, meta.c.value.endswith(f" {self._holder}"))
        async with self._database.transaction() as connection:
            await connection.execute(sa.delete(meta).where(mine))
