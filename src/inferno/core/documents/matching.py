"""Says whether a document matches a filter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from inferno.core.documents.expressions import evaluate, is_true
from inferno.core.documents.filters import words_of
from inferno.core.documents.paths import reach
from inferno.core.documents.tree import (
    AnyOf,
    Both,
    Compare,
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
    Test,
    Text,
)
from inferno.core.documents.values import (
    MISSING,
    identity,
    instant_of,
    is_number,
    order_key,
    rank,
    type_names,
)

_OF_SINGLE_VALUES = (Compare, OneOf, Matches, HasType, Modulo)
"""Tests for which the elements of an array count as well as the array."""


def matches(filter: Filter, document: dict[str, Any]) -> bool:  # noqa: A002
    """Return whether a document matches a filter."""
    match filter:
        case Field(path, test):
            return _holds(test, reach(document, path), is_expanded=True)
        case Every(clauses):
            return all(matches(clause, document) for clause in clauses)
        case AnyOf(clauses):
            return any(matches(clause, document) for clause in clauses)
        case NoneOf(clauses):
            return not any(matches(clause, document) for clause in clauses)
        case Expression(operand):
            return is_true(evaluate(operand, document))
        case Text():
            return _is_found(filter, document)


def passes(test: Test, value: object) -> bool:
    """Return whether one value passes a test; of an array, the whole and not its elements."""
    return _holds(test, (value,), is_expanded=False)


def _holds(test: Test, reached: tuple[object, ...], *, is_expanded: bool) -> bool:
    """Return whether a test holds of the values that a path reached.

    Args:
        test: which.
        reached: what `paths.reach` yields.
        is_expanded: whether the elements of an array count as well as the array.
    """
    if isinstance(test, _OF_SINGLE_VALUES):
        for value in reached:
            if _passes(test, value):
                return True
            if is_expanded and isinstance(value, list) and any(_passes(test, v) for v in value):
                return True
        return False
    match test:
        case Not(inner):
            return not _holds(inner, reached, is_expanded=is_expanded)
        case Both(tests):
            return all(_holds(inner, reached, is_expanded=is_expanded) for inner in tests)
        case Exists():
            return any(value is not MISSING for value in reached)
        case HasSize(size):
            return any(isinstance(value, list) and len(value) == size for value in reached)
        case ElementMatches(wanted):
            return any(
                _is_object_or_array(element) and matches(wanted, _as_document(element))
                for element in _elements(reached)
            )
        case ElementPasses(inner):
            return any(passes(inner, element) for element in _elements(reached))


def _elements(reached: Iterable[object]) -> Iterator[Any]:
    for value in reached:
        if isinstance(value, list):
            yield from value


def _is_object_or_array(value: object) -> bool:
    return isinstance(value, dict | list)


def _as_document(element: Any) -> dict[str, Any]:
    """Return an element as `$elemMatch` sees it: an array is an object of its indices."""
    if isinstance(element, list):
        return {str(index): inner for index, inner in enumerate(element)}
    document: dict[str, Any] = element
    return document


def _passes(test: Compare | OneOf | Matches | HasType | Modulo, value: Any) -> bool:
    match test:
        case Compare():
            return _compares(test, value)
        case OneOf():
            return _is_one_of(test, value)
        case Matches(pattern):
            return isinstance(value, str) and pattern.is_in(value)
        case HasType(names):
            return not names.isdisjoint(type_names(value))
        case Modulo(divisor, remainder):
            return is_number(value) and _remainder(int(value), divisor) == remainder


def _remainder(number: int, divisor: int) -> int:
    """Return what division leaves, with the sign of the number, as in C."""
    rest = abs(number) % abs(divisor)
    return -rest if number < 0 else rest


def _compares(test: Compare, value: Any) -> bool:
    wanted: Any = test.value
    if value is MISSING:
        value = None
    if rank(value) != rank(wanted):
        return False
    if wanted is None:
        return test.operator in ("$eq", "$gte", "$lte")
    if test.instant is not None:
        moment = instant_of(value)
        if moment is not None:
            return _is_ordered(test.operator, moment, test.instant)
        if test.is_date:
            return False
    if test.operator == "$eq" and not _is_object_or_array(value):
        return bool(value == wanted)
    return _is_ordered(test.operator, order_key(value), test.order)


def _is_ordered(
    operator: str, value: tuple[Any, ...] | datetime, wanted: tuple[Any, ...] | datetime
) -> bool:
    first: Any = value
    match operator:
        case "$eq":
            return bool(first == wanted)
        case "$gt":
            return bool(first > wanted)
        case "$gte":
            return bool(first >= wanted)
        case "$lt":
            return bool(first < wanted)
    return bool(first <= wanted)


def _is_one_of(test: OneOf, value: object) -> bool:
    if value is MISSING:
        value = None
    if identity(value) in test.keys:
        return True
    if not isinstance(value, str):
        return False
    if test.instants and instant_of(value) in test.instants:
        return True
    return any(pattern.is_in(value) for pattern in test.patterns)


def _is_found(test: Text, document: dict[str, Any]) -> bool:
    texts = [
        text.casefold()
        for path in test.paths
        for value in reach(document, path)
        for text in texts_in(value)
    ]
    words = {word for text in texts for word in words_of(text)}
    if not test.excluded.isdisjoint(words):
        return False
    if test.phrases:
        return all(any(phrase in text for text in texts) for phrase in test.phrases)
    return not test.words.isdisjoint(words)


def texts_in(value: object) -> Iterator[str]:
    """Yield all texts in a value; names of fields are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)
