"""Queries over the entries, in bounded memory.

Entries come in the order in which they were registered, or in that of a field, page by page; each
is looked at with `matches`. `planning` chooses how the database finds them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import msgspec
import sqlalchemy as sa

from inferno.core.documents.filters import parse_filter
from inferno.core.documents.matching import matches
from inferno.core.documents.projections import Projection, parse_projection, project
from inferno.core.documents.sorting import Sort, sort_key
from inferno.core.documents.tree import Every, Filter
from inferno.core.documents.weight import weight
from inferno.core.errors import InvalidRequest
from inferno.registry.compiling import certain, possible
from inferno.registry.deadline import Deadline
from inferno.registry.entries import Document
from inferno.registry.examining import Examiner
from inferno.registry.indexing import SEARCHED
from inferno.registry.keys import is_exact
from inferno.registry.parts import (
    EVERYTHING,
    NOTHING,
    All,
    Part,
    Probe,
    Span,
    numbers,
    passes,
    without,
)
from inferno.registry.paths import is_indexable
from inferno.registry.planning import FEW, PAGE, Plan, Planner
from inferno.registry.walking import Walk
from inferno.storage.database import Database
from inferno.storage.tables import registry_entries

MAX_LIMIT = 1000
MAX_SORTED = 10_000
MAX_ANSWER_BYTES = 8 * 2**20
MAX_SORTED_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Query:
    """What somebody wants to find.

    Args:
        filter: which entries.
        projection: what of them.
        sort: in which order; else as they were registered.
        skip: leaves out so many of the first.
        limit: at most so many.
        count: whether to say how many there are in all.
        after: only entries behind this one, as a page's `next` says.
        owner: only what is this owner's.
    """

    filter: Filter = field(default_factory=lambda: parse({}))
    projection: Projection = field(default_factory=lambda: parse_projection(None))
    sort: Sort = field(default_factory=Sort)
    skip: int = 0
    limit: int = MAX_LIMIT
    count: bool = False
    after: int = 0
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What was found.

    Args:
        documents: in order.
        next: number of the last of them, where there may be more behind it.
        total: how many there are in all, where that was asked for.
    """

    documents: list[Document]
    next: int | None = None
    total: int | None = None


def parse(value: object) -> Filter:
    """Return the filter that JSON stands for. Raises InvalidRequest."""
    return parse_filter(value, text_paths=SEARCHED)


def searching(filter_: Filter, words: str) -> Filter:
    """Narrow a filter to entries that have words in their name, tags or metadata."""
    return Every((filter_, parse({"$text": {"$search": words}})))


class Finder:
    """Answers queries.

    Args:
        database: where the entries are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._examiner = Examiner()
        self._planner = Planner(database, self._examiner)

    async def find(self, query: Query) -> Page:
        """Return what a query finds.

        Raises:
            InvalidRequest: it sorts more than fits into memory.
            DeadlineExceeded: it takes too long.
        """
        deadline = Deadline()
        parts = possible(query.filter)
        plan = await self._planner.plan(
            parts, query.owner, deadline, is_in_order=not query.sort.fields
        )
        if not query.sort.fields:
            page = await self._in_order(query, plan, deadline)
        elif plan.named is not None or not is_indexable(".".join(query.sort.fields[0].path)):
            page = await self._sorted(query, plan, deadline)
        else:
            page = await self._walked(query, plan, deadline)
        if query.count and page.total is None:
            total = await self._count(query, parts, deadline)
            page = Page(page.documents, page.next, total)
        return page

    async def _in_order(self, query: Query, plan: Plan, deadline: Deadline) -> Page:
        """Stop as soon as the page is full."""
        found: list[Document] = []
        skip, size = query.skip, 0
        if not query.limit:
            return Page(found)
        last = 0
        async for seq, length, document in self._matching(
            query, plan, deadline, after=query.after, wanted=query.skip + query.limit + 1
        ):
            if skip:
                skip -= 1
                continue
            if len(found) == query.limit or (found and size + length > MAX_ANSWER_BYTES):
                return Page(found, next=last)
            found.append(project(query.projection, document))
            size += length
            last = seq
        whole = query.after == 0
        return Page(found, total=query.skip - skip + len(found) if whole else None)

    async def _sorted(self, query: Query, plan: Plan, deadline: Deadline) -> Page:
        """Keep the first ones of what was seen so far."""
        first = _First(query.skip + query.limit)
        total = 0
        async for _, length, document in self._matching(query, plan, deadline, after=0, wanted=FEW):
            total += 1
            first.add(await self._key(document, length, query.sort), document, length)
        kept = first.documents()[query.skip :]
        return Page([project(query.projection, one) for one in kept], total=total)

    async def _walked(self, query: Query, plan: Plan, deadline: Deadline) -> Page:
        """Follow the index of the first field, and stop as soon as the page is full.

        Entries with one key are sorted among themselves, where that is not their order already.
        """
        most = query.skip + query.limit
        if not query.limit:
            return Page([])
        kept = _First(most)
        tied: _First | None = None
        current: str | None = None
        walk = Walk(self._database, query.sort.fields[0], plan.all_conditions(), most)
        heavy = weight(query.filter)
        async for key, document, length in walk.rows():
            await deadline.breathe()
            if key != current:
                kept.take(tied)
                is_ordered = len(query.sort.fields) == 1 and is_exact(key)
                tied = None if is_ordered else _First(most - len(kept))
                current = key
            if len(kept) < most and await self._matches(heavy * length, query, document):
                key_of_all = await self._key(document, length, query.sort)
                (kept if tied is None else tied).add(key_of_all, document, length)
            if len(kept) >= most:
                break
        kept.take(tied)
        shown = kept.in_place()[query.skip : most]
        return Page([project(query.projection, one) for one in shown])

    async def _matches(self, cost: int, query: Query, document: Document) -> bool:
        return await self._examiner.ask(cost, matches, query.filter, document)

    async def _key(self, document: Document, length: int, sort: Sort) -> Any:
        """Return what an entry is sorted by."""
        return await self._examiner.ask(len(sort.fields) * length, sort_key, document, sort)

    async def _count(self, query: Query, parts: All, deadline: Deadline) -> int:
        """Return how many match; only those that the index is not certain about are looked at."""
        sure = certain(query.filter)
        total = 0 if sure == NOTHING else await self._count_certain(sure, query.owner)
        if sure == EVERYTHING:
            return total
        (only,) = parts.parts if len(parts.parts) == 1 else (parts,)
        rest = parts if sure == NOTHING else without(only, sure)
        rest = rest if isinstance(rest, All) else All((rest,))
        plan = await self._planner.plan(rest, query.owner, deadline, is_exact=True)
        async for _ in self._matching(query, plan, deadline, after=0, wanted=FEW):
            total += 1
        return total

    async def _count_certain(self, sure: Part, owner: str | None) -> int:
        if isinstance(sure, Probe | Span) and owner is None:
            # Of one key an entry has one row.
            is_once = isinstance(sure, Probe) and len(sure.keys) == 1
            found = numbers([sure]).subquery()
            number = found.c.seq if is_once else sa.distinct(found.c.seq)
            query = sa.select(sa.func.count(number))
        else:
            mine = sa.true() if owner is None else registry_entries.c.owner == owner
            query = sa.select(sa.func.count()).select_from(registry_entries)
            query = query.where(mine, passes(sure))
        async with self._database.read() as connection:
            return int(await connection.scalar(query) or 0)

    async def _matching(
        self, query: Query, plan: Plan, deadline: Deadline, *, after: int, wanted: int
    ) -> AsyncIterator[tuple[int, int, Document]]:
        """Yield number, length and document of all that match, in order."""
        heavy = weight(query.filter)
        async for rows in plan.pages(self._database, after, min(max(wanted, 20), PAGE)):
            for seq, text in rows:
                document: Document = msgspec.json.decode(text)
                if await self._matches(heavy * len(text), query, document):
                    yield seq, len(text), document
                await deadline.breathe()  # others want to be served too
            await deadline.pause()


class _First:
    """The first documents in an order, of those that were added.

    Those that are equal keep their order.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[Any, Document]] = []
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, key: Any, document: Document, length: int) -> None:
        """Add one, with its `sort_key`.

        Raises:
            InvalidRequest: the first ones do not fit into memory.
        """
        self._kept.append((key, document))
        self._size += length
        if len(self._kept) > 2 * self._most + PAGE or self._size > MAX_SORTED_BYTES:
            self._kept = self._first()
            self._size = sum(len(msgspec.json.encode(one)) for _, one in self._kept)
            if self._size > MAX_SORTED_BYTES // 2:
                raise InvalidRequest("The query sorts too much; ask for fewer.", field="limit")

    def take(self, other: _First | None) -> None:
        """Add what another has, behind what is here."""
        for key, document in () if other is None else other._first():
            self.add(key, document, len(msgspec.json.encode(document)))

    def in_place(self) -> list[Document]:
        """Return the documents as they were added."""
        return [document for _, document in self._kept]

    def documents(self) -> list[Document]:
        """Return the first documents, in order."""
        return [document for _, document in self._first()]

    def _first(self) -> list[tuple[Any, Document]]:
        return sorted(self._kept, key=itemgetter(0))[: self._most]
