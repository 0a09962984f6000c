"""Queries over the entries, in bounded memory.

Entries come in the order in which they were registered, page by page; each is looked at with
`matches`. How the database finds them depends on how many the index says there may be:

- few: the index names them, and only those are read;
- many that have one value in common: the index has them in order, so reading stops early;
- else all entries are read in order, those that the index excludes without their documents.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from inferno.core.documents.filters import parse_filter
from inferno.core.documents.matching import matches
from inferno.core.documents.projections import Projection, parse_projection, project
from inferno.core.documents.sorting import Sort, SortField, sorted_documents
from inferno.core.documents.tree import Every, Filter
from inferno.core.errors import DeadlineExceeded, InvalidRequest
from inferno.registry.compiling import All, Part, Probe, candidates, compiled, passes
from inferno.registry.entries import METADATA, NAME, REGISTERED, TAGS, Document
from inferno.storage.database import Database
from inferno.storage.tables import registry_entries, registry_values

MAX_LIMIT = 1000
MAX_SORTED = 10_000
MAX_ANSWER_BYTES = 8 * 2**20
MAX_SORTED_BYTES = 64 * 2**20
FEW = 1000
PAGE = 200
SECONDS = 30.0
"""How long one query may take."""

BY_AGE = tuple((SortField((REGISTERED,), is_descending),) for is_descending in (False, True))
"""Orders that the database has an index of."""

SEARCHED = ((NAME,), (TAGS,), (METADATA,))
"""Where `$text`, and `search`, look for words."""


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

    async def find(self, query: Query) -> Page:
        """Return what a query finds.

        Raises:
            InvalidRequest: it sorts more than fits into memory.
            DeadlineExceeded: it takes too long.
        """
        if query.sort.fields in BY_AGE and not query.count:
            page = await self._by_age(query)
        elif query.sort.fields:
            page = await self._sorted(query)
        else:
            page = await self._in_order(query)
        if query.count and page.total is None:
            total = 0
            async for _ in self._matching(query, after=0, wanted=FEW):
                total += 1
            page = Page(page.documents, page.next, total)
        return page

    async def _in_order(self, query: Query) -> Page:
        """Stop as soon as the page is full."""
        found: list[Document] = []
        skip, size = query.skip, 0
        if not query.limit:
            return Page(found)
        last = 0
        async for seq, length, document in self._matching(
            query, after=query.after, wanted=query.skip + query.limit + 1
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

    async def _by_age(self, query: Query) -> Page:
        """Stop as soon as the page is full: the database has an index of when entries came."""
        descending = query.sort.fields[0].is_descending
        plan = await self._plan(compiled(query.filter), query.owner)
        deadline = time.monotonic() + SECONDS
        found: list[Document] = []
        skip, size = query.skip, 0
        last: tuple[str, int] | None = None
        while query.limit:
            async with self._database.read() as connection:
                rows = (await connection.execute(plan.by_age(last, descending, PAGE))).all()
            for seq, text, came in rows:
                last = came, seq
                document: Document = msgspec.json.decode(text)
                if not matches(query.filter, document):
                    continue
                if skip:
                    skip -= 1
                    continue
                found.append(project(query.projection, document))
                size += len(text)
                if len(found) == query.limit:
                    return Page(found)
            if len(rows) < PAGE:
                break
            _check(deadline)
            if size > MAX_SORTED_BYTES:
                raise InvalidRequest("The query sorts too much; ask for fewer.", field="limit")
            await asyncio.sleep(0)
        return Page(found)

    async def _sorted(self, query: Query) -> Page:
        """Keep the first ones of what was seen so far."""
        most = query.skip + query.limit
        kept: list[Document] = []
        total = size = 0
        async for _, length, document in self._matching(query, after=0, wanted=FEW):
            total += 1
            size += length
            kept.append(document)
            if len(kept) > 2 * most + PAGE or size > MAX_SORTED_BYTES:
                kept = sorted_documents(kept, query.sort)[:most]
                size = sum(len(msgspec.json.encode(one)) for one in kept)
                if size > MAX_SORTED_BYTES // 2:
                    raise InvalidRequest("The query sorts too much; ask for fewer.", field="limit")
        kept = sorted_documents(kept, query.sort)[query.skip : most]
        return Page([project(query.projection, one) for one in kept], total=total)

    async def _matching(
        self, query: Query, *, after: int, wanted: int
    ) -> AsyncIterator[tuple[int, int, Document]]:
        """Yield number, length and document of all that match, in order."""
        deadline = time.monotonic() + SECONDS
        plan = await self._plan(compiled(query.filter), query.owner)
        at_once = min(max(wanted, 20), PAGE)
        while True:
            async with self._database.read() as connection:
                rows = (await connection.execute(plan.after(after, at_once))).all()
            for number, (seq, text) in enumerate(rows):
                document: Document = msgspec.json.decode(text)
                if matches(query.filter, document):
                    yield seq, len(text), document
                if number % 20 == 19:
                    await asyncio.sleep(0)  # others want to be served too
            if len(rows) < at_once:
                return
            after, at_once = rows[-1][0], PAGE
            _check(deadline)

    async def _plan(self, parts: All, owner: str | None) -> Plan:
        """Choose how to find the entries; asks how many each part may find."""
        mine = [] if owner is None else [registry_entries.c.owner == owner]
        known = [(part, found) for part in parts.parts if (found := candidates(part)) is not None]
        if not known:
            return Plan(mine + _conditions(parts.parts))
        counts = [
            sa.select(sa.func.count())
            .select_from(found.limit(FEW + 1).subquery())
            .scalar_subquery()
            for _, found in known[:8]
        ]
        async with self._database.read() as connection:
            sizes = (await connection.execute(sa.select(*counts))).one()
        fewest = min(range(len(sizes)), key=lambda index: sizes[index])
        if sizes[fewest] <= FEW:
            part, found = known[fewest]
            others = _conditions(one for one in parts.parts if one is not part)
            # Of a part that is not whole in the index, the candidates are more than what passes.
            rest = [] if isinstance(part, Probe) else [passes(part)]
            return Plan([*mine, *others, *rest, registry_entries.c.seq.in_(found)])
        first = leader(parts.parts)
        return Plan(mine + _conditions(one for one in parts.parts if one is not first), first)


def _check(deadline: float) -> None:
    """Give a query up that takes too long. Raises DeadlineExceeded."""
    if time.monotonic() > deadline:
        raise DeadlineExceeded(
            f"The query took longer than {SECONDS:g} s; narrow it down by equality, or page "
            "through it."
        )


def _conditions(parts: Iterable[Part]) -> list[sa.ColumnElement[bool]]:
    return [passes(one) for one in parts]


def leader(parts: tuple[Part, ...]) -> Probe | None:
    """Return the part that the index has in the order of entries, if there is one."""
    return next((one for one in parts if isinstance(one, Probe) and one.is_equality), None)


@dataclass(frozen=True, slots=True)
class Plan:
    """How entries are found.

    Args:
        conditions: on their rows.
        leader: a part whose order the database follows.
    """

    conditions: list[sa.ColumnElement[bool]]
    leader: Probe | None = None

    def by_age(self, last: tuple[str, int] | None, descending: bool, most: int) -> sa.Select[Any]:
        """Return the query for the entries behind one, in the order of their registration.

        Args:
            last: when that one was registered, and its number.
            descending: whether the newest come first; those of one moment keep their order.
            most: at most so many.
        """
        columns = registry_entries.c
        came = columns.registered_at
        query = sa.select(columns.seq, columns.document, came).where(*self.conditions)
        if self.leader is not None:
            query = query.where(passes(self.leader))
        if last is not None:
            behind = came < last[0] if descending else came > last[0]
            same = sa.and_(came == last[0], columns.seq > last[1])
            query = query.where(sa.or_(behind, same))
        return query.order_by(came.desc() if descending else came, columns.seq).limit(most)

    def after(self, seq: int, most: int) -> sa.Select[Any]:
        """Return the query for the entries behind one."""
        entries = registry_entries
        query = sa.select(entries.c.seq, entries.c.document).where(*self.conditions).limit(most)
        if self.leader is None:
            return query.where(entries.c.seq > seq).order_by(entries.c.seq)
        values = registry_values.alias("leader")
        return (
            query.join(values, values.c.seq == entries.c.seq)
            .where(self.leader.condition(values), values.c.seq > seq)
            .order_by(values.c.seq)
        )
