"""A filter as a condition that the index of values can decide. Pure.

Two answers come out of one walk:

    possible(filter)   leaves out no entry that matches, but may let others through
    certain(filter)    lets none through that does not match, but may leave others out

Each is the other's counterpart under `$not`, `$ne` and `$nor`: what possibly is not, is what not
certainly is. Whoever asks looks at each entry with `matches`, which alone says what a filter means,
unless it is certain. What has no counterpart here (a part of a path that is an array's index, most
of `$expr`) is possible and never certain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inferno.core.documents.patterns import Pattern, prefix_of
from inferno.core.documents.tree import (
    AnyOf,
    Both,
    Call,
    Compare,
    Constant,
    ElementMatches,
    ElementPasses,
    Every,
    Exists,
    Expression,
    Field,
    Filter,
    HasSize,
    HasType,
    Matches,
    Modulo,
    NoneOf,
    Not,
    OneOf,
    Operand,
    Path,
    Reference,
    Test,
    Text,
)
from inferno.core.documents.values import identities, instant_of, timestamp
from inferno.registry.indexing import TIMES
from inferno.registry.keys import (
    ANY,
    BOOLEAN,
    EMPTY,
    INSTANT,
    MAX_TEXT,
    NULL,
    NUMBER,
    OBJECT,
    TEXT,
    beginning_with,
    behind,
    is_exact,
    key_of,
    key_of_instant,
    kind,
)
from inferno.registry.parts import (
    EVERY_LEVEL,
    EVERYTHING,
    FOUND,
    IN_ARRAYS,
    NOTHING,
    All,
    Levels,
    Part,
    Probe,
    Search,
    Span,
    all_of,
    any_of,
    keys,
    negated,
    size,
    within,
)
from inferno.registry.paths import MANY_WORDS, WORDS, is_indexable, rows_at

MAX_KEYS = 20_000
"""Keys in one statement; databases take some 32,000 parameters."""

MAX_SIZE = 200
"""Tests in one statement: a longer one costs more to plan than it saves."""

MAX_LEAVES = 8
"""Values of an object or array that are looked for, of those that it has to equal."""


def possible(filter_: Filter) -> All:
    """Return a condition that holds of every entry that matches."""
    found = _Compiler(is_certain=False).filter(filter_, ())
    if size(found) > MAX_SIZE or keys(found) > MAX_KEYS:
        return EVERYTHING
    return found if isinstance(found, All) else All((found,))


def certain(filter_: Filter) -> Part:
    """Return a condition that holds of no entry that does not match."""
    found = _Compiler(is_certain=True).filter(filter_, ())
    return NOTHING if size(found) > MAX_SIZE or keys(found) > MAX_KEYS else found


@dataclass(frozen=True, slots=True)
class _Compiler:
    """Compiles to what is certain, or to what is possible.

    Args:
        is_certain: which of them.
        in_element: whether it is about elements of an array: of one of them nothing is certain,
            because the index does not tell them apart.
    """

    is_certain: bool
    in_element: bool = False

    @property
    def _unknown(self) -> Part:
        return NOTHING if self.is_certain else EVERYTHING

    @property
    def _levels(self) -> Levels:
        return FOUND if self.is_certain else EVERY_LEVEL

    def _opposite(self) -> _Compiler:
        return _Compiler(not self.is_certain, self.in_element)

    def _of_elements(self) -> _Compiler:
        return _Compiler(self.is_certain, in_element=True)

    def filter(self, filter_: Filter, prefix: Path) -> Part:
        """Return what can be told of a filter on what is at a path."""
        match filter_:
            case Field():
                return self.test(filter_.test, (*prefix, *filter_.path))
            case Every(clauses):
                return self._every(self.filter(one, prefix) for one in clauses)
            case AnyOf(clauses):
                return any_of(self.filter(one, prefix) for one in clauses)
            case NoneOf(clauses):
                opposite = self._opposite()
                return negated(any_of(opposite.filter(one, prefix) for one in clauses))
            case Expression(operand) if not self.is_certain:
                return self._expression(operand, prefix)
            case Text() if not self.is_certain:
                return _words(filter_)
        return self._unknown

    def _every(self, parts: Iterable[Part]) -> Part:
        """Return that all hold; ranges at one path are one range."""
        found = all_of(parts)
        if self.is_certain or not isinstance(found, All):
            return found
        spans: dict[tuple[str, str], list[Span]] = {}
        rest: list[Part] = []
        for one in found.parts:
            if isinstance(one, Span) and one.levels == EVERY_LEVEL and one.high != ANY[1]:
                spans.setdefault((one.path, one.low[0]), []).append(one)
            else:
                rest.append(one)
        return all_of([*rest, *map(within, spans.values())])

    def test(self, test: Test, path: Path) -> Part:
        """Return what can be told of a test of what is at a path."""
        dotted = ".".join(path)
        if not is_indexable(dotted) or (self.is_certain and self.in_element):
            return self._unknown
        match test:
            case Not(inner):
                return negated(self._opposite().test(inner, path))
            case Both(tests):
                return self._every(self.test(one, path) for one in tests)
            case ElementMatches(filter_) if not self.is_certain:
                return self._of_elements().filter(filter_, path)
            case ElementPasses(inner) if not self.is_certain:
                return self._of_elements().test(inner, path)
            case Compare():
                return self._compare(test, dotted)
            case OneOf():
                return self._one_of(test, dotted)
            case Exists():
                return Span(dotted, *ANY, self._levels)
            case HasType(names):
                return any_of(self._type(name, dotted) for name in sorted(names))
            case HasSize(count) if not self.is_certain:
                empty = Probe(dotted, (EMPTY,))
                return empty if count == 0 else Span(dotted, *ANY, IN_ARRAYS)
            case Modulo() if not self.is_certain:
                return Span(dotted, *kind(NUMBER))
            case Matches(pattern) if not self.is_certain:
                return _search(dotted, pattern)
        return self._unknown

    def _compare(self, test: Compare, path: str) -> Part:
        if test.value is None:
            return NOTHING if test.operator in ("$gt", "$lt") else self._null(path)
        if test.instant is not None:
            return self._compare_instant(test, test.instant, path)
        if isinstance(test.value, dict | list):
            return self._compare_container(test, path)
        key = key_of(test.value)
        if test.operator == "$eq":
            return self._equal(path, [key])
        return self._ordered(path, test.operator, key, is_exact=is_exact(key))

    def _equal(self, path: str, found: list[str]) -> Part:
        known = [key for key in found if not self.is_certain or is_exact(key)]
        return Probe(path, tuple(dict.fromkeys(known)), self._levels) if known else NOTHING

    def _ordered(self, path: str, operator: str, key: str, *, is_exact: bool) -> Part:
        """Return the keys at one side of one; a key of many values is on both sides of itself."""
        first, last = kind(key)
        is_equal_in = operator in ("$gte", "$lte") if is_exact else not self.is_certain
        if operator in ("$gt", "$gte"):
            return Span(path, key if is_equal_in else behind(key), last, self._levels)
        return Span(path, first, behind(key) if is_equal_in else key, self._levels)

    def _compare_instant(self, test: Compare, instant: datetime, path: str) -> Part:
        """Compare moments with moments, and with other text unless it was written as a date."""
        if path in TIMES:
            text = timestamp(instant)
            is_same = instant_of(text) == instant
            if self.is_certain and not is_same:
                return NOTHING
            if test.operator == "$eq":
                return self._equal(path, [key_of(text)])
            return self._ordered(path, test.operator, key_of(text), is_exact=is_same)
        if self.is_certain:
            return NOTHING
        moment = key_of_instant(instant)
        if test.operator == "$eq":
            return self._equal(path, [moment])
        found = self._ordered(path, test.operator, moment, is_exact=True)
        if test.is_date:
            return found
        text = key_of(test.value)
        return any_of([found, self._ordered(path, test.operator, text, is_exact=False)])

    def _compare_container(self, test: Compare, path: str) -> Part:
        """Return that what is in an object or array is there, somewhere."""
        if self.is_certain:
            return NOTHING
        if test.operator == "$eq":
            rows = sorted(set(rows_at(path, test.value)), key=lambda row: row.value, reverse=True)
            return all_of(Probe(row.path, (row.value,)) for row in rows[:MAX_LEAVES])
        if isinstance(test.value, dict):
            return Probe(path, (OBJECT,))
        return Span(path, *ANY, IN_ARRAYS)

    def _null(self, path: str) -> Part:
        """Return that there is null, or nothing.

        Where there is nothing, and an array on the way, there may be no place for null either.
        """
        null = Probe(path, (NULL,), self._levels)
        there: list[Part] = [Span(path, *ANY)]
        if self.is_certain:
            parts = path.split(".")
            ways = (".".join(parts[:end]) for end in range(1, len(parts)))
            there += [Span(way, *ANY, IN_ARRAYS) for way in ways]
        return any_of([null, negated(any_of(there))])

    def _one_of(self, test: OneOf, path: str) -> Part:
        found: list[str] = []
        others: list[Part] = []
        for value in test.values:
            if value is None or isinstance(value, dict | list):
                others.append(self._compare(Compare("$eq", value), path))
            elif isinstance(value, str) and (moment := instant_of(value)) is not None:
                others.append(self._compare(Compare("$eq", value, moment), path))
            else:
                found.append(key_of(value))
        if not self.is_certain:
            others += [_search(path, pattern) for pattern in test.patterns]
        return any_of([*([self._equal(path, found)] if found else []), *_united(others)])

    def _type(self, name: str, path: str) -> Part:
        match name:
            case "number" | "string" | "bool":
                first = {"number": NUMBER, "string": TEXT, "bool": BOOLEAN}[name]
                return Span(path, *kind(first), self._levels)
            case "object" | "null":
                return Probe(path, (OBJECT if name == "object" else NULL,), self._levels)
        if self.is_certain:
            return NOTHING
        match name:
            case "int" | "long" | "double":
                return Span(path, *kind(NUMBER))
            case "date":
                return Span(path, *kind(TEXT if path in TIMES else INSTANT))
            case "array":
                return Span(path, *ANY, IN_ARRAYS)
        return NOTHING

    def _expression(self, operand: Operand, prefix: Path) -> Part:
        """Return what can be told of comparisons of a field with a constant for equality."""
        match operand:
            case Call("$and", arguments):
                return self._every(self._expression(one, prefix) for one in arguments)
            case Call("$or", arguments):
                return any_of(self._expression(one, prefix) for one in arguments)
            case Call("$eq", (Reference(path), Constant(value))) | Call(
                "$eq", (Constant(value), Reference(path))
            ):
                return self._among((*prefix, *path), [value])
            case Call("$in", (Reference(path), Constant(list() as values))):
                return self._among((*prefix, *path), values)
        return EVERYTHING

    def _among(self, path: Path, values: list[Any]) -> Part:
        """Return that a value is one of some.

        Null is not what is missing, and what a path finds in several objects is an array.
        """
        if any(value is None or isinstance(value, list) for value in values):
            return EVERYTHING
        instants = (instant_of(value) for value in values if isinstance(value, str))
        test = OneOf(
            values=tuple(values),
            keys=identities(values),
            instants=frozenset(one for one in instants if one),
        )
        return self.test(test, path)


def _united(parts: list[Part]) -> list[Part]:
    """Return parts with single keys at one path made one part of several keys."""
    single: dict[tuple[str, Levels], list[str]] = {}
    rest: list[Part] = []
    for one in parts:
        if isinstance(one, Probe):
            single.setdefault((one.path, one.levels), []).extend(one.keys)
        else:
            rest.append(one)
    probes = (Probe(path, tuple(found), levels) for (path, levels), found in single.items())
    return [*probes, *rest]


def _search(path: str, pattern: Pattern) -> Search:
    low, high = beginning_with(prefix_of(pattern))
    return Search(Span(path, low, high), pattern)


def _words(text: Text) -> Part:
    """Return that an entry has words: all whole ones of the phrases, or one of those asked for."""
    if not text.phrases:
        return _word(text.words) if text.words else NOTHING
    inner = {word for phrase in text.phrases for word in _whole_words(phrase)}
    return all_of(_word([word]) for word in sorted(inner)[:MAX_LEAVES])


def _word(words: Iterable[str]) -> Probe:
    found = sorted({TEXT + word[:MAX_TEXT] for word in words})
    return Probe(WORDS, (*found, MANY_WORDS))


def _whole_words(phrase: str) -> list[str]:
    """Return the words of a phrase that are whole: at its ends they may go on."""
    return re.findall(r"(?<=\W)\w+(?=\W)", phrase)
