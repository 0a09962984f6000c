"""When deliveries are tried again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.webhooks.schedule import (
    GIVE_UP_AFTER,
    LONGEST_STEP,
    LONGEST_WAIT,
    is_over,
    retry_after_of,
    wait_after,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_waits_double_up_to_an_hour_for_a_day() -> None:
    waits: list[float] = []
    while not is_over(sum(waits), wait := wait_after(sum(waits), retry_after=None, spread=0)):
        waits.append(wait)
    assert waits[:6] == [5, 5, 10, 20, 40, 80]
    assert max(waits) == LONGEST_WAIT
    assert sum(waits) > GIVE_UP_AFTER - LONGEST_WAIT
    assert 30 < len(waits) < 40


@given(st.floats(0, 86_400), st.none() | st.floats(0, 1e9))
def test_waits_are_neither_shorter_than_asked_nor_boundless(
    waited: float, asked: float | None
) -> None:
    wait = wait_after(waited, retry_after=asked)
    assert 3 < wait <= LONGEST_STEP
    if asked is not None and asked < 6 * 3600:
        assert wait >= asked


def test_waits_differ() -> None:
    assert len({wait_after(100, retry_after=None) for _ in range(20)}) > 10
    assert len({wait_after(0, retry_after=600) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("Thu, 01 Jan 2026 00:02:00 GMT", 120),
        ("Thu, 01 Jan 2026 00:02:00 -0000", 120),
        ("Wed, 31 Dec 2025 00:00:00 GMT", None),
        ("9" * 5000, 999_999_999),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("٣", None),
        ("Thu, 99 Jan 2026 00:02:00 GMT", None),
        ("", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_of(header, NOW) == seconds


@given(st.text())
def test_any_retry_after_is_survived(header: str) -> None:
    retry_after_of(header, NOW)
