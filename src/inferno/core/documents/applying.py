"""Applies updates to documents."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from inferno.core.documents import limits
from inferno.core.documents.arrays import added, popped, pulled, pushed, without
from inferno.core.documents.paths import is_index
from inferno.core.documents.positions import concrete_paths, read
from inferno.core.documents.tree import Filter, Path
from inferno.core.documents.update_tree import Change, Update
from inferno.core.documents.values import (
    MISSING,
    check_document,
    copied,
    is_64_bit,
    is_number,
    joined,
    order_key,
    timestamp,
)
from inferno.core.errors import InvalidRequest


def apply_update(
    update: Update,
    document: dict[str, Any],
    *,
    now: datetime,
    matched: Filter | None = None,
    is_insert: bool = False,
) -> dict[str, Any]:
    """Return a document as an update leaves it; the one given stays as it is.

    A document that an update does not change is returned equal to the one given.

    Args:
        update: what to do.
        document: what to do it to.
        now: what `$currentDate` sets.
        matched: the filter that chose the document, which says what `$` stands for.
        is_insert: whether the document is new, so that `$setOnInsert` counts.

    Raises:
        InvalidRequest: it cannot be applied to this document; names the operator and the path.
    """
    result: dict[str, Any] = copied(document)
    # No place is inside of another, so that what is put into the document is not changed again,
    # and need not be copied: the same large value in many places would take much memory before it
    # is refused.
    for path, change in _places(update, document, matched).items():
        if is_insert or change.operator != "$setOnInsert":
            _Place(result, path, change).apply(now)
    check_document(result)
    return result


def _places(update: Update, document: dict[str, Any], matched: Filter | None) -> dict[Path, Change]:
    """Return what changes, with indices for positional parts.

    Raises:
        InvalidRequest: there is too much, or one place is or is inside another.
    """
    places: dict[Path, Change] = {}
    for change in update.changes:
        for path in concrete_paths(change, update, document, matched):
            if path in places:
                raise _overlapping(path, change)
            if len(places) >= limits.PLACES:
                raise InvalidRequest(
                    f"An update may change {limits.PLACES} values of a document.",
                    field=joined(change.operator, change.name),
                )
            places[path] = change
    # `a.$[]` beside `a.0.b`, which is plain only once there are indices.
    if any("$" in change.name for change in update.changes):
        for path, change in places.items():
            if any(path[:end] in places for end in range(1, len(path))):
                raise _overlapping(path, change)
    return places


def _overlapping(path: Path, change: Change) -> InvalidRequest:
    return InvalidRequest(
        f"The update would create a conflict at '{'.'.join(path)}'.",
        field=joined(change.operator, change.name),
        operator=change.operator,
    )


class _Place:
    """One value of a document that is being updated.

    Args:
        document: is changed in place.
        path: has indices, and no positional parts.
        change: what happens there.
    """

    def __init__(self, document: dict[str, Any], path: Path, change: Change) -> None:
        self._document = document
        self._path = path
        self._change = change

    def apply(self, now: datetime) -> None:
        """Make the change."""
        argument: Any = self._change.argument
        match self._change.operator:
            case "$set" | "$setOnInsert":
                self._write(self._path, argument)
            case "$unset":
                self._remove()
            case "$currentDate":
                self._write(self._path, timestamp(now))
            case "$rename":
                self._rename(argument)
            case "$min" | "$max":
                self._choose(argument)
            case "$inc" | "$mul":
                self._calculate(argument)
            case "$push":
                self._change_array(pushed, creates=True)
            case "$addToSet":
                self._change_array(added, creates=True)
            case "$pop":
                self._change_array(popped)
            case "$pull":
                self._change_array(pulled)
            case "$pullAll":
                self._change_array(without)

    def _choose(self, argument: Any) -> None:
        current = read(self._document, self._path)
        first, second = order_key(argument), order_key(current)
        is_wanted = first < second if self._change.operator == "$min" else first > second
        if current is MISSING or is_wanted:
            self._write(self._path, argument)

    def _calculate(self, argument: Any) -> None:
        current = read(self._document, self._path)
        is_sum = self._change.operator == "$inc"
        if current is MISSING:
            current = 0
        if not is_number(current):
            raise self._wrong("applies to numbers only")
        result = current + argument if is_sum else current * argument
        if isinstance(result, int) and not is_64_bit(result):
            raise self._wrong("would make a number beyond 64 bits")
        if isinstance(result, float) and not math.isfinite(result):
            raise self._wrong("would make a number that is not finite")
        self._write(self._path, result)

    def _change_array(
        self, changed: Callable[[list[object], Any], list[object]], *, creates: bool = False
    ) -> None:
        current = read(self._document, self._path)
        if current is MISSING:
            if not creates:
                return
            current = []
        if not isinstance(current, list):
            raise self._wrong("applies to arrays only")
        self._write(self._path, changed(current, self._change.argument))

    def _rename(self, target: Path) -> None:
        for path in (self._path, target):
            if any(isinstance(read(self._document, path[:end]), list) for end in range(len(path))):
                raise self._wrong("cannot move fields out of arrays or into them")
        value = read(self._document, self._path)
        if value is not MISSING:
            self._remove()
            self._write(target, value)

    def _remove(self) -> None:
        container = read(self._document, self._path[:-1])
        name = self._path[-1]
        if isinstance(container, dict):
            container.pop(name, None)
        elif isinstance(container, list) and is_index(name) and int(name) < len(container):
            # As MongoDB: the other elements keep their indices.
            container[int(name)] = None

    def _write(self, path: Path, value: Any) -> None:
        container: Any = self._document
        for end, part in enumerate(path[:-1], start=1):
            container = self._inside(container, part, path[:end])
        self._put(container, path[-1], value, path)

    def _inside(self, container: Any, part: str, path: Path) -> Any:
        """Return the container that a part of the path names, made where there is none."""
        if isinstance(container, list):
            index = self._index(container, part, path)
            if index == len(container):
                container.append({})
            inner = container[index]
        else:
            inner = container.setdefault(part, {})
        if not isinstance(inner, dict | list):
            raise self._wrong(f"cannot make fields inside of '{'.'.join(path)}', which is a value")
        return inner

    def _put(self, container: Any, part: str, value: Any, path: Path) -> None:
        if not isinstance(container, list):
            container[part] = value
            return
        index = self._index(container, part, path)
        container[index : index + 1] = [value]

    def _index(self, array: list[Any], part: str, path: Path) -> int:
        """Return the index that a part of the path is, with the array long enough for it."""
        if not is_index(part):
            raise self._wrong(
                f"cannot make the field '{part}' in '{'.'.join(path[:-1])}', which is an array"
            )
        index = int(part)
        if index > len(array) + limits.PADDING:
            raise self._wrong(f"would add more than {limits.PADDING} nulls")
        array.extend([None] * (index - len(array)))
        return index

    def _wrong(self, message: str) -> InvalidRequest:
        operator = self._change.operator
        return InvalidRequest(
            f"{operator} at '{'.'.join(self._path)}' {message}.",
            field=joined(operator, self._change.name),
            operator=operator,
        )
