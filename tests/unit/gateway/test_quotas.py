"""Counting for quotas: never more than was allowed, and nothing that lasts for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferno.core.errors import QuotaExceeded
from inferno.core.quotas import Quotas
from inferno.gateway import quotas
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.lines import Line
from inferno.gateway.picking import DEFAULT, Picker, Want
from inferno.gateway.quotas import IDLE_SECONDS, MAX_SESSIONS, SECOND, QuotaBook, ServerQuota
from inferno.gateway.upstream import Address


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 10**15

    def __call__(self) -> int:
        """Return what time it is."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.now += round(seconds * SECOND)


def book_and_clock() -> tuple[QuotaBook, Clock]:
    clock = Clock()
    return QuotaBook(clock), clock


def quota(book: QuotaBook, name: str = "s", **limits: int) -> ServerQuota:
    found = book.of(name, Quotas(**limits))
    assert found is not None
    return found


def want(session: str = "", block: str = "m", tenant: str = "t") -> Want:
    return Want(tenant=tenant, session=session, block=block)


limits = st.builds(
    Quotas,
    **{name: st.none() | st.integers(1, 4) for name in quotas.BLOCK_QUOTAS + quotas.SESSION_QUOTAS},
    requests_per_second_total=st.none() | st.integers(1, 6),
)
steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("mn"), st.integers(0, 600)), max_size=40
)


@settings(max_examples=60)
@given(limits, steps)
def test_what_is_let_in_is_never_more_than_the_quotas_say(
    limits: Quotas, steps: list[tuple[str, str, int]]
) -> None:
    book, clock = book_and_clock()
    counted = book.of("s", limits)
    assert counted is not None
    let_in: list[tuple[int, str, str]] = []
    for session, block, milliseconds in steps:
        clock.forward(milliseconds / 1000)
        recent = [one for one in let_in if one[0] > clock.now - SECOND]
        had: dict[str, tuple[int | None, int]] = {
            "requests_per_second_total": (limits.requests_per_second_total, len(recent)),
            "requests_per_second_per_session": (
                limits.requests_per_second_per_session,
                sum(one[1] == session for one in recent),
            ),
            "requests_per_second_per_block_id": (
                limits.requests_per_second_per_block_id,
                sum(one[2] == block for one in recent),
            ),
            "requests_per_session_id": (
                limits.requests_per_session_id,
                sum(one[1] == session for one in let_in),
            ),
            "requests_per_block_id": (
                limits.requests_per_block_id,
                sum(one[2] == block for one in let_in),
            ),
        }
        full = {name for name, (most, used) in had.items() if most is not None and used >= most}
        claim = want(session, block)
        found = counted.used_up(claim)
        assert (found is not None) == bool(full)
        if found is not None:
            assert found.quota in full
            assert found.limit == had[found.quota][0]
            assert 0 < found.wait <= IDLE_SECONDS * SECOND
        else:
            counted.take(claim)
            let_in.append((clock.now, session, block))


def test_one_is_let_in_when_it_was_told_to_come_back() -> None:
    book, clock = book_and_clock()
    counted = quota(book, requests_per_second_total=2)
    for _ in range(2):
        assert counted.used_up(want()) is None
        counted.take(want())
        clock.forward(0.25)
    found = counted.used_up(want())
    assert found is not None
    assert found.error().retry_after == 1
    clock.forward(found.wait / SECOND - 0.001)
    assert counted.used_up(want()) is not None
    clock.forward(0.001)
    assert counted.used_up(want()) is None


def test_what_nobody_used_for_an_hour_begins_anew() -> None:
    book, clock = book_and_clock()
    counted = quota(book, requests_per_session_id=1, requests_per_block_id=2)
    counted.take(want("ann"))
    found = counted.used_up(want("ann"))
    assert found is not None
    assert (found.quota, found.error().retry_after) == ("requests_per_session_id", IDLE_SECONDS)
    clock.forward(IDLE_SECONDS + 1)
    assert book.session("t", "ann") is None
    assert counted.used_up(want("ann")) is None


def test_requests_without_a_session_are_sessions_of_their_own() -> None:
    book, _ = book_and_clock()
    counted = quota(book, requests_per_session_id=1, requests_per_second_per_session=1)
    for _ in range(3):
        assert counted.used_up(want()) is None
        counted.take(want())


def test_sessions_of_two_tenants_are_two() -> None:
    book, _ = book_and_clock()
    counted = quota(book, requests_per_session_id=1)
    counted.take(want("ann", tenant="one"))
    assert counted.used_up(want("ann", tenant="one")) is not None
    assert counted.used_up(want("ann", tenant="two")) is None
    book.reset("two", "ann")
    book.forget("two", "ann")
    assert counted.used_up(want("ann", tenant="one")) is not None
    book.reset("one", "ann")
    assert counted.used_up(want("ann", tenant="one")) is None
    assert book.session("one", "ann") is not None
    book.forget("one", "ann")
    assert book.session("one", "ann") is None


def test_a_tenant_that_invents_sessions_forgets_its_own_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quotas, "MAX_SESSIONS", 5)
    monkeypatch.setattr(quotas, "MAX_BLOCKS", 3)
    book, _ = book_and_clock()
    counted = quota(book, requests_per_session_id=9, requests_per_block_id=9)
    counted.take(want("kept", tenant="other"))
    for number in range(20):
        counted.take(want(f"s{number}", f"m{number}"))
        counted.take(want("often"))
    assert book.session("other", "kept") is not None
    alive = [number for number in range(20) if book.session("t", f"s{number}") is not None]
    assert alive == [16, 17, 18, 19]
    assert book.session("t", "often") is not None
    assert len(counted.blocks) == 3
    assert MAX_SESSIONS > 1000
    long = "x" * 4000
    counted.take(want(long))
    assert book.session("t", long) is not None
    assert book.session("t", long + "x") is None


def test_a_server_that_comes_back_finds_its_counts() -> None:
    book, clock = book_and_clock()
    quota(book, requests_per_block_id=1).take(want())
    assert quota(book, requests_per_block_id=1).used_up(want()) is not None
    assert quota(book, requests_per_block_id=2).used_up(want()) is None
    clock.forward(IDLE_SECONDS + 1)
    quota(book, "another", requests_per_block_id=1)
    assert [one.server for one in book.servers()] == ["another"]
    assert book.of("s", None) is None


def endpoint(name: str, quota: ServerQuota | None, capacity: int = 1) -> Endpoint:
    known: Any = {"authorization": b"", "context_size": 0, "capabilities": None}
    address = Address("127.0.0.1", len(name))
    return Endpoint(name, "", address, capacity=capacity, slots=capacity, quota=quota, **known)


async def test_requests_go_where_there_is_quota_left() -> None:
    book, clock = book_and_clock()
    line = Line("pool", 10, Picker.parse(DEFAULT))
    line.add(endpoint("a", quota(book, "a", requests_per_session_id=1), 9))
    line.add(endpoint("b", quota(book, "b", requests_per_second_total=2), 9))
    names = [(await line.acquire(want("ann"))).name for _ in range(3)]
    assert sorted(names) == ["a", "b", "b"]
    with pytest.raises(QuotaExceeded) as caught:
        await line.acquire(want("ann"))
    assert caught.value.details["quota"] == "requests_per_second_total"  # the shorter wait
    assert (await line.acquire(want("ben"))).name == "a"
    clock.forward(1)
    assert (await line.acquire(want("ann"))).name == "b"
    line.add(endpoint("c", None, 9))
    assert (await line.acquire(want("ben"))).name in "bc"


async def test_who_waits_for_room_is_refused_where_there_is_no_quota_left() -> None:
    book, _ = book_and_clock()
    line = Line("pool", 10, Picker.parse(DEFAULT))
    line.add(endpoint("a", quota(book, requests_per_block_id=2)))
    first = await line.acquire(want())
    waiting = [asyncio.ensure_future(line.acquire(want())) for _ in range(3)]
    await asyncio.sleep(0)
    assert line.waiting == 3
    line.release(first)
    assert await waiting[0] is first
    line.release(first)
    for one in waiting[1:]:
        with pytest.raises(QuotaExceeded):
            await one
    assert not line.busy
