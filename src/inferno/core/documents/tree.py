"""What a filter is parsed into: a small tree that can be matched, or compiled to SQL.

A filter is a clause. A clause about a field names a path and one test. A test is about the values
that the path reaches: it holds when one of them passes, and `Not` turns the whole answer around, so
that `{"tags": {"$ne": "a"}}` means that no tag is `a`.

    Filter = Every | AnyOf | NoneOf | Field | Expression | Text
    Test   = Compare | OneOf | Exists | HasType | Matches | Modulo | HasSize | ElementMatches
             | ElementPasses | Both | Not
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from inferno.core.documents.patterns import Pattern
from inferno.core.documents.values import order_key

Path = tuple[str, ...]
"""A dotted path, taken apart: `a.b.0` is `("a", "b", "0")`."""

Comparison = Literal["$eq", "$gt", "$gte", "$lt", "$lte"]


@dataclass(frozen=True, slots=True)
class Every:
    """`$and`, and the fields of one filter beside each other; true of all when it is empty."""

    clauses: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """`$or`."""

    clauses: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """`$nor`."""

    clauses: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One test of what a path reaches.

    Args:
        path: where to look.
        test: what to ask of the values there.
    """

    path: Path
    test: Test


@dataclass(frozen=True, slots=True)
class Text:
    """`$text`: words, as people write them.

    A document matches when one of the words or all of the phrases are in its text, and none of the
    excluded words is. All are casefolded.

    Args:
        paths: the fields that are searched, with all that is inside them.
        words: any of these is enough, unless there are phrases.
        phrases: all of these, as they stand.
        excluded: none of these.
    """

    paths: tuple[Path, ...]
    words: frozenset[str]
    phrases: tuple[str, ...]
    excluded: frozenset[str]


@dataclass(frozen=True, slots=True)
class Constant:
    """A value in an expression.

    Args:
        value: which.
        keys: of its elements, where it is an array, for `$in`.
    """

    value: object
    keys: frozenset[object] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Reference:
    """`$a.b` in an expression: what is at a path, or nothing."""

    path: Path


@dataclass(frozen=True, slots=True)
class Call:
    """An operator of `$expr` with its arguments.

    Args:
        operator: `$gt`, say.
        arguments: in order.
    """

    operator: str
    arguments: tuple[Operand, ...]


Operand = Constant | Reference | Call


@dataclass(frozen=True, slots=True)
class Expression:
    """`$expr`: true when the operand's value is neither false, null, zero nor missing."""

    operand: Operand


Filter = Every | AnyOf | NoneOf | Field | Text | Expression


@dataclass(frozen=True, slots=True)
class Compare:
    """`$eq`, `$gt`, `$gte`, `$lt` or `$lte`; orders only within a type, as MongoDB does.

    Args:
        operator: which.
        value: what to compare with; for `{"$date": …}` its canonical text.
        instant: the moment that `value` names, where it is a full timestamp. Text of documents
            that is a timestamp is then compared as a moment, and other text as text.
        is_date: whether it was written as `{"$date": …}`: then only timestamps are compared.
    """

    operator: Comparison
    value: object
    instant: datetime | None = None
    is_date: bool = False
    order: tuple[Any, ...] = field(init=False, repr=False, compare=False)
    """What values are ordered against; worked out once, and not for each of them."""

    def __post_init__(self) -> None:
        """Work out the order."""
        object.__setattr__(self, "order", order_key(self.value))


@dataclass(frozen=True, slots=True)
class OneOf:
    """`$in`: equal to one of the values, or matching one of the patterns.

    Args:
        values: as they were given.
        patterns: regular expressions among them.
        keys: of the values, for a lookup that takes no longer for 10,000 of them.
        instants: the moments that values name.
    """

    values: tuple[object, ...]
    patterns: tuple[Pattern, ...] = ()
    keys: frozenset[object] = field(default=frozenset(), repr=False)
    instants: frozenset[datetime] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True)
class Exists:
    """`$exists: true`; `$exists: false` is `Not(Exists())`."""


@dataclass(frozen=True, slots=True)
class HasType:
    """`$type`, by the names of `values.type_names`."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Matches:
    """`$regex`: text in which the pattern is found."""

    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Modulo:
    """`$mod`: numbers that leave a remainder when they are divided."""

    divisor: int
    remainder: int


@dataclass(frozen=True, slots=True)
class HasSize:
    """`$size`: arrays of so many elements."""

    size: int


@dataclass(frozen=True, slots=True)
class ElementMatches:
    """`$elemMatch` with a filter: arrays in which one object matches it."""

    filter: Filter


@dataclass(frozen=True, slots=True)
class ElementPasses:
    """`$elemMatch` with tests: arrays in which one element passes them all."""

    test: Test


@dataclass(frozen=True, slots=True)
class Both:
    """Several tests of one path, each of which has to hold; maybe by different elements."""

    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`$not`, `$ne` and `$nin`: the test does not hold."""

    test: Test


Test = (
    Compare
    | OneOf
    | Exists
    | HasType
    | Matches
    | Modulo
    | HasSize
    | ElementMatches
    | ElementPasses
    | Both
    | Not
)
