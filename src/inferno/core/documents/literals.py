"""Values as operands are written: JSON, with dates and numbers of MongoDB's extended JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from inferno.core.documents import limits
from inferno.core.documents.values import (
    check_name,
    check_scalar,
    instant_of,
    joined,
    timestamp,
)
from inferno.core.errors import InvalidRequest

NUMBERS = frozenset({"$numberInt", "$numberLong", "$numberDouble"})
FOREIGN = frozenset(
    {
        "$binary",
        "$code",
        "$dbPointer",
        "$maxKey",
        "$minKey",
        "$numberDecimal",
        "$oid",
        "$symbol",
        "$timestamp",
        "$undefined",
        "$uuid",
    }
)
"""Types of MongoDB that JSON documents do not have."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_nesting(value: object, what: str) -> None:
    """Refuse what is nested so deep that walking it could overflow the stack.

    Args:
        value: JSON from a caller.
        what: what it is, for the error: `filter`.

    Raises:
        InvalidRequest: it is nested more than `limits.DEPTH` levels deep.
    """
    level = [value]
    for _ in range(limits.DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise InvalidRequest(f"The {what} is nested more than {limits.DEPTH} levels deep.")


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def is_literal(value: object) -> bool:
    """Return whether an operand is a value, and no object of operators."""
    if not isinstance(value, dict) or not value:
        return True
    return is_extended(value) or not any(_is_operator(name) for name in value)


def is_extended(value: object) -> bool:
    """Return whether an operand is a value written as extended JSON."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    (name,) = value
    return name == "$date" or name in NUMBERS or name in FOREIGN


def is_date(value: object) -> bool:
    """Return whether an operand is `{"$date": …}`."""
    return isinstance(value, dict) and len(value) == 1 and "$date" in value


def _is_operator(name: object) -> bool:
    return isinstance(name, str) and name.startswith("$")


def literal(value: Any, where: str) -> Any:
    """Return the value that an operand stands for.

    Args:
        value: JSON, maybe extended; not nested too deep.
        where: its path, for errors.

    Returns:
        Plain JSON that shares nothing with what was given; dates are canonical timestamps.

    Raises:
        InvalidRequest: a document cannot hold it, or it has operators.
    """
    if is_extended(value):
        return _extended(value, where)
    if isinstance(value, dict):
        for name in value:
            check_name(name, where)
        return {name: literal(inner, joined(where, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [literal(inner, joined(where, str(at))) for at, inner in enumerate(value)]
    check_scalar(value, where)
    return value


def _extended(value: dict[str, Any], where: str) -> object:
    ((name, inner),) = value.items()
    if name == "$date":
        return timestamp(_moment(inner, where))
    if name in FOREIGN:
        raise InvalidRequest(
            f"{name} is a type of MongoDB that JSON documents do not have.",
            field=joined(where, name),
            operator=name,
        )
    return _number(name, inner, where)


def _moment(value: object, where: str) -> datetime:
    if isinstance(value, dict) and set(value) == {"$numberLong"}:
        value = _number("$numberLong", value["$numberLong"], where)
    moment = instant_of(value) if isinstance(value, str) else None
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            moment = _EPOCH + timedelta(milliseconds=value)
        except OverflowError:
            moment = None
    if moment is None:
        raise InvalidRequest(
            "$date takes a timestamp as '2025-01-01T00:00:00Z', or milliseconds since 1970.",
            field=joined(where, "$date"),
            operator="$date",
        )
    return moment


def _number(name: str, value: object, where: str) -> int | float:
    try:
        if not isinstance(value, str) or len(value) > 100:
            raise ValueError
        number = float(value) if name == "$numberDouble" else int(value)
    except ValueError:
        raise InvalidRequest(
            f"{name} takes a number as text.", field=joined(where, name), operator=name
        ) from None
    check_scalar(number, where)
    return number
