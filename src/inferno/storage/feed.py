"""Tells watchers that there is something new to read; the events stay in their table."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from sqlalchemy import func, select

from inferno.core.errors import InfernoError
from inferno.storage.database import Database
from inferno.storage.journal import read_version
from inferno.storage.tables import resource_events

CHANNEL = "inferno_resources"
_CLOSE_SECONDS = 2

_log = logging.getLogger(__name__)


class Feed:
    """Knows the newest version of each kind, from this process's writes and from looking.

    Watchers keep only a position; none of them can hold up another or fill the memory.

    Args:
        database: where other processes write too.
        interval: seconds between looks for writes of other processes. Where the database sends
            notices, they come sooner and looking is the safety net.
    """

    def __init__(self, database: Database, *, interval: float) -> None:
        self.version = 0
        self.closed = False
        self._database = database
        self._interval = interval
        self._latest: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._seen = 0
        self._noticed = asyncio.Event()
        self._listener = database.listener(CHANNEL, self._noticed.set)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Learn the present version, and look for others' writes from now on."""
        async with self._database.read() as connection:
            self._seen = self.version = await read_version(connection)
        self._task = asyncio.create_task(self._follow(), name="storage-feed")

    async def close(self) -> None:
        """Stop looking, and wake all watchers so that they end."""
        self.closed = True
        self._changed.set()
        self._noticed.set()
        if self._task is not None:
            # Cancelling is for when the database hangs: in a query it costs the connection.
            _, pending = await asyncio.wait([self._task], timeout=_CLOSE_SECONDS)
            if pending:
                self._task.cancel()
                await asyncio.wait(pending)
        if self._listener is not None:
            await self._listener.close()

    def publish(self, latest: Mapping[str, int]) -> None:
        """Note committed writes, as newest version by kind, and wake the watchers."""
        for key, version in latest.items():
            self._latest[key] = max(version, self._latest.get(key, 0))
            self.version = max(version, self.version)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def newer(self, key: str, version: int) -> bool:
        """Wait until a kind has a newer version; False when the feed closes."""
        while not self.closed and self._latest.get(key, 0) <= version:
            await self._changed.wait()
        return not self.closed

    async def _follow(self) -> None:
        while not self.closed:
            try:
                if self._listener is not None:
                    await self._listener.ensure()
                await self._look()
            except InfernoError as error:
                _log.warning("Cannot look for changes of other processes: %s", error.message)
            # Not wait_for: until Python 3.12 it can swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._noticed.wait()
            if not self.closed:
                self._noticed.clear()

    async def _look(self) -> None:
        async with self._database.read() as connection:
            version = await read_version(connection)
            if version <= self._seen:
                return
            events = resource_events.c
            found = await connection.execute(
                select(events.kind, func.max(events.version))
                .where(events.version > self._seen)
                .group_by(events.kind)
            )
            latest = dict(found.all())
        self._seen = version
        self.publish(latest)
