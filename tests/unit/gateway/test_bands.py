"""Whom a line serves first, and whom it refuses, when there is not enough of everything."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.core.errors import Overloaded, Shed
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.lines import Line
from inferno.gateway.picking import DEFAULT, Picker, Want
from inferno.gateway.scraping import EndpointLoad
from inferno.gateway.upstream import Address

CRITICAL, PLAIN, SHEDDABLE = 1, 0, -1


def endpoint(name: str = "a", *, capacity: int = 1, slots: int | None = None) -> Endpoint:
    return Endpoint(
        name=name,
        model="",
        address=Address("127.0.0.1", 1),
        authorization=b"",
        capacity=capacity,
        slots=slots or capacity,
        context_size=0,
        capabilities=None,
        remote=True,
    )


def line(*endpoints: Endpoint, max_waiting: int = 100) -> Line:
    made = Line("m", max_waiting, Picker.parse(DEFAULT))
    for one in endpoints:
        made.add(one)
    return made


async def waiting(queue: Line, *wants: Want) -> list[asyncio.Task[Endpoint]]:
    tasks = [asyncio.ensure_future(queue.acquire(want)) for want in wants]
    await asyncio.sleep(0)
    return tasks


async def served(queue: Line, one: Endpoint, tasks: list[asyncio.Task[Endpoint]]) -> list[int]:
    """Return the order in which tasks are served when places come free one by one."""
    order: list[int] = []
    for _ in tasks:
        queue.release(one)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        order += [n for n, task in enumerate(tasks) if task.done() and n not in order]
    return order


async def test_the_more_important_are_served_first_and_flows_take_turns() -> None:
    one = endpoint()
    queue = line(one)
    await queue.acquire(Want())
    wants = [
        Want(flow="a"), Want(flow="a"), Want(flow="a"), Want(flow="b"),
        Want(priority=CRITICAL, flow="a"), Want(flow="b"),
    ]  # fmt: skip
    tasks = await waiting(queue, *wants)
    assert await served(queue, one, tasks) == [4, 0, 3, 1, 5, 2]


async def test_what_may_be_shed_is_refused_at_once_where_there_is_no_room() -> None:
    one = endpoint(capacity=2)
    queue = line(one)
    await queue.acquire(Want(priority=SHEDDABLE))
    await queue.acquire(Want())
    with pytest.raises(Shed) as shed:
        await queue.acquire(Want(priority=SHEDDABLE))
    assert shed.value.details == {"reason": "saturated"}
    queue.release(one)
    assert await queue.acquire(Want(priority=SHEDDABLE)) is one


@pytest.mark.parametrize(("queued", "usage"), [(6, 0.1), (0, 0.81)])
async def test_an_engine_that_says_it_is_full_takes_nothing_that_may_be_shed(
    queued: int, usage: float
) -> None:
    one = endpoint(capacity=100)
    one.scraped(EndpointLoad(waiting=queued, running=1, kv_cache_usage=usage, at=time.monotonic()))
    queue = line(one)
    with pytest.raises(Shed):
        await queue.acquire(Want(priority=SHEDDABLE))
    assert await queue.acquire(Want()) is one


async def test_requests_since_the_engine_last_spoke_are_counted() -> None:
    one = endpoint(capacity=100)
    one.scraped(EndpointLoad(waiting=3, running=1, kv_cache_usage=0.0, at=time.monotonic()))
    queue = line(one)
    for _ in range(3):
        await queue.acquire(Want(priority=SHEDDABLE))
    with pytest.raises(Shed):
        await queue.acquire(Want(priority=SHEDDABLE))


async def test_one_who_matters_more_takes_the_last_place_of_one_who_matters_less() -> None:
    one = endpoint()
    queue = line(one, max_waiting=2)
    await queue.acquire(Want())
    first, last = await waiting(queue, Want(), Want())
    [critical] = await waiting(queue, Want(priority=CRITICAL))
    with pytest.raises(Shed) as shed:
        await last
    assert shed.value.reason == "displaced"
    with pytest.raises(Overloaded, match="waiting for model 'm'"):
        await queue.acquire(Want())
    assert await served(queue, one, [first, critical]) == [1, 0]


async def test_the_important_do_not_wait_behind_what_is_in_the_engine_already() -> None:
    one = endpoint(capacity=4, slots=2)
    queue = line(one)
    queue.tight = True
    for _ in range(2):
        await queue.acquire(Want())
    [plain] = await waiting(queue, Want())
    assert not plain.done()
    assert await queue.acquire(Want(priority=CRITICAL)) is one
    queue.release(one)
    await asyncio.sleep(0)
    assert not plain.done()
    queue.release(one)
    assert await plain is one


async def test_an_endpoint_in_two_lines_serves_whoever_matters_more() -> None:
    one = endpoint()
    own, pool = line(one), line(one)
    assert one.lines == [own, pool]
    await own.acquire(Want())
    [plain] = await waiting(own, Want())
    [critical] = await waiting(pool, Want(priority=CRITICAL))
    own.release(one)
    assert await critical is one
    assert not plain.done()
    pool.release(one)
    assert await plain is one


async def test_a_request_goes_where_its_model_is_known_and_its_hint_points() -> None:
    left, right = endpoint("left", capacity=9), endpoint("right", capacity=9)
    left.serves, right.serves = frozenset({"x"}), frozenset({"x", "y"})
    right.address = Address("127.0.0.1", 2)
    queue = line(left, right)
    assert {(await queue.acquire(Want(model="y"))).name for _ in range(3)} == {"right"}
    only = frozenset({"127.0.0.1:1"})
    assert {(await queue.acquire(Want(model="x", only=only))).name for _ in range(3)} == {"left"}
    assert not queue.any_fit(Want(model="y", only=only))
    assert not queue.any_fit(Want(model="z"))


steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "leave", "release"]),
        st.sampled_from([CRITICAL, PLAIN, SHEDDABLE]),
        st.sampled_from("ab"),
    ),
    max_size=60,
)


@given(steps)
def test_nobody_less_important_is_served_before_one_who_waits(
    plan: list[tuple[str, int, str]],
) -> None:
    async def run() -> None:
        one = endpoint(capacity=2)
        queue = line(one, max_waiting=5)
        open_: dict[asyncio.Task[Endpoint], int] = {}
        held: list[asyncio.Task[Endpoint]] = []
        for step, priority, flow in plan:
            if step == "ask":
                task = asyncio.ensure_future(queue.acquire(Want(priority=priority, flow=flow)))
                open_[task] = priority
            elif step == "leave" and open_:
                next(iter(open_)).cancel()
            elif step == "release" and held:
                held.pop()
                queue.release(one)
            for _ in range(3):
                await asyncio.sleep(0)
            got = [t for t in open_ if t.done() and not t.cancelled() and not t.exception()]
            gone = [t for t in open_ if t.done() and t not in got]
            rest = [p for t, p in open_.items() if not t.done()]
            if step == "release" and got and rest:
                assert max(rest) <= min(open_[task] for task in got)
            held += got
            for task in [*got, *gone]:
                del open_[task]
            assert one.in_flight == len(held) <= one.capacity
            assert queue.waiting == len(open_) <= 5
            assert not (open_ and one.in_flight < one.capacity)
        for task in open_:
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)

    asyncio.run(run())
