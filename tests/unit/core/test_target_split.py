"""Shares of traffic: weight / sum of weights (seed 002, `TargetModel`)."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inferno.core.errors import NoValidTarget
from inferno.core.inference_models import TargetModel
from inferno.core.target_split import TargetSplit
from tests.unit.core.documents import targets

points = st.floats(0, 1, exclude_max=True)


def _target(name: str, weight: int | None = None) -> TargetModel:
    return TargetModel(name=name, weight=weight)


def test_without_targets_the_name_stands_for_itself() -> None:
    split = TargetSplit.of("chat", [])
    assert split.at(0.5) == split.for_session("s") == "chat"


def test_shares_are_weight_over_sum() -> None:
    split = TargetSplit.of("chat", [_target("a", 1), _target("b", 3), _target("c", 0)])
    drawn = [split.at(i / 1000) for i in range(1000)]
    assert {name: drawn.count(name) for name in drawn} == {"a": 250, "b": 750}


def test_unset_weights_count_as_one() -> None:
    split = TargetSplit.of("chat", [_target("a"), _target("b", 1), _target("a")])
    assert dict(split.weights) == {"a": 2, "b": 1}


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_all_zero_has_no_valid_target(names: list[str]) -> None:
    split = TargetSplit.of("chat", [_target(name, 0) for name in names])
    with pytest.raises(NoValidTarget, match="chat"):
        split.at(0.0)
    with pytest.raises(NoValidTarget, match="chat"):
        split.for_session("s")


@given(targets, points, st.text())
def test_only_targets_of_some_weight_are_chosen(
    given_targets: list[TargetModel], point: float, session: str
) -> None:
    split = TargetSplit.of("chat", given_targets)
    assume(split.weights)
    possible = {one.name for one in given_targets if one.share} or {"chat"}
    assert split.at(point) in possible
    assert split.for_session(session) in possible


@given(targets, st.text())
def test_a_session_stays_whatever_the_order(given_targets: list[TargetModel], session: str) -> None:
    split = TargetSplit.of("chat", given_targets)
    assume(split.weights)
    turned = TargetSplit.of("chat", list(reversed(given_targets)))
    assert split.for_session(session) == turned.for_session(session)


@given(st.integers(1, 100), st.integers(0, 100), st.text())
def test_more_weight_only_draws_sessions_in(weight: int, more: int, session: str) -> None:
    before = TargetSplit.of("chat", [_target("old", 50), _target("new", weight)])
    after = TargetSplit.of("chat", [_target("old", 50), _target("new", weight + more)])
    if before.for_session(session) == "new":
        assert after.for_session(session) == "new"


def test_sessions_follow_the_shares() -> None:
    split = TargetSplit.of("chat", [_target("a", 9), _target("b", 1)])
    to_b = sum(split.for_session(f"session-{i}") == "b" for i in range(10_000))
    assert 850 < to_b < 1150  # five standard deviations


def test_hashes_are_the_same_everywhere_and_for_ever() -> None:
    split = TargetSplit.of("chat", [_target("a", 1), _target("b", 1)])
    assert "".join(split.for_session(str(i)) for i in range(16)) == "babbbbbbbbaaabaa"
