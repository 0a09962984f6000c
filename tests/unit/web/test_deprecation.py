"""What clients are told of calls that will go."""

from __future__ import annotations

from datetime import date

import pytest

from inferno.web.deprecation import Deprecation, months_after


def test_headers() -> None:
    deprecation = Deprecation(
        since=date(2026, 1, 1),
        sunset=date(2026, 7, 1),
        guide="/docs/migration",
        successor="/v1/chat/completions",
    )
    assert deprecation.headers == [
        (b"deprecation", b"@1767225600"),
        (b"sunset", b"Wed, 01 Jul 2026 00:00:00 GMT"),
        (b"link", b'</docs/migration>; rel="deprecation"'),
        (b"link", b'</docs/migration>; rel="sunset"'),
        (b"link", b'</v1/chat/completions>; rel="successor-version"'),
    ]


@pytest.mark.parametrize(
    ("since", "sunset"),
    [
        (date(2026, 1, 1), date(2026, 6, 30)),
        (date(2026, 8, 31), date(2027, 2, 27)),
        (date(2026, 1, 1), date(2025, 12, 31)),
    ],
)
def test_notice_is_half_a_year_at_least(since: date, sunset: date) -> None:
    with pytest.raises(ValueError, match="too soon"):
        Deprecation(since=since, sunset=sunset, guide="/docs")


def test_months_end_where_they_end() -> None:
    assert months_after(date(2026, 8, 31), 6) == date(2027, 2, 28)
    assert months_after(date(2027, 8, 31), 6) == date(2028, 2, 29)
    assert months_after(date(2026, 12, 1), 6) == date(2027, 6, 1)


@pytest.mark.parametrize("address", ["/a>b", "/a b", "/a\r\nSet-Cookie: x", "/ä"])
def test_addresses_cannot_leave_their_header(address: str) -> None:
    with pytest.raises(ValueError, match="not a URL"):
        Deprecation(since=date(2026, 1, 1), sunset=date(2027, 1, 1), guide=address)
