"""How the database finds the entries that may match.

It depends on how many the index says there may be:

- few: the index names them, and only those are read;
- many that have one value in common: the index has them in order, so reading stops early;
- else all entries are read in order, those that the index excludes without their documents.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sqlalchemy as sa

from inferno.core.documents.patterns import Sieve
from inferno.registry.deadline import Deadline
from inferno.registry.examining import Examiner
from inferno.registry.indexing import kept_path
from inferno.registry.keys import ANY, MAX_KEY, behind
from inferno.registry.lacking import is_lacking
from inferno.registry.parts import (
    NOTHING,
    All,
    AnyPart,
    Condition,
    Negated,
    Part,
    Probe,
    Search,
    Span,
    any_of,
    branches,
    numbers,
    passes,
)
from inferno.storage.database import Database
from inferno.storage.tables import registry_entries, registry_values

FEW = 1000
PAGE = 200
MAX_COUNTED = 8
"""Parts of a filter that are counted to find the rarest."""

DISTINCT = 500
"""Different texts at a path that are found one by one; where there are more, all are read."""

TEXTS = 2000
"""Texts that are read at once."""

SEARCHED = 500
"""Texts that a pattern is looked for in before others are served."""

_DISTINCT = sa.text(
    "WITH RECURSIVE found (value) AS ("
    " SELECT min(value) FROM registry_values"
    " WHERE path = :path AND value >= :low AND value < :high"
    " UNION ALL"
    " SELECT (SELECT min(other.value) FROM registry_values AS other WHERE other.path = :path"
    " AND other.value > found.value AND other.value < :high)"
    " FROM found WHERE found.value IS NOT NULL"
    ") SELECT value FROM found WHERE value IS NOT NULL LIMIT :most"
)
"""Goes from each text to the next, past all entries that have the same one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How entries are found.

    Args:
        conditions: on their rows.
        leader: a part whose order the database follows.
        named: the numbers of all that there may be, in order, where they are few.
    """

    conditions: list[Condition]
    leader: Probe | None = None
    named: list[int] | None = None

    async def pages(self, database: Database, after: int, most: int) -> AsyncIterator[list[Any]]:
        """Yield numbers and documents of the entries behind one, page by page.

        Args:
            database: where they are.
            after: the number of that one.
            most: on the first page; there may be more on later ones.
        """
        if self.named is not None:
            start = bisect_right(self.named, after)
            while start < len(self.named):
                some = self.named[start : start + most]
                yield await _read(database, self._of(some))
                start, most = start + most, PAGE
            return
        while True:
            rows = await _read(database, self._behind(after, most))
            yield rows
            if len(rows) < most:
                return
            after, most = rows[-1].seq, PAGE

    def _of(self, numbers: list[int]) -> sa.Select[Any]:
        columns = registry_entries.c
        query = sa.select(columns.seq, columns.document).where(columns.seq.in_(numbers))
        return query.where(*self.conditions).order_by(columns.seq)

    def _behind(self, seq: int, most: int) -> sa.Select[Any]:
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

    def all_conditions(self) -> list[Condition]:
        """Return the conditions, with that of the leader, for those who have their own order."""
        return self.conditions + ([] if self.leader is None else [passes(self.leader)])


class Planner:
    """Chooses plans.

    Args:
        database: where the entries are.
        examiner: looks for patterns in many texts.
    """

    def __init__(self, database: Database, examiner: Examiner) -> None:
        self._database = database
        self._examiner = examiner

    async def plan(
        self,
        parts: All,
        owner: str | None,
        deadline: Deadline,
        *,
        is_in_order: bool = True,
        is_exact: bool = False,
    ) -> Plan:
        """Choose how to find the entries of which some parts hold; asks how many each may find.

        Args:
            parts: what has to hold.
            owner: whose entries; None is everybody's.
            deadline: of the query.
            is_in_order: whether they are wanted in the order of registration.
            is_exact: whether the parts have to hold of all that is found; else it may be more.

        Raises:
            DeadlineExceeded: a pattern is looked for in too many texts.
        """
        mine = [] if owner is None else [registry_entries.c.owner == owner]
        only = leader(parts.parts) if len(parts.parts) == 1 else None
        if only is not None and is_in_order:
            return Plan(mine, only)  # however many there are
        plan = await self._few(parts, mine, is_exact=is_exact)
        if plan is not None:
            return plan
        resolved = All(tuple([await self._resolved(one, deadline) for one in parts.parts]))
        if resolved != parts:
            plan = await self._few(resolved, mine, is_exact=is_exact)
            if plan is not None:
                return plan
        first = leader(resolved.parts)
        others = [one for one in resolved.parts if one is not first]
        return Plan(mine + conditions(others), first)

    async def _few(self, parts: All, mine: list[Condition], *, is_exact: bool) -> Plan | None:
        """Return a plan that starts with the rarest part, where it is rare."""
        known = [(part, found) for part in parts.parts if (found := branches(part)) is not None]
        known = known[:MAX_COUNTED]
        if not known:
            return None
        counted: list[Any] = [_count(one) for _, all_ in known for one in all_]
        async with self._database.read() as connection:
            query = sa.select(sa.literal_column("1"), *counted)
            counts = iter((await connection.execute(query)).one()[1:])
            sizes = [sum(islice(counts, len(found))) for _, found in known]
            fewest = min(range(len(sizes)), key=sizes.__getitem__)
            if sizes[fewest] > FEW:
                return None
            part, found = known[fewest]
            named = (await connection.execute(numbers(found))).scalars()
            # Of a part that is not whole in the index, more are named than pass.
            is_whole = not is_exact or isinstance(part, Probe | Span)
            others = conditions(one for one in parts.parts if one is not part or not is_whole)
            return Plan(mine + others, named=sorted(set(named)))

    async def _resolved(self, part: Part, deadline: Deadline) -> Part:
        """Return a part as what the database holds makes of it.

        Patterns become the texts that they are found in; nothing lacks what all entries have.
        """
        match part:
            case Negated(Span() as span) if (span.low, span.high) == ANY:
                return part if await is_lacking(self._database, span.path) else NOTHING
            case Search():
                return await self._matching_texts(part, deadline)
            case AnyPart(parts):
                return any_of([await self._resolved(one, deadline) for one in parts])
        return part

    async def _matching_texts(self, search: Search, deadline: Deadline) -> Part:
        sieve, span = Sieve(search.pattern), search.span
        bounds = {
            "path": kept_path(span.path),
            "low": span.low,
            "high": span.high,
            "most": DISTINCT + 1,
        }
        async with self._database.read() as connection:
            keys = list((await connection.execute(_DISTINCT, bounds)).scalars())
        found = await self._found(sieve, keys[:DISTINCT], deadline)
        low = keys[-1] if len(keys) > DISTINCT else None
        while low is not None and len(found) <= FEW:
            texts = _texts(Span(span.path, low, span.high))
            low = await self._end_of(texts, sieve)
            if low == "":
                async with self._database.read() as connection:
                    keys = list((await connection.execute(texts)).scalars())
                found += await self._found(sieve, keys, deadline)
                low = behind(keys[-1]) if len(keys) == TEXTS else None
            await deadline.pause()
        if len(found) > FEW:
            return span
        return Probe(span.path, tuple(found)) if found else NOTHING

    async def _end_of(self, texts: sa.Select[Any], sieve: Sieve) -> str | None:
        """Return where to go on behind some texts in which a pattern is not found.

        None where they are the last ones; empty where the pattern may be found.
        """
        some = texts.subquery()
        lines = sa.func.aggregate_strings(sa.func.substr(some.c.value, 2), "\n")
        ends = sa.func.max(some.c.value), sa.func.max(sa.func.length(some.c.value))
        async with self._database.read() as connection:
            query = sa.select(lines, *ends, sa.func.count())
            joined, last, longest, count = (await connection.execute(query)).one()
        if count == 0:
            return None
        if longest >= MAX_KEY or not await self._examiner.ask(
            sieve.size * len(joined), sieve.is_in_none, joined
        ):
            return ""
        return behind(last) if count == TEXTS else None

    async def _found(self, sieve: Sieve, keys: Sequence[str], deadline: Deadline) -> list[str]:
        """Return the keys of texts in which a pattern is, or may be where they are cut off."""
        found: list[str] = []
        for start in range(0, len(keys), SEARCHED):
            some = keys[start : start + SEARCHED]
            whole = [key[1:] for key in some if len(key) < MAX_KEY]
            cost = sieve.size * sum(map(len, whole))
            texts = set(await self._examiner.ask(cost, sieve.found, whole))
            found += [key for key in some if len(key) == MAX_KEY or key[1:] in texts]
            await deadline.pause()
        return found


def _texts(span: Span) -> sa.Select[Any]:
    """Return the query for the first of the different texts in a range."""
    values = registry_values
    query: sa.Select[Any] = sa.select(values.c.value).where(span.condition(values))
    return query.distinct().order_by(values.c.value).limit(TEXTS)


def _count(part: Probe | Span) -> sa.ScalarSelect[int]:
    """Return the query for how many rows of the index a part has, up to one more than few."""
    some: sa.Select[Any] = sa.select(sa.literal_column("1"))
    some = some.where(part.condition(registry_values)).limit(FEW + 1)
    return sa.select(sa.func.count()).select_from(some.subquery()).scalar_subquery()


async def _read(database: Database, query: sa.Select[Any]) -> list[Any]:
    async with database.read() as connection:
        return list((await connection.execute(query)).all())


def leader(parts: Iterable[Part]) -> Probe | None:
    """Return the part that the index has in the order of entries, if there is one."""
    return next((one for one in parts if isinstance(one, Probe) and len(one.keys) == 1), None)


def conditions(parts: Iterable[Part]) -> list[Condition]:
    """Return the conditions of parts."""
    return [passes(one) for one in parts]
