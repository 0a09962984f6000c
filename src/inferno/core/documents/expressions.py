"""`$expr`: expressions over the fields of one document.

Where MongoDB fails the whole query because one document's values do not fit (a sum with text, `$in`
of what is no array), the expression is null here: whoever registers an odd document cannot break
the queries of others.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from inferno.core.documents.literals import is_extended, literal
from inferno.core.documents.paths import parse_field_path
from inferno.core.documents.tree import Call, Constant, Operand, Path, Reference
from inferno.core.documents.values import (
    MISSING,
    identities,
    identity,
    instant_of,
    is_64_bit,
    is_number,
    joined,
    order_key,
)
from inferno.core.errors import InvalidRequest

_ARRAY = "[]"
"""The operator that makes an array of its arguments; no caller can write it."""

_ARITIES: dict[str, tuple[int, int | None]] = {
    "$eq": (2, 2),
    "$ne": (2, 2),
    "$gt": (2, 2),
    "$gte": (2, 2),
    "$lt": (2, 2),
    "$lte": (2, 2),
    "$cmp": (2, 2),
    "$in": (2, 2),
    "$and": (0, None),
    "$or": (0, None),
    "$not": (1, 1),
    "$ifNull": (2, None),
    "$size": (1, 1),
    "$add": (1, None),
    "$multiply": (1, None),
    "$subtract": (2, 2),
}
"""The operators, with the fewest and the most arguments of each."""

_REFUSED = {"$function": "it runs code", "$accumulator": "it runs code", "$where": "it runs code"}

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def parse_expression(value: object, where: str) -> Operand:
    """Return the expression that JSON stands for.

    Args:
        value: `{"$gt": ["$used", "$limit"]}`, say; not nested too deep.
        where: its path, for errors.

    Raises:
        InvalidRequest: it is malformed, or uses what is unknown or refused.
    """
    if isinstance(value, str) and value.startswith("$"):
        return _reference(value, where)
    if isinstance(value, list):
        return _array(value, where)
    if isinstance(value, dict) and value and not is_extended(value):
        return _call(value, where)
    return Constant(literal(value, where))


def _reference(text: str, where: str) -> Reference:
    if text.startswith("$$"):
        raise InvalidRequest(
            f"{text[:50]} is refused: there are no variables.", field=where, operator="$expr"
        )
    return Reference(parse_field_path(text[1:], where))


def _array(values: list[object], where: str) -> Operand:
    items = tuple(parse_expression(each, f"{where}[{at}]") for at, each in enumerate(values))
    if not all(isinstance(item, Constant) for item in items):
        return Call(_ARRAY, items)
    plain = [item.value for item in items if isinstance(item, Constant)]
    return Constant(plain, identities(plain))


def _call(value: dict[str, object], where: str) -> Operand:
    ((name, operand), *others) = value.items()
    at = joined(where, name)
    if others or not name.startswith("$"):
        raise InvalidRequest(
            "An object in an expression has one operator; wrap plain objects in $literal.",
            field=at,
            operator="$expr",
        )
    if name == "$literal":
        plain = literal(operand, at)
        return Constant(plain, identities(plain) if isinstance(plain, list) else None)
    if name not in _ARITIES:
        reason = _REFUSED.get(name)
        message = f"is refused: {reason}" if reason else "is not known in $expr"
        raise InvalidRequest(f"{name[:50]} {message}.", field=at, operator=name[:50])
    arguments = operand if isinstance(operand, list) else [operand]
    fewest, most = _ARITIES[name]
    if len(arguments) < fewest or (most is not None and len(arguments) > most):
        wanted = f"{fewest}" if most == fewest else f"at least {fewest}"
        raise InvalidRequest(
            f"{name} takes {wanted} arguments, not {len(arguments)}.", field=at, operator=name
        )
    parsed = (parse_expression(each, f"{at}[{i}]") for i, each in enumerate(arguments))
    return Call(name, tuple(parsed))


def calls_in(operand: Operand) -> int:
    """Return how many operators an expression has."""
    if not isinstance(operand, Call):
        return 0
    return 1 + sum(calls_in(argument) for argument in operand.arguments)


def evaluate(operand: Operand, document: dict[str, Any]) -> Any:
    """Return the value of an expression for a document; `MISSING` where there is none."""
    if isinstance(operand, Constant):
        return operand.value
    if isinstance(operand, Reference):
        return _look_up(document, operand.path)
    return _evaluate_call(operand, document)


def is_true(value: object) -> bool:
    """Return whether a value counts as true: all but false, null, 0 and missing do."""
    return not (value is None or value is MISSING or value is False or value in (0,))


def _look_up(value: Any, path: Path) -> Any:
    """Return what a reference names; of arrays, what it names in each of their objects."""
    if not path:
        return value
    if isinstance(value, dict):
        return _look_up(value[path[0]], path[1:]) if path[0] in value else MISSING
    if isinstance(value, list):
        found = (_look_up(each, path) for each in value)
        return [each for each in found if each is not MISSING]
    return MISSING


def _evaluate_call(call: Call, document: dict[str, Any]) -> Any:
    arguments = call.arguments
    if call.operator == "$and":
        return all(is_true(evaluate(each, document)) for each in arguments)
    if call.operator == "$or":
        return any(is_true(evaluate(each, document)) for each in arguments)
    values = [evaluate(each, document) for each in arguments]
    if call.operator == "$in":
        return _is_in(values[0], values[1], arguments[1])
    return _apply(call.operator, values)


def _is_in(value: object, array: object, operand: Operand) -> bool | None:
    if isinstance(operand, Constant) and operand.keys is not None:
        return identity(value) in operand.keys
    if not isinstance(array, list):
        return None
    wanted = identity(value)
    return any(identity(each) == wanted for each in array)


def _apply(name: str, values: Sequence[Any]) -> Any:
    if name in _COMPARISONS:
        return _COMPARISONS[name](*_comparable(values))
    match name:
        case "$cmp":
            first, second = _comparable(values)
            return (first > second) - (first < second)
        case "$not":
            return not is_true(values[0])
        case "$ifNull":
            present = (each for each in values[:-1] if each is not None and each is not MISSING)
            return next(present, values[-1])
        case "$size":
            return len(values[0]) if isinstance(values[0], list) else None
        case "[]":
            return [None if each is MISSING else each for each in values]
    return _calculated(name, values)


def _comparable(values: Sequence[Any]) -> tuple[Any, Any]:
    """Return keys for two values, which compare as moments where both are timestamps."""
    first, second = values
    if isinstance(first, str) and isinstance(second, str):
        moments = instant_of(first), instant_of(second)
        if moments[0] and moments[1]:
            return moments
    return order_key(first), order_key(second)


def _calculated(name: str, values: Sequence[Any]) -> int | float | None:
    if not all(is_number(each) for each in values):
        return None
    total = values[0]
    for each in values[1:]:
        if name == "$add":
            total = total + each
        elif name == "$multiply":
            total = total * each
        else:
            total = total - each
        # As MongoDB: what 64 bits cannot hold goes on as a double.
        if isinstance(total, int) and not is_64_bit(total):
            total = float(total)
    # Not a number, from infinity less infinity, has no place in the order.
    return total if total == total else None
