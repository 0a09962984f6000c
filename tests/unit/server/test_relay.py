import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from inferno.core.errors import InferenceFailed, InvalidRequest
from inferno.server.relay import all_of, first_error, interleaved

Emit = Callable[[str], Awaitable[None]]


async def value(result: int, *, after: asyncio.Event | None = None) -> int:
    if after is not None:
        await after.wait()
    return result


async def test_results_come_in_order_whoever_is_first() -> None:
    late = asyncio.Event()

    async def second() -> int:
        late.set()
        return 2

    assert await all_of([value(1, after=late), second()]) == [1, 2]


async def test_one_piece_of_work_is_done_in_the_same_task() -> None:
    async def task() -> asyncio.Task[Any] | None:
        return asyncio.current_task()

    assert await all_of([task()]) == [asyncio.current_task()]


async def test_the_first_error_is_raised_alone_and_cancels_the_rest() -> None:
    cancelled = asyncio.Event()

    async def waits() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return 0

    async def fails() -> int:
        await asyncio.sleep(0)
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest, match="no"):
        await all_of([waits(), fails()])
    assert cancelled.is_set()


async def test_cancelling_the_whole_cancels_every_part() -> None:
    ended = list[int]()

    def part(number: int) -> Coroutine[Any, Any, int]:
        async def wait() -> int:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(number)
            return 0

        return wait()

    task = asyncio.create_task(all_of([part(1), part(2)]))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [1, 2]


def test_an_error_is_found_in_groups_of_groups() -> None:
    error = InvalidRequest("x")
    group = BaseExceptionGroup("a", [BaseExceptionGroup("b", [error]), ValueError("y")])
    assert first_error(group) is error


def source(name: str, count: int) -> Callable[[Emit], Coroutine[Any, Any, None]]:
    async def produce(emit: Emit) -> None:
        for i in range(count):
            await emit(f"{name}{i}")

    return produce


async def test_all_pieces_arrive_each_source_in_its_order() -> None:
    got = list[str]()

    async def consume(piece: str) -> None:
        got.append(piece)

    await interleaved([source("a", 5), source("b", 3), source("c", 0)], consume)
    assert [piece for piece in got if piece[0] == "a"] == [f"a{i}" for i in range(5)]
    assert [piece for piece in got if piece[0] == "b"] == [f"b{i}" for i in range(3)]
    assert len(got) == 8


async def test_a_slow_consumer_holds_the_sources_up() -> None:
    made, taken = list[int](), list[int]()
    most = 0

    async def produce(emit: Callable[[int], Awaitable[None]]) -> None:
        for i in range(50):
            made.append(i)
            await emit(i)

    async def consume(piece: int) -> None:
        nonlocal most
        taken.append(piece)
        await asyncio.sleep(0)
        most = max(most, len(made) - len(taken))

    await interleaved([produce, produce], consume)
    assert len(taken) == 100
    assert most <= 4


async def test_an_error_of_a_source_ends_the_others() -> None:
    cancelled = asyncio.Event()

    async def fails(emit: Emit) -> None:
        await emit("x")
        raise InferenceFailed("gone")

    async def waits(emit: Emit) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    got = list[str]()

    async def consume(piece: str) -> None:
        got.append(piece)

    with pytest.raises(InferenceFailed, match="gone"):
        await interleaved([fails, waits], consume)
    assert cancelled.is_set()


async def test_an_error_of_the_consumer_ends_the_sources() -> None:
    async def consume(piece: str) -> None:
        raise InvalidRequest(piece)

    with pytest.raises(InvalidRequest):
        await interleaved([source("a", 9), source("b", 9)], consume)
