"""What is in a document, by path, as it is indexed. Pure.

The index may find too much, never too little: whatever it finds is looked at again. So an array's
index is left out of a path (`tags` stands for each tag, as in a query), and a long text is known by
its beginning alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MAX_PATH = 200
MAX_TEXT = 200


class Value(NamedTuple):
    """A value in a document.

    Args:
        path: dotted.
        value: of a text, the beginning.
        number: a number; a boolean as 0 or 1.
    """

    path: str
    value: str | None
    number: float | None


def values_of(document: Mapping[str, Any]) -> set[Value]:
    """Return what a document is found by; null, and what is at no indexable path, is not."""
    return set(_walk(document, ""))


def is_indexable(path: str) -> bool:
    """Return whether values at a path are in the index under it.

    A part of digits may be an array's index, which the index leaves out.
    """
    parts = path.split(".")
    return len(path) <= MAX_PATH and all(part and not part.isdigit() for part in parts)


def value_at(path: str, scalar: Any) -> Value | None:
    """Return how a scalar is indexed; None for what is no scalar, and for null."""
    match scalar:
        case bool() | int() | float():
            return Value(path, None, _float(scalar))
        case str():
            return Value(path, scalar[:MAX_TEXT], None)
    return None


def _float(number: float) -> float:
    """Return the nearest float; rounding keeps the order of numbers, if not all differences."""
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _walk(value: Any, path: str) -> Iterator[Value]:
    match value:
        case dict():
            for key, child in value.items():
                yield from _walk(child, f"{path}.{key}" if path else key)
        case list():
            for child in value:
                yield from _walk(child, path)
        case _ if is_indexable(path):
            found = value_at(path, value)
            if found is not None:
                yield found
