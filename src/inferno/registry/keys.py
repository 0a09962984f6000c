"""Values as short texts that sort, byte by byte, as MongoDB orders the values. Pure.

One text column of an index so holds numbers, texts, booleans, null and whatever else there is, in
one order. What a key cannot tell apart (long texts, large numbers, objects, arrays) shares one.
"""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Any

EMPTY, NULL, NUMBER, TEXT, OBJECT, ARRAY, BOOLEAN = "0", "1", "2", "3", "4", "5", "6"
"""What keys begin with, in the order of types; an empty array sorts before null."""

INSTANT = "8"
"""Begins a second key of texts that are timestamps: the moment, which has many forms as text."""

ANY = (EMPTY, "7")
"""The keys of values themselves: from the first up to, but without, the second."""

MAX_TEXT = 200
MAX_KEY = MAX_TEXT + 1

_EXACT = 2**53
_SIGN = 1 << 63


def key_of(value: Any) -> str:
    """Return the key of a value."""
    match value:
        case None:
            return NULL
        case bool():
            return f"{BOOLEAN}{value:d}"
        case int() | float():
            return NUMBER + _ordered(_float(value))
        case str():
            return TEXT + value[:MAX_TEXT]
        case dict():
            return OBJECT
    return ARRAY


def key_of_order(order: tuple[Any, ...]) -> str:
    """Return the key of a value whose `order_key` this is; that of nothing is an empty array's."""
    rank = str(order[0])
    return rank if rank in (EMPTY, NULL, OBJECT, ARRAY) else key_of(order[1])


def key_of_instant(moment: datetime) -> str:
    """Return the key of a moment in UTC."""
    return INSTANT + moment.replace(tzinfo=None).isoformat(timespec="microseconds")


def behind(key: str) -> str:
    """Return the least text behind a key: no other key is between them."""
    return key + "\x01"


def kind(key: str) -> tuple[str, str]:
    """Return where the keys of a key's type begin, and where they end."""
    return key[0], chr(ord(key[0]) + 1)


def is_exact(key: str) -> bool:
    """Return whether all values with this key are equal."""
    match key[0]:
        case "2":
            return _LEAST < key < _MOST
        case "3":
            return len(key) < MAX_KEY
    return key[0] not in (OBJECT, ARRAY)


def beginning_with(prefix: str) -> tuple[str, str]:
    """Return the first key of texts that begin with something, and the end of them."""
    low = TEXT + prefix[:MAX_TEXT]
    for at in range(len(low) - 1, 0, -1):
        code = ord(low[at]) + 1
        if 0xD800 <= code <= 0xDFFF:
            code = 0xE000  # halves of surrogate pairs are no characters
        if code <= 0x10FFFF:
            return low, low[:at] + chr(code)
    return low, kind(low)[1]


def _float(number: float) -> float:
    """Return the nearest float; rounding keeps the order of numbers, if not all differences."""
    try:
        return float(number) + 0.0  # -0.0 equals 0.0
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _ordered(number: float) -> str:
    """Return a float's bits in hexadecimal digits that sort as floats do."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", number))
    return f"{~bits & (2 * _SIGN - 1) if bits & _SIGN else bits | _SIGN:016x}"


_LEAST, _MOST = key_of(-_EXACT), key_of(_EXACT)
