"""What may happen next on a connection, without one."""

from __future__ import annotations

import math

import pytest

from inferno.core.errors import AuthenticationFailed, InvalidRequest, Overloaded
from inferno.limits.base import Refused
from inferno.limits.tally import Tally
from inferno.server.types import Usage
from inferno.server.websocket_state import MAX_FAULTS, Bounds, ConnectionState, Hangup
from inferno.tenancy.access import Badge

BADGE = Badge(b"digest")
BOUNDS = Bounds(streams=2, auth_seconds=10, idle_seconds=100)


def state(badge: Badge | None = BADGE) -> ConnectionState:
    return ConnectionState("req_1", BOUNDS, badge, now=0)


def test_inferences_have_request_ids_of_their_own() -> None:
    here = state()
    assert [here.begin(name).request_id for name in "ab"] == ["req_1.1", "req_1.2"]


def test_nothing_begins_before_it_is_known_who_is_calling() -> None:
    here = state(None)
    with pytest.raises(AuthenticationFailed):
        here.begin("a")
    here.badge = BADGE
    here.begin("a")


def test_nothing_begins_at_the_end() -> None:
    here = state()
    here.draining = True
    with pytest.raises(Overloaded):
        here.begin("a")


def test_ids_and_places_come_free_at_the_end_of_an_inference() -> None:
    here = state()
    first = here.begin("a")
    with pytest.raises(InvalidRequest):
        here.begin("a")
    here.begin("b")
    with pytest.raises(Refused):
        here.begin("c")
    here.end(first, 1)
    here.begin("a")


def test_what_was_cancelled_or_has_finished_cannot_be_cancelled() -> None:
    here = state()
    with pytest.raises(InvalidRequest):
        here.cancel("a")
    stream = here.begin("a")
    assert here.cancel("a") is stream
    with pytest.raises(InvalidRequest):
        here.cancel("a")
    here.begin("b").finished = True
    with pytest.raises(InvalidRequest):
        here.cancel("b")


class TestTime:
    def test_to_say_who_is_calling(self) -> None:
        here = state(None)
        here.heard(9, fault=False)  # pings are no answer
        assert here.seconds_left(9) == 1
        here.badge = BADGE
        assert here.seconds_left(9) == 100

    def test_to_say_it_again(self) -> None:
        here = state()
        here.forget(Badge(b"another"), 50)
        assert here.badge is BADGE
        here.forget(BADGE, 50)
        assert here.seconds_left(51) == 9

    def test_to_ask_for_something(self) -> None:
        here = state()
        here.heard(60, fault=False)
        assert here.seconds_left(100) == 60
        stream = here.begin("a")
        assert here.seconds_left(1000) > 0
        here.end(stream, 1000)
        assert here.seconds_left(1001) == 99
        assert here.seconds_left(math.inf) < 0


def test_faults_in_a_row_are_counted() -> None:
    here = state()
    for _ in range(3):
        for _ in range(MAX_FAULTS):
            here.heard(0, fault=True)
        here.heard(0, fault=False)
    for _ in range(MAX_FAULTS):
        here.heard(0, fault=True)
    with pytest.raises(Hangup) as hangup:
        here.heard(0, fault=True)
    assert hangup.value.code == 1008
    assert len(hangup.value.reason.encode()) <= 123


def test_usage_of_what_was_cut_short() -> None:
    stream = state().begin("a")
    assert stream.usage == Usage()
    stream.tally = Tally(prompt_estimate=7, max_tokens=100)
    assert stream.usage == Usage()
    stream.tally.begun, stream.tally.pieces = True, 3
    assert stream.usage == Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)
