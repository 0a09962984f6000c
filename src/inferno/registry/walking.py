"""Entries in the order of a field, as the index has them, so that reading stops early."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import groupby
from typing import Any

import msgspec
import sqlalchemy as sa

from inferno.core.documents.sorting import SortField, extreme
from inferno.registry.entries import Document
from inferno.registry.keys import ANY, EMPTY, NULL, NUMBER, behind, key_of_order
from inferno.registry.lacking import is_lacking
from inferno.registry.parts import FOUND, Condition, Negated, Probe, Span, passes
from inferno.registry.paths import PLAIN, REACHED
from inferno.registry.planning import PAGE
from inferno.storage.database import Database
from inferno.storage.tables import registry_entries, registry_values

Row = tuple[str, Document, int]
"""A key, a document, and how long its text is."""


class Walk:
    """Goes through entries in the order of a field's keys; those of one key as they registered.

    Args:
        database: where they are.
        field: whose order it is; its path is indexable.
        conditions: on entries.
        wanted: how many somebody is likely to want.
    """

    def __init__(
        self, database: Database, field: SortField, conditions: list[Condition], wanted: int
    ) -> None:
        self._database = database
        self._field = field
        self._path = ".".join(field.path)
        self._conditions = conditions
        self._at_once = min(max(wanted, 20) + 1, PAGE)

    async def rows(self) -> AsyncIterator[Row]:
        """Yield entries in order."""
        go = self._downwards if self._field.is_descending else self._upwards
        parts = [go(EMPTY, NULL), self._without_value(), go(NUMBER, ANY[1])]
        if self._field.is_descending:
            parts.reverse()
        elif not await is_lacking(self._database, self._path):
            parts = [self._upwards(*ANY)]
        for part in parts:
            async for key, level, document, length in part:
                # An array has many keys, of which the least or the greatest counts.
                if level == PLAIN or key_of_order(extreme(document, self._field)) == key:
                    yield key, document, length

    async def _upwards(self, low: str, high: str) -> AsyncIterator[tuple[str, int, Document, int]]:
        values = registry_values.alias("walked")
        query = self._query(values, low, high).order_by(values.c.value, values.c.seq)
        last: tuple[str, int] | None = None
        while True:
            page = query
            if last is not None:
                behind_last = sa.tuple_(values.c.value, values.c.seq) > sa.tuple_(
                    sa.literal(last[0]), sa.literal(last[1])
                )
                page = query.where(behind_last)
            rows = await self._read(page)
            for row in rows:
                yield _decoded(row)
            if not self._is_more(rows):
                return
            last = rows[-1].value, rows[-1].seq

    async def _downwards(
        self, low: str, high: str
    ) -> AsyncIterator[tuple[str, int, Document, int]]:
        """Go down the keys, but up within each."""
        values = registry_values.alias("walked")
        while True:
            query = self._query(values, low, high)
            query = query.order_by(values.c.value.desc(), values.c.seq.desc())
            rows = await self._read(query)
            runs = [(key, list(run)) for key, run in groupby(rows, key=lambda row: row.value)]
            is_more = self._is_more(rows)
            cut = runs[-1][0] if is_more else None
            for key, run in runs:
                if key != cut:
                    for row in reversed(run):
                        yield _decoded(row)
            if cut is None:
                return
            high = behind(cut)
            if len(runs) == 1:
                async for found in self._upwards(cut, high):
                    yield found
                high = cut

    async def _without_value(self) -> AsyncIterator[tuple[str, int, Document, int]]:
        """Yield entries that have null at the path, or nothing."""
        if not await is_lacking(self._database, self._path):
            async for found in self._upwards(NULL, NUMBER):
                yield found
            return
        columns = registry_entries.c
        null = passes(Probe(self._path, (NULL,)))
        nothing = passes(Negated(Span(self._path, *ANY, FOUND)))
        query = sa.select(columns.seq, columns.document).where(
            *self._conditions, sa.or_(null, nothing)
        )
        last = 0
        while True:
            rows = await self._read(query.where(columns.seq > last).order_by(columns.seq))
            for row in rows:
                yield NULL, REACHED, msgspec.json.decode(row.document), len(row.document)
            if not self._is_more(rows):
                return
            last = rows[-1].seq

    def _query(self, values: Any, low: str, high: str) -> sa.Select[Any]:
        entries = registry_entries
        span = Span(self._path, low, high)
        return (
            sa.select(values.c.value, values.c.seq, values.c.level, entries.c.document)
            .join(entries, entries.c.seq == values.c.seq)
            .where(span.condition(values), *self._conditions)
        )

    async def _read(self, query: sa.Select[Any]) -> list[Any]:
        async with self._database.read() as connection:
            return list((await connection.execute(query.limit(self._at_once))).all())

    def _is_more(self, rows: list[Any]) -> bool:
        """Return whether there may be more behind some rows; then more are read at once."""
        is_full = len(rows) == self._at_once
        if is_full:
            self._at_once = min(2 * self._at_once, PAGE)
        return is_full


def _decoded(row: Any) -> tuple[str, int, Document, int]:
    return row.value, row.level, msgspec.json.decode(row.document), len(row.document)
