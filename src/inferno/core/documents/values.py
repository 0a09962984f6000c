"""What a document may hold; equality and order of values; moments as text.

MongoDB orders values of different types by type: missing, null, numbers, text, objects, arrays,
booleans. Objects have no order of fields here (a database that keeps JSON need not keep it): they
are equal whatever the order, and compared with their fields sorted by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, TypeGuard

from inferno.core.documents import limits
from inferno.core.errors import InvalidRequest


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = 0


MISSING: Final = Missing.MISSING
"""What a path reaches where there is nothing; not the same as null."""

_RANKS: dict[type, int] = {
    Missing: 0,
    type(None): 1,
    int: 2,
    float: 2,
    str: 3,
    dict: 4,
    list: 5,
    bool: 6,
}

_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def check_document(value: object, *, where: str = "") -> None:
    """Refuse what a document cannot hold.

    Args:
        value: a document, or a value of one.
        where: its path, for the error.

    Raises:
        InvalidRequest: it is nested too deep or too large, or has numbers beyond 64 bits, infinite
            numbers, zero characters, lone surrogates, or fields whose names begin with `$`.
    """
    _check(value, where, 1, limits.SIZE)


def _check(value: object, where: str, depth: int, room: int) -> int:
    """Check a value and return how much room it leaves of a document's size."""
    if isinstance(value, dict | list) and depth > limits.DEPTH:
        raise InvalidRequest(f"Nested more than {limits.DEPTH} levels deep.", field=where or None)
    room -= 8 + (len(value) if isinstance(value, str) else 0)
    if isinstance(value, dict):
        for name, inner in value.items():
            check_name(name, where)
            room = _check(inner, joined(where, name), depth + 1, room - len(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            room = _check(inner, joined(where, str(index)), depth + 1, room)
    else:
        check_scalar(value, where)
    if room < 0:
        raise InvalidRequest(f"A document may have {limits.SIZE} bytes.", limit_bytes=limits.SIZE)
    return room


def check_name(name: object, where: str) -> None:
    """Refuse the name of a field that a document cannot have.

    Raises:
        InvalidRequest: it begins with `$`, or has what cannot be stored.
    """
    if not isinstance(name, str):
        raise InvalidRequest("Names of fields are text.", field=where or None)
    if name.startswith("$"):
        raise InvalidRequest(
            f"The field name '{_shown(name)}' begins with '$', which only operators do.",
            field=joined(where, name),
        )
    check_scalar(name, where)


def check_scalar(value: object, where: str) -> None:
    """Refuse a value that is neither object nor array, where a document cannot hold it.

    Raises:
        InvalidRequest: see `check_document`.
    """
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            raise InvalidRequest(
                "Text has a zero character or half of a surrogate pair, which cannot be stored.",
                field=_shown(where) or None,
            )
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest("Numbers have to be finite.", field=where or None)
    elif isinstance(value, int):
        if not is_64_bit(value):
            raise InvalidRequest(
                "Whole numbers have at most 64 bits; write it as text, or as 1e20 with rounding.",
                field=where or None,
            )
    elif value is not None:
        raise InvalidRequest(f"{type(value).__name__} is no type of JSON.", field=where or None)


def joined(where: str, name: str) -> str:
    """Return the path of something inside of something, fit for a message."""
    return f"{where}.{_shown(name)}" if where else _shown(name)


def _shown(name: str) -> str:
    # Errors are encoded as JSON in UTF-8, which has no lone surrogates; nor are they for reading
    # a megabyte.
    text = name if len(name) <= 200 else f"{name[:200]}…"
    return _UNSTORABLE.sub("\ufffd", text)


def copied(value: Any) -> Any:
    """Return a copy of a value that shares nothing that can change."""
    if isinstance(value, dict):
        return {name: copied(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [copied(inner) for inner in value]
    return value


def rank(value: object) -> int:
    """Return where the type of a value stands among the others."""
    return _RANKS[type(value)]


def order_key(value: object) -> tuple[Any, ...]:
    """Return what to compare a value by, in MongoDB's order between and within types."""
    if isinstance(value, dict):
        fields = ((rank(value[name]), name, order_key(value[name])) for name in sorted(value))
        return (4, tuple(fields))
    if isinstance(value, list):
        return (5, tuple(order_key(inner) for inner in value))
    if value is None or value is MISSING:
        return (rank(value),)
    return (rank(value), value)


def identity(value: object) -> object:
    """Return something hashable that two values share exactly when they are equal."""
    if isinstance(value, dict):
        return frozenset((name, identity(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return tuple(identity(inner) for inner in value)
    # To Python True is 1, and to MongoDB it is not. No object or array is a set of a boolean.
    return frozenset((value,)) if isinstance(value, bool) else value


def identities(values: Iterable[object]) -> frozenset[object]:
    """Return the identities of values, for looking others up among them."""
    return frozenset(identity(value) for value in values)


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number; booleans are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number, written with or without a fraction of zero."""
    return is_number(value) and (isinstance(value, int) or value.is_integer())


def is_64_bit(number: float) -> bool:
    """Return whether a number is in the range of whole numbers of 64 bits."""
    return -(2**63) <= number < 2**63


def type_names(value: object) -> tuple[str, ...]:
    """Return the names by which `$type` knows the type of a value."""
    match value:
        case bool():
            return ("bool",)
        case int():
            return ("int" if -(2**31) <= value < 2**31 else "long", "number")
        case float():
            return ("double", "number")
        case str():
            return ("string",) if instant_of(value) is None else ("string", "date")
        case dict():
            return ("object",)
        case list():
            return ("array",)
    return ("null",) if value is None else ()


def instant_of(text: str) -> datetime | None:
    """Return the moment that a full RFC 3339 timestamp names, in UTC; None for all other text."""
    # Most text is none, and this is asked of much text.
    if len(text) < 17 or text[10] != "T" or not _INSTANT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def timestamp(moment: datetime) -> str:
    """Return the canonical text of a moment: UTC, with milliseconds, as `2025-01-01T00:00:00.000Z`.

    Canonical texts sort as the moments do.
    """
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='milliseconds')}Z"
