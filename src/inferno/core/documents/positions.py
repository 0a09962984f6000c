"""Makes indices of the positional parts of paths: `$`, `$[]` and `$[identifier]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inferno.core.documents.matching import matches
from inferno.core.documents.paths import is_index
from inferno.core.documents.tree import AnyOf, Every, Field, Filter, Path
from inferno.core.documents.update_tree import Change, Update
from inferno.core.documents.values import MISSING, joined
from inferno.core.errors import InvalidRequest


def read(document: object, path: Path) -> Any:
    """Return what is exactly at a path, or `MISSING`: updates do not look into arrays."""
    value: Any = document
    for part in path:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and is_index(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def concrete_paths(
    change: Change, update: Update, document: dict[str, Any], matched: Filter | None
) -> Iterator[Path]:
    """Yield the paths that a change is made at, with indices for positional parts.

    Args:
        change: one of the update's.
        update: has the array filters.
        document: as it was before the update.
        matched: the filter that chose the document.

    Raises:
        InvalidRequest: a positional part stands for no array, or `$` for no element.
    """
    paths: list[Path] = [()]
    for part in change.path:
        if not part.startswith("$"):
            paths = [(*path, part) for path in paths]
            continue
        paths = [
            (*path, str(index))
            for path in paths
            for index in _indices(part, path, change, update, document, matched)
        ]
    yield from paths


def _indices(
    part: str,
    path: Path,
    change: Change,
    update: Update,
    document: dict[str, Any],
    matched: Filter | None,
) -> list[int]:
    array = read(document, path)
    if not isinstance(array, list):
        raise InvalidRequest(
            f"The path '{'.'.join(path)}' has to be an array for '{part}' to mean its elements.",
            field=joined(change.operator, change.name),
            operator=part,
        )
    if part == "$":
        return [_matched_index(path, array, change, matched)]
    if part == "$[]":
        return list(range(len(array)))
    name = part[2:-1]
    wanted = update.array_filters[name]
    return [at for at, element in enumerate(array) if matches(wanted, {name: element})]


def _matched_index(path: Path, array: list[Any], change: Change, matched: Filter | None) -> int:
    """Return the first element that fulfils all, or failing that one, of what is asked of them."""
    fields = [] if matched is None else list(_fields_within(matched, path))
    found = [[_is_matched(field, path, element) for field in fields] for element in array]
    for wanted in (all, any):
        for index, answers in enumerate(found):
            if answers and wanted(answers):
                return index
    raise InvalidRequest(
        "The positional operator $ did not find the match needed from the query: the filter has "
        f"to ask for an element of '{'.'.join(path)}'.",
        field=joined(change.operator, change.name),
        operator="$",
    )


def _fields_within(matched: Filter, path: Path) -> Iterator[Field]:
    if isinstance(matched, Field):
        if matched.path[: len(path)] == path:
            yield matched
    elif isinstance(matched, Every | AnyOf):
        for clause in matched.clauses:
            yield from _fields_within(clause, path)


def _is_matched(field: Field, path: Path, element: object) -> bool:
    """Return whether an array of only this element would fulfil what is asked of the array."""
    rest = field.path[len(path) :]
    return matches(Field(("array", *rest), field.test), {"array": [element]})
