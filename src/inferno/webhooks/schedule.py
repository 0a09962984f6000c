"""When a delivery is tried again, and when no more. Pure decisions.

How long a delivery has been tried is the sum of its planned waits, not the clock's word: neither a
clock that jumps nor a night in which the platform was switched off shortens its day.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_WAIT = 5.0
LONGEST_WAIT = 3600.0
LONGEST_RETRY_AFTER = 6 * 3600.0
"""A receiver that asks for more gets this."""
GIVE_UP_AFTER = 24 * 3600.0

JITTER = 0.25
"""Waits vary by so much, so that receivers that were down are not met by all at once."""


def wait_after(waited: float, *, retry_after: float | None, spread: float | None = None) -> float:
    """Return how many seconds to wait before the next attempt.

    Each wait is as long as all before it together, which doubles them.

    Args:
        waited: seconds of planned waits so far.
        retry_after: what the receiver asked for.
        spread: between -1 and 1; random where not given.
    """
    spread = random.uniform(-1, 1) if spread is None else spread  # noqa: S311 - no secret
    wait = min(max(waited, FIRST_WAIT), LONGEST_WAIT) * (1 + JITTER * spread)
    if retry_after is None:
        return wait
    # Never sooner than asked for, and not all at the same moment either.
    asked = min(retry_after, LONGEST_RETRY_AFTER) * (1 + JITTER * abs(spread))
    return max(wait, asked)


LONGEST_STEP = LONGEST_RETRY_AFTER * (1 + JITTER)
"""No wait is longer: what seems to be due later than that was dated by a clock that was wrong."""


def is_over(waited: float, wait: float) -> bool:
    """Return whether to give up rather than to wait once more.

    Args:
        waited: seconds of planned waits so far.
        wait: the next one.
    """
    return waited + wait > GIVE_UP_AFTER


def retry_after_of(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or a date.

    None where there is no such header, or it says nothing sensible.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    seconds = (when - (now or datetime.now(UTC))).total_seconds()
    return seconds if seconds > 0 else None
