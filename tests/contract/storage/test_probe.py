"""The probe says what is true of the database, however that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import event

from inferno.storage.database import Database
from inferno.storage.probe import DatabaseProbe
from tests.postgres_server import PostgresServer

SECONDS = 60.0


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of the test's own, for it is stopped and frozen."""
    with PostgresServer() as server:
        yield server


@asynccontextmanager
async def probing(url: str) -> AsyncIterator[DatabaseProbe]:
    database = await Database.open(url)
    probe = DatabaseProbe(database)
    try:
        yield probe
    finally:
        await probe.close()
        await database.close()


async def until(probe: DatabaseProbe, wanted: bool) -> None:
    async with asyncio.timeout(SECONDS):
        while await probe.answers() is not wanted:  # noqa: ASYNC110 - it is asked
            await asyncio.sleep(0.05)


async def test_a_server_that_is_stopped(server: PostgresServer) -> None:
    async with probing(server.url) as probe:
        assert await probe.answers()
        server.stop()
        await until(probe, False)
        server.start()
        await until(probe, True)


async def test_a_server_that_hangs(server: PostgresServer) -> None:
    """Nobody waits for as long as the driver does, also not at the end."""
    async with probing(server.url) as probe:
        assert await probe.answers()
        server.freeze()
        try:
            await until(probe, False)
            assert not await probe.answers()
        finally:
            server.thaw()
        await until(probe, True)


async def test_callers_share_one_question(database: Database) -> None:
    probe = DatabaseProbe(database)
    asked = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(database._reader.sync_engine, "before_cursor_execute", note)
    answers = await asyncio.gather(*(probe.answers() for _ in range(100)))
    await probe.close()
    assert all(answers)
    assert len([one for one in asked if one.startswith("SELECT 1")]) == 1


async def test_a_caller_that_leaves_does_not_take_the_question_along(
    server: PostgresServer,
) -> None:
    async with probing(server.url) as probe:
        server.freeze()
        try:
            waiting = asyncio.ensure_future(probe.answers())
            await asyncio.sleep(0.1)
            waiting.cancel()
            assert not await probe.answers()
        finally:
            server.thaw()
        await until(probe, True)
