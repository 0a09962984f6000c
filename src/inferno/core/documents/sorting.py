"""Sorts documents in MongoDB's order.

An array counts as its least element where the order ascends, and as its greatest where it descends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from inferno.core.documents import limits
from inferno.core.documents.paths import parse_field_path, reach
from inferno.core.documents.tree import Path
from inferno.core.documents.values import MISSING, is_number, joined, order_key
from inferno.core.errors import InvalidRequest

_NOTHING = order_key(MISSING)
_NULL = order_key(None)


@dataclass(frozen=True, slots=True)
class SortField:
    """One field to sort by."""

    path: Path
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    """What to sort by, the most important first; nothing keeps the order as it is."""

    fields: tuple[SortField, ...] = ()


@dataclass(frozen=True, slots=True)
class _Descending:
    """A key that sorts the other way round."""

    key: tuple[Any, ...]

    def __lt__(self, other: _Descending) -> bool:
        return other.key < self.key


def parse_sort(value: object) -> Sort:
    """Return what JSON says to sort by.

    Args:
        value: `{"name": 1, "age": -1}`, `[["name", 1], ["age", -1]]` or `None`.

    Raises:
        InvalidRequest: it is neither, or says the same field twice.
    """
    fields = tuple(_parse_field(name, direction) for name, direction in _pairs(value))
    if len(fields) > limits.SORT_KEYS:
        raise InvalidRequest(f"A sort may have {limits.SORT_KEYS} fields.", field="sort")
    if len({field.path for field in fields}) < len(fields):
        raise InvalidRequest("A sort names a field twice.", field="sort")
    return Sort(fields)


def _pairs(value: object) -> Iterator[tuple[object, object]]:
    if isinstance(value, dict):
        yield from value.items()
        return
    if value is not None and not isinstance(value, list):
        raise InvalidRequest('A sort is an object as {"name": 1, "age": -1}.', field="sort")
    for pair in value or []:
        if not isinstance(pair, list) or len(pair) != 2:
            raise InvalidRequest('A sort is an array as [["name", 1]].', field="sort")
        yield pair[0], pair[1]


def _parse_field(name: object, direction: object) -> SortField:
    where = joined("sort", name) if isinstance(name, str) else "sort"
    if isinstance(direction, dict) and "$meta" in direction:
        raise InvalidRequest(
            "$meta is refused: there are no scores.", field=where, operator="$meta"
        )
    if not is_number(direction) or direction not in (1, -1):
        raise InvalidRequest("The direction of a sort is 1 or -1.", field=where)
    return SortField(parse_field_path(name, where), is_descending=direction < 0)


def sorted_documents(documents: Iterable[dict[str, Any]], sort: Sort) -> list[dict[str, Any]]:
    """Return documents in order; those that are equal keep theirs."""
    return sorted(documents, key=lambda document: sort_key(document, sort))


def sort_key(document: object, sort: Sort) -> tuple[Any, ...]:
    """Return what to compare a document by, for `sorted(…, key=…)`, `heapq` and cursors."""
    return tuple(_field_key(document, field) for field in sort.fields)


def extreme(document: object, field: SortField) -> tuple[Any, ...]:
    """Return the `order_key` that a sort by a field goes by: the least, or the greatest."""
    keys = [key for value in reach(document, field.path) for key in _keys(value)] or [_NULL]
    return max(keys) if field.is_descending else min(keys)


def _field_key(document: object, field: SortField) -> tuple[Any, ...] | _Descending:
    key = extreme(document, field)
    return _Descending(key) if field.is_descending else key


def _keys(value: object) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, list):
        # As MongoDB: an empty array comes before null.
        yield from (order_key(element) for element in value) if value else (_NOTHING,)
    else:
        yield _NULL if value is MISSING else order_key(value)
