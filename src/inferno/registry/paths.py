"""What is in a document, by path, as it is indexed. Pure.

The index may find too much, never too little: whatever it finds is looked at again. An array's
index is left out of a path (`tags` stands for each tag, as in a query). The level of a value says
what a path finds besides it:

    PLAIN    no array is on the way: the path finds this value and nothing else
    REACHED  arrays are on the way: the path finds this value among others
    HIDDEN   it is in an array that is itself an element, where only `$elemMatch` looks; or it is a
             null that stands for a field that other elements of an array have

A document that has nothing at a path in the index has no value at that path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from inferno.core.documents.filters import words_of
from inferno.core.documents.values import instant_of
from inferno.registry.keys import ARRAY, EMPTY, MAX_TEXT, NULL, TEXT, key_of, key_of_instant

MAX_PATH = 200
PLAIN, REACHED, HIDDEN = 0, 1, 2

WORDS = "$text"
"""The path of the words of a document; no field's name begins so."""

MAX_WORDS = 500
MANY_WORDS = "9"
"""The key at `WORDS` of a document with more words than are indexed."""


class Value(NamedTuple):
    """A value in a document.

    Args:
        path: dotted.
        value: its key.
        level: `PLAIN`, `REACHED` or `HIDDEN`.
    """

    path: str
    value: str
    level: int


def values_of(document: Mapping[str, Any], *, times: frozenset[str] = frozenset()) -> set[Value]:
    """Return what a document is found by; what is at no indexable path is not.

    Args:
        document: an entry.
        times: paths whose timestamps have one form only, which needs no second key.
    """
    levels: dict[tuple[str, str], int] = {}
    for name, value in document.items():
        if _is_name(name):
            for path, key, level in rows_at(name, value):
                if key[0] != "8" or path not in times:
                    levels[path, key] = min(level, levels.get((path, key), HIDDEN))
    return {Value(path, key, level) for (path, key), level in levels.items()}


def words_in(texts: Iterable[str]) -> set[Value]:
    """Return the words of a document, as `WORDS` has them."""
    words = {word[:MAX_TEXT] for text in texts for word in words_of(text.casefold())}
    if len(words) > MAX_WORDS:
        return {Value(WORDS, MANY_WORDS, PLAIN)}
    return {Value(WORDS, TEXT + word, PLAIN) for word in words}


def is_indexable(path: str) -> bool:
    """Return whether values at a path are in the index under it."""
    return len(path) <= MAX_PATH and all(map(_is_name, path.split(".")))


def rows_at(path: str, value: Any, level: int = PLAIN) -> Iterator[Value]:
    """Yield how a value at a path, and all that is inside it, is indexed."""
    match value:
        case dict():
            yield Value(path, key_of(value), level)
            for name, child in value.items():
                inner = f"{path}.{name}"
                if _is_name(name) and len(inner) <= MAX_PATH:
                    yield from rows_at(inner, child, level)
        case []:
            yield Value(path, EMPTY, max(level, REACHED))
        case list():
            yield from _elements(path, value, max(level, REACHED))
        case _:
            yield Value(path, key_of(value), level)
            moment = instant_of(value) if isinstance(value, str) else None
            if moment is not None:
                yield Value(path, key_of_instant(moment), level)


def _elements(path: str, array: list[Any], level: int) -> Iterator[Value]:
    inside: set[str] = set()
    within: list[set[str]] = []
    for element in array:
        is_array = isinstance(element, list)
        if is_array:
            yield Value(path, ARRAY, level)
        rows = list(rows_at(path, element, HIDDEN if is_array else level))
        yield from rows
        if is_array or isinstance(element, dict):
            within.append({row.path for row in rows if row.path != path})
            inside |= within[-1]
    for lacking in sorted({one for known in within for one in inside - known}):
        yield Value(lacking, NULL, HIDDEN)


def _is_name(part: str) -> bool:
    """Return whether a part of a path can only be the name of a field.

    Digits may be an array's index, which the index leaves out; no path leads to a name with a dot.
    """
    return bool(part) and not part.isdigit() and "." not in part
