"""Files that callers upload, kept in pieces in the database.

In the database and not in a folder: every process over one Postgres has them, what is told to be
there has been committed, and no name of a caller's ever becomes a path.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.batches.types import Bounds, StoredFile, new_id, now_text
from inferno.core.errors import InvalidRequest, NotFound, PayloadTooLarge
from inferno.storage.database import Database
from inferno.storage.tables import batches, file_pieces, files

PIECE_BYTES = 2**20
"""Of a file that are in memory while it is written or read."""

FIELDS = [files.c[name] for name in StoredFile.__struct_fields__]


class Files:
    """The files of all tenants.

    Args:
        database: where they are kept.
        bounds: how large they may be.
    """

    def __init__(self, database: Database, bounds: Bounds) -> None:
        self._database = database
        self.bounds = bounds

    async def begin(self, tenant: str, owner_id: str) -> Upload:
        """Begin to write a file; nobody sees it until it is finished.

        Raises:
            InvalidRequest: the tenant has no room left.
        """
        async with self._database.read() as connection:
            used = await used_bytes(connection, tenant)
        room = self.bounds.tenant_bytes - used
        if room <= 0:
            raise no_room(self.bounds)
        upload = Upload(self._database, new_id("file-"), self.bounds, room)
        now = now_text()
        row = {
            "id": upload.id, "tenant": tenant, "owner_id": owner_id, "filename": "",
            "purpose": "", "state": "uploading", "bytes": 0, "created_at": now, "touched_at": now,
        }  # fmt: skip
        async with self._database.transaction() as connection:
            await connection.execute(sa.insert(files).values(row))
        return upload

    async def get(self, file_id: str, tenant: str | None) -> StoredFile:
        """Return a file.

        Args:
            file_id: its id.
            tenant: who asks; None for somebody who sees all.

        Raises:
            NotFound: there is none, or it is another tenant's.
        """
        query = _visible(tenant).where(files.c.id == file_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise no_file(file_id)
        return _file_of(row)

    async def page(
        self,
        tenant: str | None,
        *,
        purpose: str | None,
        after: str | None,
        limit: int,
        newest_first: bool = True,
    ) -> tuple[list[StoredFile], bool]:
        """Return files in the order of their creation, and whether there are more.

        Raises:
            NotFound: `after` is no file.
        """
        query = _visible(tenant)
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        place = sa.tuple_(files.c.created_at, files.c.id)
        if after is not None:
            last = await self.get(after, tenant)
            bound = sa.tuple_(sa.literal(last.created_at), sa.literal(last.id))
            query = query.where(place < bound if newest_first else place > bound)
        for column in (files.c.created_at, files.c.id):
            query = query.order_by(column.desc() if newest_first else column.asc())
        async with self._database.read() as connection:
            rows = (await connection.execute(query.limit(limit + 1))).all()
        return [_file_of(row) for row in rows[:limit]], len(rows) > limit

    async def delete(self, file_id: str) -> None:
        """Delete a file: nobody sees it any more; its content goes soon after."""
        change = sa.update(files).where(files.c.id == file_id).values(state="deleted")
        async with self._database.transaction() as connection:
            await connection.execute(change)

    async def pieces(self, file_id: str) -> AsyncIterator[bytes]:
        """Yield the content of an uploaded file."""
        number = 0
        while True:
            query = sa.select(file_pieces.c.content).where(
                file_pieces.c.file_id == file_id, file_pieces.c.number == number
            )
            async with self._database.read() as connection:
                content = (await connection.execute(query)).scalar_one_or_none()
            if content is None:
                return
            yield bytes(content)
            number += 1


class Upload:
    """A file that is being written.

    Args:
        database: where to.
        file_id: its id.
        bounds: how large it may be.
        room: bytes that its tenant has left.
    """

    def __init__(self, database: Database, file_id: str, bounds: Bounds, room: int) -> None:
        self._database = database
        self._bounds = bounds
        self._room = room
        self._buffer = bytearray()
        self._number = 0
        self.id = file_id
        self.size = 0

    async def write(self, content: bytes) -> None:
        """Add to the file.

        Raises:
            PayloadTooLarge: it is larger than a file may be.
            InvalidRequest: the tenant has no room left.
        """
        self.size += len(content)
        if self.size > self._bounds.file_bytes:
            raise PayloadTooLarge(limit=self._bounds.file_bytes)
        if self.size > self._room:
            raise no_room(self._bounds)
        self._buffer += content
        while len(self._buffer) >= PIECE_BYTES:
            await self._store(bytes(self._buffer[:PIECE_BYTES]))
            del self._buffer[:PIECE_BYTES]

    async def finish(self, filename: str, purpose: str, expires_at: str | None) -> StoredFile:
        """Make the file visible; from here on nothing loses it.

        Raises:
            NotFound: it took so long that it was given up.
        """
        if self._buffer:
            await self._store(bytes(self._buffer))
            self._buffer.clear()
        values = {
            "filename": filename, "purpose": purpose, "expires_at": expires_at,
            "state": "ready", "bytes": self.size,
        }  # fmt: skip
        change = sa.update(files).where(files.c.id == self.id, files.c.state == "uploading")
        async with self._database.transaction() as connection:
            if (await connection.execute(change.values(values))).rowcount == 0:
                raise no_file(self.id)
            query = sa.select(*FIELDS).where(files.c.id == self.id)
            row = (await connection.execute(query)).one()
        return _file_of(row)

    async def discard(self) -> None:
        """Give the file up."""
        change = sa.update(files).where(files.c.id == self.id).values(state="deleted")
        async with self._database.transaction() as connection:
            await connection.execute(change)

    async def _store(self, content: bytes) -> None:
        row = {"file_id": self.id, "number": self._number, "content": content}
        written = self._number * PIECE_BYTES + len(content)
        note = sa.update(files).where(files.c.id == self.id, files.c.state == "uploading")
        note = note.values(touched_at=now_text(), bytes=written)
        async with self._database.transaction() as connection:
            if (await connection.execute(note)).rowcount == 0:
                raise no_file(self.id)
            await connection.execute(sa.insert(file_pieces).values(row))
        self._number += 1


async def used_bytes(connection: AsyncConnection, tenant: str) -> int:
    """Return what a tenant's files and batches take."""
    uploaded = sa.select(sa.func.sum(files.c.bytes)).where(
        files.c.tenant == tenant, files.c.state != "deleted", files.c.batch_id.is_(None)
    )
    handed_in = sa.select(sa.func.sum(batches.c.input_bytes)).where(
        batches.c.tenant == tenant, batches.c.status != "deleted"
    )
    return int(await connection.scalar(uploaded) or 0) + int(
        await connection.scalar(handed_in) or 0
    )


def no_room(bounds: Bounds) -> InvalidRequest:
    """Return the error for a tenant whose files and batches take all that they may."""
    return InvalidRequest(
        f"Files and batches of a tenant may take {bounds.tenant_bytes} bytes together; delete "
        "some that are no longer needed.",
        limit_bytes=bounds.tenant_bytes,
    )


def no_file(file_id: str) -> NotFound:
    """Return the error for a file that is not there, or not for the caller."""
    return NotFound(f"There is no file '{file_id}'.")


def _visible(tenant: str | None) -> sa.Select[Any]:
    query = sa.select(*FIELDS).where(files.c.state == "ready")
    return query if tenant is None else query.where(files.c.tenant == tenant)


def _file_of(row: sa.Row[Any] | Sequence[Any]) -> StoredFile:
    return msgspec.convert(dict(zip(StoredFile.__struct_fields__, row, strict=True)), StoredFile)
