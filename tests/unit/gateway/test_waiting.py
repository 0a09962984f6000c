from __future__ import annotations

import asyncio

import pytest

from inferno.core.errors import ModelLoadFailed
from inferno.gateway.lines import Line
from inferno.gateway.picking import DEFAULT, Picker, Want
from inferno.gateway.waiting import patient_place
from tests.unit.gateway.test_lines import endpoint


class News:
    """What is there to hear of, and how often somebody checked."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.checks = 0
        self.failure: ModelLoadFailed | None = None

    async def wait(self) -> None:
        await self.changed.wait()

    async def check(self) -> None:
        self.checks += 1
        if self.failure is not None:
            raise self.failure

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


@pytest.fixture
def line() -> Line:
    return Line("m", 10, Picker.parse(DEFAULT))


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_whoever_waits_hears_of_what_changes_and_keeps_its_turn(line: Line) -> None:
    news = News()
    waiting = [
        asyncio.ensure_future(patient_place(line, Want(), check=news.check, news=news.wait))
        for _ in range(3)
    ]
    await _settle()
    assert (line.waiting, news.checks) == (3, 3)
    news.tell()
    await _settle()
    assert (line.waiting, news.checks) == (3, 6)
    line.add(endpoint("a"))
    await _settle()
    assert [one.done() for one in waiting] == [True, False, False]
    line.release(await waiting[0])
    await _settle()
    assert waiting[1].done()
    for one in waiting[1:]:
        line.release(await one)


async def test_a_failure_ends_the_wait_at_once(line: Line) -> None:
    news = News()
    waiting = asyncio.ensure_future(patient_place(line, Want(), check=news.check, news=news.wait))
    await _settle()
    news.failure = ModelLoadFailed("m", reason="Corrupt", message="…")
    news.tell()
    with pytest.raises(ModelLoadFailed):
        await waiting
    assert line.waiting == 0


@pytest.mark.parametrize("handed_over", [False, True])
async def test_whoever_leaves_gives_its_place_back(line: Line, handed_over: bool) -> None:
    news = News()
    waiting = asyncio.ensure_future(patient_place(line, Want(), check=news.check, news=news.wait))
    await _settle()
    one = endpoint("a")
    if handed_over:
        line.add(one)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (line.waiting, one.in_flight) == (0, 0)


async def test_a_failing_check_gives_back_what_was_handed_over_meanwhile(line: Line) -> None:
    """The check awaits; in that time the place may come."""
    one = endpoint("a")

    async def check() -> None:
        line.add(one)
        await _settle()
        raise ModelLoadFailed("m", reason="Corrupt", message="…")

    with pytest.raises(ModelLoadFailed):
        await patient_place(line, Want(), check=check, news=News().wait)
    assert one.in_flight == 0
