"""What becomes of a delivery after an attempt."""

from __future__ import annotations

import pytest

from inferno.webhooks.deliverer import verdict_of
from inferno.webhooks.deliveries import Due
from inferno.webhooks.sending import Answer
from inferno.webhooks.types import Attempt

ATTEMPT = Attempt(number=3, at="", duration_ms=1, status_code=None, error="")


def due(waited: int = 0) -> Due:
    return Due(
        id="msg_1",
        endpoint="e",
        tenant="t",
        webhook_id="wh_1",
        url="",
        payload="{}",
        secret=None,
        secret_of="",
        previous_secret=None,
        attempts=2,
        waited=waited,
    )


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_is_any_2xx(status: int) -> None:
    assert verdict_of(due(), ATTEMPT, Answer(status, "")).status == "delivered"


@pytest.mark.parametrize("status", [None, 100, 301, 400, 401, 404, 429, 500, 503])
def test_anything_else_is_tried_again(status: int | None) -> None:
    verdict = verdict_of(due(100), ATTEMPT, Answer(status, "x"))
    assert verdict.status == "pending"
    assert 75 <= verdict.wait <= 125
    assert not verdict.gone


def test_a_day_of_trying_ends_it() -> None:
    assert verdict_of(due(86_000), ATTEMPT, Answer(500, "x")).status == "parked"


def test_gone_ends_it_at_once() -> None:
    verdict = verdict_of(due(), ATTEMPT, Answer(410, "x"))
    assert (verdict.status, verdict.gone) == ("parked", True)


def test_receivers_say_when_to_come_back() -> None:
    verdict = verdict_of(due(), ATTEMPT, Answer(429, "x", retry_after=900))
    assert verdict.wait >= 900
