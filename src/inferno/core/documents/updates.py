"""Parses updates: `{"$set": {…}}` and its like."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from inferno.core.documents import limits
from inferno.core.documents.filters import parse_condition, parse_inner_filter, unknown, wrong
from inferno.core.documents.literals import check_nesting, literal
from inferno.core.documents.paths import parse_field_path, parse_path
from inferno.core.documents.sorting import Sort, parse_sort
from inferno.core.documents.tree import AnyOf, Every, Field, Filter, NoneOf, Path
from inferno.core.documents.update_tree import Change, Push, Update
from inferno.core.documents.values import identities, is_number, is_whole, joined
from inferno.core.errors import InvalidRequest

_POSITIONAL = re.compile(r"\$(\[([a-z][a-zA-Z0-9]*)?\])?")
_IDENTIFIER = re.compile(r"[a-z][a-zA-Z0-9]*")
_MODIFIERS = frozenset({"$each", "$position", "$slice", "$sort"})


def parse_update(value: object, array_filters: object = None) -> Update:
    """Return the update that JSON stands for.

    Args:
        value: `{"$set": {"a.b": 1}}`, say.
        array_filters: a list of filters, one for each identifier of the paths' `$[identifier]`.

    Raises:
        InvalidRequest: it is malformed, has no operators, uses what is unknown or refused, or two
            of its paths are in each other's way; names the operator and the path.
    """
    if not isinstance(value, dict) or not value:
        raise InvalidRequest('An update is an object of operators, as {"$set": {"name": "new"}}.')
    check_nesting(value, "update")
    update = Update(tuple(_changes(value)), _parse_array_filters(array_filters))
    _check_conflicts(update.paths)
    _check_identifiers(update)
    return update


def _changes(value: dict[str, object]) -> Iterator[Change]:
    count = 0
    for operator, operands in value.items():
        if not operator.startswith("$"):
            raise InvalidRequest(
                f"'{operator[:50]}' is no operator: an entry is not replaced, it is changed by "
                "operators such as $set.",
                field=joined("", operator),
                operator=operator[:50],
            )
        if operator not in _ARGUMENTS:
            raise unknown(operator, operator[:50])
        if not isinstance(operands, dict):
            raise wrong(operator, "takes an object of paths", operator)
        count += len(operands)
        if count > limits.CHANGES:
            raise InvalidRequest(f"An update may change {limits.CHANGES} paths.", field=operator)
        for text, operand in operands.items():
            where = joined(operator, text)
            path = _parse_update_path(text, where)
            if operator == "$rename":
                parse_field_path(text, where)
            yield Change(operator, path, _ARGUMENTS[operator](operand, where))


def _parse_update_path(text: str, where: str) -> Path:
    path = parse_path(text, where)
    for part in path:
        if part.startswith("$") and not _POSITIONAL.fullmatch(part):
            raise InvalidRequest(
                f"'{part[:50]}' cannot be a part of the path '{text}': only $, $[] and "
                "$[identifier] begin with '$'.",
                field=where,
                operator=part[:50],
            )
    if path[0].startswith("$") or path.count("$") > 1:
        raise InvalidRequest(
            f"In '{text}' a positional part has no array before it, or $ is there twice.",
            field=where,
            operator="$",
        )
    return path


def _check_conflicts(paths: Iterable[Path]) -> None:
    """Refuse paths of which one is, or is inside, another: MongoDB does not say which would win."""
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            raise _conflict(path, path)
        seen.add(path)
    for path in seen:
        for end in range(1, len(path)):
            if path[:end] in seen:
                raise _conflict(path, path[:end])


def _conflict(path: Path, other: Path) -> InvalidRequest:
    return InvalidRequest(
        f"Updating the path '{'.'.join(path)}' would create a conflict at '{'.'.join(other)}'.",
        field=".".join(path),
    )


def _parse_array_filters(value: object) -> dict[str, Filter]:
    if value is None:
        return {}
    if not isinstance(value, list):
        raise InvalidRequest("arrayFilters is an array of filters.", field="arrayFilters")
    filters: dict[str, Filter] = {}
    for at, each in enumerate(value):
        where = f"arrayFilters[{at}]"
        parsed = parse_inner_filter(each, where)
        names = {path[0] for path in _filtered_paths(parsed, where)}
        if len(names) != 1 or not _IDENTIFIER.fullmatch(name := names.pop()):
            raise InvalidRequest(
                "An array filter is about one identifier, which begins with a small letter and "
                "has letters and digits only.",
                field=where,
            )
        if name in filters:
            raise InvalidRequest(f"Two array filters are about '{name}'.", field=where)
        filters[name] = parsed
    return filters


def _filtered_paths(parsed: Filter, where: str) -> Iterator[Path]:
    match parsed:
        case Field(path, _):
            yield path
        case Every(clauses) | AnyOf(clauses) | NoneOf(clauses):
            for clause in clauses:
                yield from _filtered_paths(clause, where)
        case _:
            raise InvalidRequest(
                "An array filter has tests of its identifier only: no $expr and no $text.",
                field=where,
            )


def _check_identifiers(update: Update) -> None:
    used = {
        part[2:-1]: change
        for change in update.changes
        for part in change.path
        if part.startswith("$[") and part != "$[]"
    }
    for name, change in used.items():
        if name not in update.array_filters:
            raise InvalidRequest(
                f"No array filter says what '{name}' is in the path '{change.name}'.",
                field=joined(change.operator, change.name),
                operator=f"$[{name}]",
            )
    for name in update.array_filters:
        if name not in used:
            raise InvalidRequest(
                f"No path uses the array filter for '{name}'.", field="arrayFilters"
            )


def _number(operand: object, where: str) -> object:
    value = literal(operand, where)
    if not is_number(value):
        raise wrong(where.partition(".")[0], "takes a number", where)
    return value


def _nothing(_operand: object, _where: str) -> object:
    return None


def _target(operand: object, where: str) -> Path:
    if not isinstance(operand, str):
        raise wrong("$rename", "takes the new path, as text", where)
    return parse_field_path(operand, where)


def _clock(operand: object, where: str) -> object:
    is_typed = isinstance(operand, dict) and operand.get("$type") in ("date", "timestamp")
    if not (operand is True or (is_typed and operand == {"$type": operand["$type"]})):  # type: ignore[index]
        raise wrong("$currentDate", 'takes true or {"$type": "date"}', where)
    return None


def _pop(operand: object, where: str) -> object:
    if isinstance(operand, bool) or operand not in (1, -1):
        raise wrong("$pop", "takes 1 for the last element or -1 for the first", where)
    return operand


def _push(operand: object, where: str) -> Push:
    if not isinstance(operand, dict) or _MODIFIERS.isdisjoint(operand):
        return Push((literal(operand, where),))
    for name in operand:
        if name not in _MODIFIERS:
            raise unknown(name, joined(where, name))
    if "$each" not in operand:
        raise wrong("$push", "takes modifiers only beside $each", where)
    return Push(
        values=_each(operand, where),
        position=_whole(operand, "$position", where),
        slice=_whole(operand, "$slice", where),
        sort=_element_sort(operand["$sort"], f"{where}.$sort") if "$sort" in operand else None,
    )


def _each(operand: dict[str, Any], where: str) -> tuple[object, ...]:
    values = operand["$each"]
    if not isinstance(values, list):
        raise wrong("$each", "takes an array", f"{where}.$each")
    return tuple(literal(each, f"{where}.$each[{at}]") for at, each in enumerate(values))


def _whole(operand: dict[str, Any], name: str, where: str) -> int | None:
    if name not in operand:
        return None
    value = operand[name]
    if not is_whole(value) or abs(value) >= 2**31:
        raise wrong(name, "takes a whole number", f"{where}.{name}")
    return int(value)


def _element_sort(operand: object, where: str) -> Sort | int:
    if is_number(operand) and operand in (1, -1):
        return int(operand)
    if not isinstance(operand, dict) or not operand:
        raise wrong("$sort", "takes 1, -1, or an object of fields", where)
    return parse_sort(operand)


def _additions(operand: object, where: str) -> tuple[object, ...]:
    if not isinstance(operand, dict) or "$each" not in operand:
        return (literal(operand, where),)
    for name in operand:
        if name != "$each":
            raise wrong("$addToSet", "takes no modifier but $each", joined(where, name))
    return _each(operand, where)


def _removals(operand: object, where: str) -> frozenset[object]:
    if not isinstance(operand, list):
        raise wrong("$pullAll", "takes an array", where)
    return identities(literal(operand, where))


_ARGUMENTS: dict[str, Callable[[object, str], object]] = {
    "$set": literal,
    "$setOnInsert": literal,
    "$unset": _nothing,
    "$inc": _number,
    "$mul": _number,
    "$min": literal,
    "$max": literal,
    "$rename": _target,
    "$currentDate": _clock,
    "$push": _push,
    "$addToSet": _additions,
    "$pop": _pop,
    "$pull": parse_condition,
    "$pullAll": _removals,
}
"""What each operator makes of its operand."""
