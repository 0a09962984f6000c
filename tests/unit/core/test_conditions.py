"""Conditions keep the time at which they became what they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferno.core.conditions import find, is_true, settled
from inferno.core.resources import Condition

statuses = st.sampled_from(["True", "False", "Unknown"])
observations = st.lists(
    st.builds(
        Condition,
        type=st.sampled_from(["Accepted", "Ready"]),
        status=statuses,
        reason=st.sampled_from(["A", "B"]),
    ),
    max_size=2,
    unique_by=lambda one: one.type,
)


@given(st.lists(observations, max_size=5))
def test_the_time_changes_with_the_status_only(rounds: list[list[Condition]]) -> None:
    conditions: list[Condition] = []
    for number, observed in enumerate(rounds):
        now = f"t{number}"
        following = settled(conditions, observed, generation=number, now=now)
        for condition in following:
            before = find(conditions, condition.type)
            if before is not None and before.status == condition.status:
                assert condition.last_transition_time == before.last_transition_time
            else:
                assert condition.last_transition_time == now
        seen = {one.type for one in observed}
        assert all(
            one.observed_generation == number and one.reason == wanted.reason
            for wanted in observed
            for one in following
            if one.type == wanted.type
        )
        assert [one for one in following if one.type not in seen] == [
            one for one in conditions if one.type not in seen
        ]
        conditions = following


def test_what_is_not_there_is_not_true() -> None:
    assert not is_true([], "Ready")
    assert is_true([Condition(type="Ready", status="True", reason="R")], "Ready")
