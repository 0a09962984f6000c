"""Deleting what is no longer wanted, a little at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import sqlalchemy as sa
import structlog

from inferno.batches.records import HIDDEN, purge_rows
from inferno.batches.types import Bounds, Status, now_text
from inferno.core.errors import InfernoError
from inferno.storage.database import Database
from inferno.storage.tables import batch_items, batch_results, batches, file_pieces, files

SWEEP_EVERY = 60.0
ABANDONED_SECONDS = 3600.0
"""After so long without a new piece, an upload is given up."""

AT_ONCE = 100

log = structlog.get_logger(__name__)


class Sweeper:
    """Deletes expired files and batches, abandoned uploads, and what deleted ones leave behind.

    Args:
        database: where they are.
        bounds: how long they are kept.
    """

    def __init__(self, database: Database, bounds: Bounds) -> None:
        self._database = database
        self._bounds = bounds
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Say that something was deleted."""
        self._woken.set()

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            try:
                await self.sweep()
            except InfernoError as error:
                log.warning("batches_not_swept", error=error.message)
            except Exception:
                log.exception("batches_not_swept")
            try:
                async with asyncio.timeout(SWEEP_EVERY):
                    await self._woken.wait()
            except TimeoutError:
                continue
            self._woken.clear()

    async def sweep(self) -> None:
        """Delete all that is no longer wanted now."""
        await self._expire()
        gone_files = sa.select(files.c.id).where(files.c.state == "deleted")
        for file_id in await self._some(gone_files):
            await self._purge(files, file_id, [file_pieces])
        gone = sa.select(batches.c.id).where(batches.c.status == Status.DELETED)
        for batch_id in await self._some(gone):
            await self._purge(batches, batch_id, [batch_results, batch_items])

    async def _expire(self) -> None:
        """Mark what has had its time."""
        lost = now_text(-ABANDONED_SECONDS)
        silent = sa.and_(files.c.state == "uploading", files.c.touched_at < lost)
        over = files.c.expires_at < now_text()
        unsent = sa.and_(
            batches.c.status == Status.VALIDATING, HIDDEN, batches.c.lease_until < lost
        )
        ends: list[sa.ColumnElement[bool]] = [unsent]
        if self._bounds.retention:
            ends.append(batches.c.ended_at < now_text(-self._bounds.retention))
        old = sa.and_(sa.or_(*ends), batches.c.status != Status.DELETED)
        async with self._database.read() as connection:
            files_due = await connection.scalar(sa.select(sa.func.count()).where(silent | over))
            batches_due = await connection.scalar(sa.select(sa.func.count()).where(old))
        if not files_due and not batches_due:
            return
        async with self._database.transaction() as connection:
            expired = sa.select(batches.c.id).where(old)
            await connection.execute(
                sa.update(files)
                .where(silent | over | files.c.batch_id.in_(expired))
                .values(state="deleted")
            )
            await connection.execute(
                sa.update(batches).where(old).values(status=Status.DELETED, submission=None)
            )

    async def _some(self, query: sa.Select[Any]) -> list[str]:
        async with self._database.read() as connection:
            return list((await connection.execute(query.limit(AT_ONCE))).scalars())

    async def _purge(self, table: sa.Table, row_id: str, parts: list[sa.Table]) -> None:
        """Delete what belongs to a row, and then the row."""
        for part in parts:
            while await purge_rows(self._database, part, row_id):
                pass
        async with self._database.transaction() as connection:
            await connection.execute(sa.delete(table).where(table.c.id == row_id))
