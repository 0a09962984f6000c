"""Times and ids as the tables of webhooks have them, so that text sorts as time does."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta


def now() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


def text_of(moment: datetime) -> str:
    """Return a time as it is stored: RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def later(seconds: float) -> str:
    """Return the text of a time that is so many seconds from now; they may be negative."""
    return text_of(now() + timedelta(seconds=seconds))


def delivery_id(at: datetime) -> str:
    """Return a new id for a delivery: later ones sort behind earlier ones."""
    return f"msg_{int(at.timestamp() * 1000):012x}{secrets.token_hex(10)}"
