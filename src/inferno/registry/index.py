"""The index in the database: kept up to date with each entry, made anew when its form changes."""

from __future__ import annotations

from collections.abc import Set

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.registry.indexing import index_of, kept_path
from inferno.registry.paths import Value
from inferno.storage.database import Database
from inferno.storage.tables import meta, registry_entries, registry_values

FORM = "3"
"""Of what `index_of` returns; another one when that changes, so that old rows are replaced."""

_KEY = "registry_index"
_AT_ONCE = 500


async def update_index(
    connection: AsyncConnection, seq: int, before: Set[Value], after: Set[Value]
) -> None:
    """Bring the index of an entry up to date; what stays is not touched."""
    table = registry_values
    gone, new = before - after, after - before
    if gone:
        await connection.execute(
            sa.delete(table).where(
                table.c.seq == sa.bindparam("of"),
                table.c.path == sa.bindparam("at"),
                table.c.value == sa.bindparam("key"),
            ),
            [{"of": seq, "at": kept_path(one.path), "key": one.value} for one in gone],
        )
    if new:
        await connection.execute(sa.insert(table), rows_of(seq, new))


def rows_of(seq: int, values: Set[Value]) -> list[dict[str, object]]:
    """Return the rows of an entry, in the order of the table."""
    rows = sorted((kept_path(one.path), one.value, one.level) for one in values)
    return [{"seq": seq, "path": path, "value": key, "level": level} for path, key, level in rows]


async def ensure_index(database: Database) -> None:
    """Make the index anew where it has another form than entries are written with today."""
    async with database.read() as connection:
        if await _form(connection) == FORM:
            return
    async with database.transaction() as connection:
        if database.is_postgres:
            lock = "LOCK TABLE registry_entries, registry_values IN SHARE ROW EXCLUSIVE MODE"
            await connection.execute(sa.text(lock))
        if await _form(connection) == FORM:
            return
        await _fill(connection)
        await connection.execute(sa.delete(meta).where(meta.c.key == _KEY))
        await connection.execute(sa.insert(meta).values(key=_KEY, value=FORM))


async def _form(connection: AsyncConnection) -> str | None:
    form: str | None = await connection.scalar(sa.select(meta.c.value).where(meta.c.key == _KEY))
    return form


async def _fill(connection: AsyncConnection) -> None:
    await connection.execute(sa.delete(registry_values))
    columns = registry_entries.c
    last = 0
    while True:
        query = sa.select(columns.seq, columns.document).where(columns.seq > last)
        found = (await connection.execute(query.order_by(columns.seq).limit(_AT_ONCE))).all()
        rows = [
            row
            for seq, document in found
            for row in rows_of(seq, index_of(msgspec.json.decode(document)))
        ]
        if rows:
            await connection.execute(sa.insert(registry_values), rows)
        if len(found) < _AT_ONCE:
            return
        last = found[-1].seq
