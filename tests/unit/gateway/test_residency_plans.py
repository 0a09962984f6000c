from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferno.core.resources import EngineOptions
from inferno.gateway.residency import Limits, Resident, merged, plan_idle, plan_room

residents = st.lists(
    st.builds(
        Resident,
        name=st.text("abcdef", min_size=1, max_size=4),
        memory_bytes=st.integers(0, 100),
        last_used=st.floats(0, 100),
        busy=st.booleans(),
        pinned=st.booleans(),
    ),
    unique_by=lambda resident: resident.name,
    max_size=8,
)
limits = st.builds(
    Limits,
    models=st.integers(0, 6),
    memory_bytes=st.integers(0, 300),
    idle_seconds=st.sampled_from([0.0, 10.0, 50.0]),
)


def resident(name: str, *, used: float = 0, busy: bool = False, pinned: bool = False,
             memory: int = 10) -> Resident:  # fmt: skip
    return Resident(name, memory, used, busy, pinned)


def test_the_least_recently_used_idle_model_makes_room() -> None:
    loaded = [
        resident("busy", used=1, busy=True),
        resident("pinned", used=2, pinned=True),
        resident("older", used=3),
        resident("newer", used=4),
    ]
    assert plan_room(loaded, needed_bytes=1, limits=Limits(4, 0, 0)) == ["older"]


def test_without_room_to_make_the_answer_is_none() -> None:
    loaded = [resident("a", busy=True), resident("b", pinned=True)]
    assert plan_room(loaded, needed_bytes=1, limits=Limits(2, 0, 0)) is None


def test_as_many_go_as_the_memory_takes() -> None:
    loaded = [resident(name, used=i, memory=40) for i, name in enumerate("abc")]
    assert plan_room(loaded, needed_bytes=60, limits=Limits(0, 120, 0)) == ["a", "b"]


def test_a_model_over_the_ceiling_is_let_in_alone() -> None:
    assert plan_room([resident("a")], needed_bytes=999, limits=Limits(0, 50, 0)) == ["a"]


@given(residents, st.integers(0, 400), limits)
def test_room_is_made_only_by_those_who_may_go(
    loaded: list[Resident], needed: int, ceilings: Limits
) -> None:
    evicted = plan_room(loaded, needed_bytes=needed, limits=ceilings)
    if evicted is None:
        return
    gone = [r for r in loaded if r.name in evicted]
    stay = [r for r in loaded if r.name not in evicted]
    assert all(r.can_go for r in gone)
    assert not ceilings.models or len(stay) < ceilings.models
    used = sum(r.memory_bytes for r in stay)
    assert not stay or not ceilings.memory_bytes or used + needed <= ceilings.memory_bytes
    idle_that_stay = [r.last_used for r in stay if r.can_go]
    assert all(r.last_used <= kept for r in gone for kept in idle_that_stay)


@given(residents, st.floats(0, 200), limits)
def test_only_idle_models_time_out(loaded: list[Resident], now: float, ceilings: Limits) -> None:
    gone = plan_idle(loaded, now=now, limits=ceilings)
    for one in loaded:
        if one.name in gone:
            assert one.can_go
            assert ceilings.idle_seconds
            assert now - one.last_used >= ceilings.idle_seconds


def test_given_options_override_present_ones() -> None:
    present = EngineOptions(context_size=512, threads=2)
    assert merged(present, None) == present
    given_ = EngineOptions(context_size=1024)
    assert merged(present, given_) == EngineOptions(context_size=1024, threads=2)
