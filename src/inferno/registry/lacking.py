"""Whether there are entries that have nothing at a path."""

from __future__ import annotations

import sqlalchemy as sa

from inferno.registry.indexing import ALWAYS
from inferno.registry.keys import ANY
from inferno.registry.parts import Levels, Span
from inferno.registry.paths import PLAIN, REACHED
from inferno.storage.database import Database
from inferno.storage.tables import registry_entries, registry_values


async def is_lacking(database: Database, path: str) -> bool:
    """Return whether there are more entries than have a value that a path finds."""
    if path in ALWAYS:
        return False
    values = registry_values
    plain = Span(path, *ANY, Levels(most=PLAIN)).condition(values)
    in_arrays = Span(path, *ANY, Levels(REACHED, REACHED)).condition(values)
    counts = (
        sa.select(sa.func.count()).select_from(registry_entries),
        sa.select(sa.func.count()).select_from(values).where(plain),
        sa.select(sa.func.count(sa.distinct(values.c.seq))).where(in_arrays),
    )
    async with database.read() as connection:
        query = sa.select(*(one.scalar_subquery() for one in counts))
        entries, single, several = (await connection.execute(query)).one()
    return bool(entries > single + several)
