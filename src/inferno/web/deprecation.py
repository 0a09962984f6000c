"""Telling clients that a call will go: `Deprecation` (RFC 9745), `Sunset` (RFC 8594), `Link`."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from email.utils import format_datetime

from inferno.web.exchange import Header

NOTICE_MONTHS = 6
"""Seed 001: clients get at least so long to change over."""


@dataclass(frozen=True, slots=True)
class Deprecation:
    """When a call was deprecated, when it goes, and what to do instead.

    Args:
        since: the day on which it was, or will be, deprecated.
        sunset: the day from which on it may no longer be there.
        guide: URL or path of the migration guide.
        successor: URL or path of the call that takes its place, where one does.

    Raises:
        ValueError: the notice is shorter than seed 001 promises, or an address could end the
            header that it is written into.
    """

    since: date
    sunset: date
    guide: str
    successor: str | None = None

    def __post_init__(self) -> None:
        earliest = months_after(self.since, NOTICE_MONTHS)
        if self.sunset < earliest:
            raise ValueError(
                f"Deprecated on {self.since}, a call may go on {earliest} at the earliest, "
                f"{NOTICE_MONTHS} months later; {self.sunset} is too soon."
            )
        for address in (self.guide, self.successor or "-"):
            if not address.isascii() or not address.isprintable() or set(address) & set('<> "'):
                raise ValueError(f"{address!r} is not a URL.")

    @property
    def headers(self) -> list[Header]:
        """The fields of every answer to the call, its refusals among them."""
        guide = self.guide.encode()
        fields = [
            (b"deprecation", b"@%d" % _midnight(self.since).timestamp()),
            (b"sunset", format_datetime(_midnight(self.sunset), usegmt=True).encode()),
            (b"link", b'<%b>; rel="deprecation"' % guide),
            (b"link", b'<%b>; rel="sunset"' % guide),
        ]
        if self.successor is not None:
            fields.append((b"link", b'<%b>; rel="successor-version"' % self.successor.encode()))
        return fields


Deprecations = Mapping[str, Deprecation]
"""Deprecations by the path of the calls, as the table of operations writes it."""


def months_after(day: date, months: int) -> date:
    """Return the day so many months later; the month's last where it has no such day."""
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
