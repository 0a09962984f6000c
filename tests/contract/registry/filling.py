"""Writes many entries at once: the catalog's own way takes an fsync for each."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from inferno.registry.catalog import columns_of
from inferno.registry.entries import REGISTERED, Document
from inferno.registry.index import rows_of
from inferno.registry.indexing import index_of
from inferno.storage.database import Database
from inferno.storage.tables import registry_entries, registry_values


async def fill(database: Database, entries: Sequence[Document], *, start: int = 1) -> None:
    """Write entries, numbered in order."""
    numbered = list(enumerate(entries, start))
    rows = [
        {"seq": seq, **columns_of(one), "owner": "x", REGISTERED: one[REGISTERED]}
        for seq, one in numbered
    ]
    values = [row for seq, one in numbered for row in rows_of(seq, index_of(one))]
    async with database.transaction() as connection:
        await connection.execute(sa.insert(registry_entries), rows)
        await connection.execute(sa.insert(registry_values), values)
