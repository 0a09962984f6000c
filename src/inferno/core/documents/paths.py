"""Dotted paths, and what they reach in a document."""

from __future__ import annotations

from collections.abc import Iterator

from inferno.core.documents import limits
from inferno.core.documents.tree import Path
from inferno.core.documents.values import MISSING, check_scalar
from inferno.core.errors import InvalidRequest


def parse_path(text: object, where: str) -> Path:
    """Return a dotted path, taken apart.

    Args:
        text: `a.b.0`, say.
        where: what errors name.

    Raises:
        InvalidRequest: it is empty, too long, or has an empty part.
    """
    if not isinstance(text, str) or not text:
        raise InvalidRequest("A path is text, and not empty.", field=where or None)
    check_scalar(text, where)
    if len(text) > limits.PATH_LENGTH:
        raise InvalidRequest(
            f"A path may have {limits.PATH_LENGTH} characters, not {len(text)}.", field=where
        )
    parts = tuple(text.split("."))
    if "" in parts:
        raise InvalidRequest(f"The path '{text}' has an empty part.", field=where)
    if len(parts) > limits.PATH_PARTS:
        raise InvalidRequest(
            f"A path may have {limits.PATH_PARTS} parts, not {len(parts)}.", field=where
        )
    return parts


def parse_field_path(text: object, where: str) -> Path:
    """Return a path that names fields and indices only, as filters, sorts and projections do.

    Raises:
        InvalidRequest: see `parse_path`; or a part begins with `$`.
    """
    path = parse_path(text, where)
    for part in path:
        if part.startswith("$"):
            raise InvalidRequest(
                f"'{part}' cannot be a part of the path '{text}': field names do not begin "
                "with '$'.",
                field=where,
                operator=part,
            )
    return path


def is_index(part: str) -> bool:
    """Return whether a part of a path can be the index of an element."""
    return part.isascii() and part.isdigit() and (part == "0" or part[0] != "0") and len(part) < 10


def reach(value: object, path: Path) -> tuple[object, ...]:
    """Return what a path reaches, as MongoDB's filters see it.

    A part of the path goes into each object of an array, and an index also to that element.
    Elements that are no objects give nothing, other values without the field give `MISSING`.
    Arrays at the end of the path are given whole.

    Args:
        value: a document.
        path: where to look.
    """
    for start, part in enumerate(path):
        if isinstance(value, list):
            # Where parts are numbers, a value can be reached in exponentially many ways; once is
            # enough.
            seen: set[tuple[int, int]] | None = set() if sum(map(is_index, path)) > 1 else None
            return tuple(_through_array(value, path, start, seen))
        if not isinstance(value, dict) or part not in value:
            return (MISSING,)
        value = value[part]
    return (value,)


def _reach(
    value: object, path: Path, start: int, seen: set[tuple[int, int]] | None
) -> Iterator[object]:
    if start == len(path):
        yield value
    elif isinstance(value, dict):
        if path[start] in value:
            yield from _reach(value[path[start]], path, start + 1, seen)
        else:
            yield MISSING
    elif isinstance(value, list):
        yield from _through_array(value, path, start, seen)
    else:
        yield MISSING


def _through_array(
    array: list[object], path: Path, start: int, seen: set[tuple[int, int]] | None
) -> Iterator[object]:
    if seen is not None:
        if (id(array), start) in seen:
            return
        seen.add((id(array), start))
    part = path[start]
    if is_index(part) and int(part) < len(array):
        element = array[int(part)]
        if start + 1 == len(path) or isinstance(element, dict | list):
            yield from _reach(element, path, start + 1, seen)
    for element in array:
        if isinstance(element, dict):
            yield from _reach(element, path, start, seen)
