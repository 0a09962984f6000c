from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.core.errors import InferenceFailed, ModelNotFound, Overloaded
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.lines import Line, LineTable
from inferno.gateway.picking import BACKGROUND, DEFAULT, Picker, Want
from inferno.gateway.upstream import Address


def endpoint(name: str = "a", capacity: int = 1, slots: int | None = None) -> Endpoint:
    return Endpoint(
        name=name,
        model="m",
        address=Address("127.0.0.1", 1),
        authorization=b"",
        capacity=capacity,
        slots=slots or capacity,
        context_size=10,
        capabilities=frozenset(),
    )


def line(max_waiting: int = 10) -> Line:
    return Line("m", max_waiting, Picker.parse(DEFAULT))


def behind(give_way: Callable[[], None]) -> Want:
    return Want(priority=BACKGROUND, give_way=give_way)


async def test_the_least_loaded_endpoint_is_picked() -> None:
    queue = line()
    queue.add(endpoint("a", capacity=4))
    queue.add(endpoint("b", capacity=4))
    taken = [await queue.acquire(Want()) for _ in range(4)]
    assert sorted(one.name for one in taken) == ["a", "a", "b", "b"]


async def test_requests_wait_in_order_for_a_place() -> None:
    queue = line()
    queue.add(endpoint())
    first = await queue.acquire(Want())
    order: list[int] = []

    async def wait(number: int) -> None:
        got = await queue.acquire(Want())
        order.append(number)
        queue.release(got)

    waiting = [asyncio.ensure_future(wait(n)) for n in range(5)]
    await asyncio.sleep(0)
    assert queue.waiting == 5
    queue.release(first)
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2, 3, 4]
    assert not queue.busy


async def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    queue = line()
    queue.add(endpoint())
    first = await queue.acquire(Want())
    waiting = asyncio.ensure_future(queue.acquire(Want()))
    await asyncio.sleep(0)
    queue.release(first)
    newcomer = asyncio.ensure_future(queue.acquire(Want()))
    assert await waiting is first
    await asyncio.sleep(0)
    assert not newcomer.done()
    queue.release(first)
    assert await newcomer is first


async def test_one_too_many_is_refused() -> None:
    queue = line(max_waiting=1)
    waiting = asyncio.ensure_future(queue.acquire(Want()))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="waiting for model 'm'"):
        await queue.acquire(Want())
    waiting.cancel()


async def test_who_leaves_the_line_takes_no_place_along() -> None:
    queue = line()
    one = endpoint()
    queue.add(one)
    await queue.acquire(Want())
    leaving = asyncio.ensure_future(queue.acquire(Want()))
    staying = asyncio.ensure_future(queue.acquire(Want()))
    await asyncio.sleep(0)
    # The place is handed over and its taker cancelled in the same instant.
    queue.release(one)
    leaving.cancel()
    assert await asyncio.wait_for(staying, 1) is one
    assert one.in_flight == 1


async def test_failure_reaches_all_that_wait_each_with_its_own_error() -> None:
    queue = line()
    waiting = [asyncio.ensure_future(queue.acquire(Want())) for _ in range(3)]
    await asyncio.sleep(0)
    queue.fail(lambda: InferenceFailed("no"))
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert len({id(error) for error in errors}) == 3
    assert all(isinstance(error, InferenceFailed) for error in errors)


async def test_a_suspect_is_passed_over_for_a_while() -> None:
    queue = line()
    suspect, other = endpoint("a", capacity=9), endpoint("b", capacity=9)
    queue.add(suspect)
    queue.add(other)
    queue.failed(suspect, surely=True)
    assert {(await queue.acquire(Want())).name for _ in range(3)} == {"b"}
    queue.remove("b")
    assert (await asyncio.wait_for(queue.acquire(Want()), 3)).name == "a"


async def test_a_dropped_model_refuses_those_who_wait() -> None:
    table = LineTable(max_waiting=5, picker=Picker.parse(DEFAULT))
    waiting = asyncio.ensure_future(table.line("m").acquire(Want()))
    await asyncio.sleep(0)
    table.drop("m", lambda: ModelNotFound("m", []))
    with pytest.raises(ModelNotFound):
        await waiting


@given(st.lists(st.sampled_from(["ask", "leave", "release", "add", "remove"]), max_size=60))
def test_places_are_neither_lost_nor_doubled(steps: list[str]) -> None:
    async def run() -> None:
        queue = line(max_waiting=1000)
        everything: list[Endpoint] = []
        asked: list[asyncio.Future[Endpoint]] = []
        for number, step in enumerate(steps):
            if step == "ask":
                asked.append(asyncio.ensure_future(queue.acquire(Want())))
            elif step == "leave" and (open_ := [a for a in asked if not a.done()]):
                open_[0].cancel()
            elif step == "release" and (held := [a for a in asked if _holds(a)]):
                asked.remove(held[0])
                queue.release(held[0].result())
            elif step == "add":
                everything.append(endpoint(str(number), capacity=2))
                queue.add(everything[-1])
            elif step == "remove" and queue.endpoints:
                queue.remove(next(iter(queue.endpoints)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            held_now = [a.result() for a in asked if _holds(a)]
            for one in everything:
                assert one.in_flight == held_now.count(one)
                assert one.in_flight <= one.capacity
            free = any(one.in_flight < one.capacity for one in queue.endpoints.values())
            assert not (free and queue.waiting)
        for future in asked:
            future.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(run())


def _holds(future: asyncio.Future[Endpoint]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def nobody() -> None:
    raise AssertionError("nothing had to give way")


async def test_background_work_takes_only_slots_that_would_idle() -> None:
    queue = line()
    queue.add(endpoint(capacity=4, slots=2))
    await queue.acquire(behind(nobody))
    one = await queue.acquire(Want())
    waiting = asyncio.ensure_future(queue.acquire(behind(nobody)))
    await asyncio.sleep(0)
    assert (queue.background_waiting, queue.waiting) == (1, 0)
    queue.release(one)
    assert await asyncio.wait_for(waiting, 1) is one


async def test_the_youngest_background_work_gives_way_to_a_request() -> None:
    queue = line()
    queue.add(endpoint(capacity=4, slots=2))
    asked: list[str] = []
    ways = [functools.partial(asked.append, name) for name in ("old", "young")]
    one, _ = [await queue.acquire(behind(way)) for way in ways]
    assert asked == []
    await queue.acquire(Want())
    assert asked == ["young"]
    queue.release(one, ways[1])
    await queue.acquire(Want())
    assert asked == ["young", "old"]
    queue.release(one, ways[0])
    assert (one.in_flight, one.background) == (2, [])


async def test_requests_go_before_background_work_that_waited_longer() -> None:
    queue = line()
    queue.add(endpoint())
    one = await queue.acquire(Want())
    later = asyncio.ensure_future(queue.acquire(behind(nobody)))
    await asyncio.sleep(0)
    request = asyncio.ensure_future(queue.acquire(Want()))
    await asyncio.sleep(0)
    queue.release(one)
    assert await asyncio.wait_for(request, 1) is one
    assert not later.done()
    queue.release(one)
    assert await asyncio.wait_for(later, 1) is one


async def test_background_work_that_leaves_takes_no_place_along() -> None:
    queue = line()
    one = endpoint()
    queue.add(one)
    await queue.acquire(Want())
    leaving, staying = (asyncio.ensure_future(queue.acquire(behind(nobody))) for _ in range(2))
    await asyncio.sleep(0)
    queue.release(one)
    leaving.cancel()
    assert await asyncio.wait_for(staying, 1) is one
    assert (one.in_flight, len(one.background)) == (1, 1)


def adapted(name: str = "a", capacity: int = 4) -> Endpoint:
    found = endpoint(name, capacity)
    found.adapters = {"poet": 0, "lawyer": 1}
    return found


async def test_adapters_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What wants another adapter waits until the replica is done with the one that has its turn."""
    queue, one = line(), adapted()
    queue.add(one)
    poets = [await queue.acquire(Want(model="poet")) for _ in range(2)]
    lawyers = [asyncio.ensure_future(queue.acquire(Want(model="lawyer"))) for _ in range(2)]
    base = asyncio.ensure_future(queue.acquire(Want(model="base")))
    await asyncio.sleep(0)
    poets.append(await queue.acquire(Want(model="poet")))  # its turn is not over
    monkeypatch.setattr(one, "turn_ends", 0.0)
    late = asyncio.ensure_future(queue.acquire(Want(model="poet")))
    await asyncio.sleep(0)
    for each in poets:
        assert not any(waits.done() for waits in (*lawyers, base, late))
        queue.release(each)
        await asyncio.sleep(0)
    assert [waits.done() for waits in lawyers] == [True, True]
    assert (one.adapter, one.in_flight) == ("lawyer", 2)
    assert not base.done()
    for turn in (lawyers, [base], [late]):
        for waited in turn:
            queue.release(await waited)
    assert (queue.waiting, one.in_flight) == (0, 0)


async def test_nobody_waits_for_a_turn_where_another_replica_has_none() -> None:
    queue = line()
    for name in ("a", "b"):
        queue.add(adapted(name))
    taken = [await queue.acquire(Want(model=name)) for name in ("poet", "lawyer") * 3]
    assert {(each.name, each.adapter) for each in taken} == {
        (taken[0].name, "poet"),
        (taken[1].name, "lawyer"),
    }
    assert len({each.name for each in taken}) == 2


async def test_background_work_with_another_adapter_gives_way() -> None:
    queue, one = line(), adapted()
    queue.add(one)
    asked: list[int] = []
    work = [behind(functools.partial(asked.append, number)) for number in range(2)]
    for each in work:
        each.model = "poet"
        await queue.acquire(each)
    lawyer = asyncio.ensure_future(queue.acquire(Want(model="lawyer")))
    await asyncio.sleep(0)
    assert sorted(asked) == [0, 1]
    for each in work:
        queue.release(one, each.give_way)
    await asyncio.sleep(0)
    assert lawyer.done()
    behind_it = asyncio.ensure_future(queue.acquire(work[0]))
    await asyncio.sleep(0)
    assert not behind_it.done()
    assert not one.others_wait, "work that nobody waits for ends nobody's turn"
    queue.release(await lawyer)
    queue.release(await behind_it, work[0].give_way)
