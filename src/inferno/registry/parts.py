"""Conditions on entries that the index of values can decide, and their SQL.

Probe    one of an entry's keys at a path is one of some
Span     one of an entry's keys at a path is in a range
Search   a text at a path may match a pattern; looked up before it becomes SQL
All      all of several hold
AnyPart  one of several holds
Negated  something does not hold
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from inferno.core.documents.patterns import Pattern
from inferno.registry.indexing import kept_path
from inferno.registry.keys import kind
from inferno.registry.paths import HIDDEN, PLAIN, REACHED
from inferno.registry.sql import listed
from inferno.storage.tables import registry_entries, registry_values

Condition = sa.ColumnElement[bool]

FEW_KEYS = 20
"""Keys that a statement names one by one."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Which levels of values count.

    Args:
        least: the first that does.
        most: the last.
    """

    least: int = PLAIN
    most: int = HIDDEN

    def condition(self, values: Any) -> list[Condition]:
        """Return the test of a row of the index."""
        level = values.c.level
        # Numbers that stand in the SQL, the first of them as it does in the partial index.
        limits = [
            (self.least > PLAIN, level > sa.literal_column("0")),
            (self.least > REACHED, level > sa.literal_column("1")),
            (self.most < HIDDEN, level <= sa.literal_column(str(self.most))),
        ]
        return [condition for is_asked, condition in limits if is_asked]


EVERY_LEVEL = Levels()
FOUND = Levels(most=REACHED)
"""Values that a path finds: what a test says of one of them, it says of the entry."""
IN_ARRAYS = Levels(REACHED)
NOT_FOUND = Levels(HIDDEN)


@dataclass(frozen=True, slots=True)
class Probe:
    """One of an entry's keys at a path is one of some.

    Args:
        path: dotted.
        keys: at least one.
        levels: of the values that count.
    """

    path: str
    keys: tuple[str, ...]
    levels: Levels = EVERY_LEVEL

    def condition(self, values: Any, *, of_one: bool = False) -> Condition:
        """Return the test of a row of the index.

        Args:
            values: the index.
            of_one: whether it is asked of one entry; either index leads to the one row.
        """
        key = values.c.value
        if len(self.keys) == 1:
            test = key == self.keys[0]
        else:
            test = key.in_(self.keys if len(self.keys) <= FEW_KEYS else listed(self.keys))
        return sa.and_(values.c.path == kept_path(self.path), test, *self.levels.condition(values))


@dataclass(frozen=True, slots=True)
class Span:
    """One of an entry's keys at a path is in a range.

    Args:
        path: dotted.
        low: the first key.
        high: the first key behind the last.
        levels: of the values that count.
    """

    path: str
    low: str
    high: str
    levels: Levels = EVERY_LEVEL

    def condition(self, values: Any, *, of_one: bool = False) -> Condition:
        """Return the test of a row of the index.

        Args:
            values: the index.
            of_one: whether it is asked of one entry, whose values are few: the database should look
                through them, and not through all that is in the range.
        """
        key = values.c.value.concat("") if of_one else values.c.value
        inside = [values.c.path == kept_path(self.path), key >= self.low, key < self.high]
        return sa.and_(*inside, *self.levels.condition(values))


@dataclass(frozen=True, slots=True)
class Search:
    """A text at a path may match a pattern.

    Args:
        span: the texts that may.
        pattern: a regular expression.
    """

    span: Span
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class All:
    """All of several hold."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class AnyPart:
    """One of several holds."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Negated:
    """Something does not hold."""

    part: Part


Part = Probe | Span | Search | All | AnyPart | Negated

EVERYTHING, NOTHING = All(()), AnyPart(())


def all_of(parts: Iterable[Part]) -> Part:
    """Return that all of several hold."""
    flat: list[Part] = []
    for one in parts:
        flat += one.parts if isinstance(one, All) else [one]
    if NOTHING in flat:
        return NOTHING
    flat = list(dict.fromkeys(flat))
    return flat[0] if len(flat) == 1 else All(tuple(flat))


def any_of(parts: Iterable[Part]) -> Part:
    """Return that one of several holds."""
    flat: list[Part] = []
    for one in parts:
        flat += one.parts if isinstance(one, AnyPart) else [one]
    if EVERYTHING in flat:
        return EVERYTHING
    flat = list(dict.fromkeys(flat))
    return flat[0] if len(flat) == 1 else AnyPart(tuple(flat))


def negated(part: Part) -> Part:
    """Return that something does not hold."""
    match part:
        case All(parts):
            return any_of(negated(one) for one in parts)
        case AnyPart(parts):
            return all_of(negated(one) for one in parts)
        case Negated(inner):
            return inner
        case Search(span):
            return Negated(span)  # whatever the pattern will turn out to find
    return Negated(part)


def without(part: Part, excluded: Part) -> Part:
    """Return that one thing holds, and another, of which it follows, does not."""
    if isinstance(part, Probe | Span) and excluded == replace(part, levels=FOUND):
        part = replace(part, levels=NOT_FOUND)
    return all_of([part, negated(excluded)])


def within(spans: Sequence[Span]) -> Part:
    """Return that an entry has keys in all of several ranges of one type at one path.

    Where no array is on the way, that is one key in what the ranges have in common.
    """
    if len(spans) == 1:
        return spans[0]
    path, (first, last) = spans[0].path, kind(spans[0].low)
    low, high = max(one.low for one in spans), min(one.high for one in spans)
    apart = All((Span(path, low, last, IN_ARRAYS), Span(path, first, high, IN_ARRAYS)))
    return AnyPart((Span(path, low, high), apart)) if low < high else apart


def passes(part: Part) -> Condition:
    """Return the condition on an entry's row."""
    match part:
        case Probe() if len(part.keys) > FEW_KEYS:
            # Looked up once, and not again for each entry.
            return registry_entries.c.seq.in_(numbers([part]))
        case Probe() | Span():
            same = registry_values.c.seq == registry_entries.c.seq
            test = part.condition(registry_values, of_one=True)
            found: sa.Select[Any] = sa.select(sa.literal_column("1")).where(same, test)
            # The offset tells Postgres to ask of each entry that it comes to. It would rather look
            # all of them up first, because it takes a path and a value for independent.
            return sa.exists(found.correlate(registry_entries).offset(0))
        case Search(span):
            return passes(span)
        case All(parts):
            return sa.and_(sa.true(), *map(passes, parts))
        case AnyPart(parts):
            return sa.or_(sa.false(), *map(passes, parts))
        case Negated(inner):
            return sa.not_(passes(inner))


def branches(part: Part) -> list[Probe | Span] | None:
    """Return parts of which one holds where a part does, so that the index can name the entries.

    None where there are none: the part says only what an entry does not have.
    """
    match part:
        case Probe() | Span():
            return [part]
        case Search(span):
            return [span]
        case All(parts):
            known = [found for one in parts if (found := branches(one)) is not None]
            return min(known, key=len, default=None)
        case AnyPart(parts):
            all_ = [branches(one) for one in parts]
            return None if None in all_ else [one for found in all_ for one in found or ()]
    return None


def numbers(found: Sequence[Probe | Span]) -> sa.Select[Any] | sa.CompoundSelect[Any]:
    """Return the query for the numbers of entries that have one of some parts.

    A number may come more than once.
    """
    query: sa.Select[Any] = sa.select(registry_values.c.seq)
    selects = [query.where(one.condition(registry_values)) for one in found]
    if not selects:
        return query.where(sa.false())
    return selects[0] if len(selects) == 1 else sa.union_all(*selects)


def size(part: Part) -> int:
    """Return how many tests a part has."""
    match part:
        case All(parts) | AnyPart(parts):
            return sum(map(size, parts))
        case Negated(inner):
            return size(inner)
    return 1


def keys(part: Part) -> int:
    """Return how many keys the SQL of a part has as parameters."""
    match part:
        case All(parts) | AnyPart(parts):
            return sum(map(keys, parts))
        case Negated(inner):
            return keys(inner)
        case Probe() if len(part.keys) <= FEW_KEYS:
            return len(part.keys)
    return 2
