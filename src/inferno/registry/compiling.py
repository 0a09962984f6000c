"""A filter as SQL: what the index of values can say about it.

The SQL leaves out no entry that matches, but may let others through: whoever asks looks at each
with `matches`, which alone says what a filter means. So whatever has no counterpart here (`$not`,
`$regex`, null, arrays, a part of a path that is an array's index) is left to that, and so is every
difference between databases.

    Probe    a test that one value of an entry passes
    All      all of several hold
    AnyPart  one of several holds
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from inferno.core.documents.tree import (
    AnyOf,
    Both,
    Compare,
    ElementMatches,
    ElementPasses,
    Every,
    Field,
    Filter,
    OneOf,
    Path,
    Test,
)
from inferno.core.documents.values import timestamp
from inferno.registry.entries import EXPIRES, REGISTERED, UPDATED
from inferno.registry.paths import MAX_TEXT, Value, is_indexable, value_at
from inferno.storage.tables import registry_entries, registry_values

TIMES = frozenset({REGISTERED, UPDATED, EXPIRES})
"""Paths where text is always a time in its canonical form."""

MAX_VALUES = 20_000
"""Values in one statement; databases take some 32,000."""

MAX_PROBES = 200
"""Tests in one statement: a longer one costs more to plan than it saves."""

Operator = Literal["in", "at_least", "at_most"]
Condition = sa.ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class Probe:
    """A value at a path that is one of some, or at one side of one.

    Args:
        path: dotted.
        operator: how the value stands to the operands.
        operands: texts' beginnings, or numbers; one of them unless the operator is `in`.
    """

    path: str
    operator: Operator
    operands: tuple[Value, ...]

    @property
    def is_equality(self) -> bool:
        """Whether the index gives what passes in the order of entries."""
        return self.operator == "in" and len(self.operands) == 1

    def condition(self, values: Any, *, of_one: bool = False) -> Condition:
        """Return the test of a row of the index.

        Args:
            values: the index.
            of_one: whether the values of one entry are tested, rather than those of all looked up.
        """
        at = values.c.path == self.path
        sides: list[Condition] = []
        for column in (values.c.value, values.c.number):
            given = [getattr(one, column.name) for one in self.operands]
            given = [one for one in given if one is not None]
            if given:
                # SQLite would walk through a range of all entries for each one that it tests.
                nothing: Any = "" if column is values.c.value else 0
                plain = column + nothing if of_one and self.operator != "in" else column
                sides.append(self._side(plain, given))
        return sa.and_(at, sa.or_(*sides))

    def _side(self, column: Any, operands: Sequence[Any]) -> Condition:
        if self.operator == "at_least":
            return sa.and_(column.is_not(None), column >= operands[0])
        if self.operator == "at_most":
            return sa.and_(column.is_not(None), column <= operands[0])
        one_of: Condition = column.in_(operands)
        return one_of if len(operands) > 1 else sa.and_(column == operands[0])


@dataclass(frozen=True, slots=True)
class All:
    """All of several hold."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class AnyPart:
    """One of several holds."""

    parts: tuple[Part, ...]


Part = Probe | All | AnyPart


def compiled(filter_: Filter) -> All:
    """Return what of a filter the index can tell; `All(())` where that is nothing."""
    found = _filter(filter_, ())
    if found is None or _probes(found) > MAX_PROBES or _operands(found) > MAX_VALUES:
        return All(())
    return found if isinstance(found, All) else All((found,))


def passes(part: Part) -> Condition:
    """Return the condition on an entry's row."""
    match part:
        case Probe():
            values = registry_values.alias()
            same = values.c.seq == registry_entries.c.seq
            return sa.exists().where(same, part.condition(values, of_one=True))
        case All():
            return sa.and_(sa.true(), *map(passes, part.parts))
        case AnyPart():
            return sa.or_(sa.false(), *map(passes, part.parts))


def candidates(part: Part) -> sa.Select[Any] | sa.CompoundSelect[Any] | None:
    """Return a query for the numbers of all entries that may pass; None where all may."""
    match part:
        case Probe():
            values = registry_values.alias()
            return sa.select(values.c.seq).where(part.condition(values))
        case All():
            found = [candidates(one) for one in part.parts]
            return next((one for one in found if one is not None), None)
        case AnyPart():
            all_ = [candidates(one) for one in part.parts]
            known = [one for one in all_ if one is not None]
            return sa.union(*known) if known and len(known) == len(all_) else None


def _filter(filter_: Filter, prefix: Path) -> Part | None:
    """Return what can be told of a filter on what is at a path."""
    match filter_:
        case Field():
            return _test(filter_.test, (*prefix, *filter_.path))
        case Every():
            return _every([_filter(one, prefix) for one in filter_.clauses])
        case AnyOf():
            parts = [_filter(one, prefix) for one in filter_.clauses]
            known = [one for one in parts if one is not None]
            return AnyPart(tuple(known)) if known and len(known) == len(parts) else None
    return None


def _every(parts: Sequence[Part | None]) -> Part | None:
    """Return that all hold; what cannot be told is left out."""
    flat: list[Part] = []
    for one in parts:
        flat += one.parts if isinstance(one, All) else [one] if one is not None else []
    return All(tuple(flat)) if flat else None


def _test(test: Test, path: Path) -> Part | None:
    """Return what can be told of a test of what is at a path."""
    dotted = ".".join(path)
    if any("." in part for part in path) or not is_indexable(dotted):
        return None
    match test:
        case Compare():
            return _compare(test, dotted)
        case OneOf() if not test.patterns:
            return _one_of(test, dotted)
        case ElementMatches():
            return _filter(test.filter, path)
        case ElementPasses():
            return _test(test.test, path)
        case Both():
            return _every([_test(one, path) for one in test.tests])
    return None


_OPERATORS: dict[str, Operator] = {
    "$eq": "in",
    "$gt": "at_least",
    "$gte": "at_least",
    "$lt": "at_most",
    "$lte": "at_most",
}
"""A text's beginning and a rounded number cannot tell what is equal from what is greater."""


def _compare(test: Compare, path: str) -> Probe | None:
    operand = test.value
    if test.instant is not None:
        # A time has many forms; the index knows only one, where the registry itself wrote it.
        if path not in TIMES:
            return None
        operand = timestamp(test.instant)
    value = _operand(path, operand)
    return Probe(path, _OPERATORS[test.operator], (value,)) if value is not None else None


def _one_of(test: OneOf, path: str) -> Probe | None:
    if test.instants or not test.values:
        return None
    values = [_operand(path, one) for one in test.values]
    known = tuple(dict.fromkeys(one for one in values if one is not None))
    return Probe(path, "in", known) if len(values) == sum(v is not None for v in values) else None


def _operand(path: str, operand: object) -> Value | None:
    """Return how an operand is in the index; None for what is not."""
    if isinstance(operand, str) and "\x00" in operand[:MAX_TEXT]:
        return None  # Postgres cannot be asked for it
    return value_at(path, operand)


def _probes(part: Part) -> int:
    return 1 if isinstance(part, Probe) else sum(map(_probes, part.parts))


def _operands(part: Part) -> int:
    if isinstance(part, Probe):
        return len(part.operands)
    return sum(map(_operands, part.parts))
