"""What a document may hold; equality and order of values; moments as text.

MongoDB orders values of different types by type: missing, null, numbers, text, objects, arrays,
booleans. Objects have no order of fields here (a database that keeps JSON need not keep it): they
are equal whatever the order, and compared with their fields sorted by name.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Final


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = 0


MISSING: Final = Missing.MISSING
"""What a path reaches where there is nothing; not the same as null."""


def check_document(value: object, *, where: str = "") -> None:
    """Refuse what a document cannot hold.

    Args:
        value: a document, or a value of one.
        where: its path, for the error.

    Raises:
        InvalidRequest: it is nested too deep, or has numbers beyond 64 bits, infinite numbers,
            zero characters, lone surrogates, or fields whose names begin with `$`.
    """
    raise NotImplementedError


def order_key(value: object) -> tuple[object, ...]:
    """Return what to compare a value by, in MongoDB's order between and within types."""
    raise NotImplementedError


def identity(value: object) -> object:
    """Return something hashable that two values share exactly when they are equal."""
    raise NotImplementedError


def instant_of(text: str) -> datetime | None:
    """Return the moment that a full RFC 3339 timestamp names, in UTC; None for all other text."""
    raise NotImplementedError


def timestamp(moment: datetime) -> str:
    """Return the canonical text of a moment: UTC, with milliseconds, as `2025-01-01T00:00:00.000Z`.

    Canonical texts sort as the moments do.
    """
    raise NotImplementedError
