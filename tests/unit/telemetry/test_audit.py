"""The trail itself: what it keeps, what it drops, and what it finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from inferno.core.errors import InfernoError
from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from inferno.storage.tables import audit_events
from inferno.telemetry import audit
from inferno.telemetry.audit import (
    GENESIS,
    MAX_TEXT,
    MAX_WAITING,
    AuditEvent,
    AuditTrail,
    Filter,
    chain_hash,
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'audit.db'}")
    store = await SqlResourceStore.open(database)
    yield database
    await store.close()
    await database.close()


@pytest.fixture
def trail(database: Database) -> AuditTrail:
    return AuditTrail(database)


def event(number: int = 0, **fields: Any) -> AuditEvent:
    return AuditEvent(action="test", outcome="success", target=f"thing:{number}", **fields)


async def test_an_empty_trail_is_intact(trail: AuditTrail) -> None:
    verdict = await trail.verify()
    assert (verdict.events, verdict.last_hash, verdict.broken_at) == (0, GENESIS, None)


async def test_events_are_chained_in_order(trail: AuditTrail) -> None:
    for number in range(5):
        trail.note(event(number))
    await trail.append(event(5))
    await trail.flush()
    recorded = list(reversed(await trail.query(Filter())))
    assert [one.seq for one in recorded] == [1, 2, 3, 4, 5, 6]
    previous = GENESIS
    for one in recorded:
        assert one.previous == previous
        assert one.hash == chain_hash(one, seq=one.seq, previous=previous)
        previous = one.hash
    verdict = await trail.verify()
    assert (verdict.events, verdict.last_hash) == (6, previous)


async def test_writers_at_once_make_one_chain(database: Database) -> None:
    trails = [AuditTrail(database) for _ in range(4)]
    await asyncio.gather(*(trail.append(event(i)) for i in range(20) for trail in trails))
    verdict = await trails[0].verify()
    assert (verdict.events, verdict.broken_at) == (80, None)


async def test_what_is_too_much_is_counted(trail: AuditTrail) -> None:
    for number in range(MAX_WAITING + 7):
        trail.note(event(number))
    await trail.flush()
    await trail.flush()
    (lost,) = await trail.query(Filter(action="audit.dropped"))
    assert lost.outcome == "failed"
    assert lost.details == {"events": 7}
    verdict = await trail.verify()
    assert (verdict.events, verdict.broken_at) == (MAX_WAITING + 1, None)
    trail.note(event())
    await trail.flush()
    assert len(await trail.query(Filter(limit=1000_000))) == MAX_WAITING + 2


async def test_events_wait_while_the_database_is_away(
    trail: AuditTrail, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "FLUSH_EVERY", 0.01)
    monkeypatch.setattr(audit, "RETRY_AFTER", 0.01)
    async with database.transaction() as connection:
        await connection.execute(sa.text("ALTER TABLE audit_events RENAME TO hidden"))
    with pytest.raises(InfernoError):
        await trail.append(event())
    trail.note(event(1))
    with pytest.raises(InfernoError):
        await trail.flush()
    async with database.transaction() as connection:
        await connection.execute(sa.text("ALTER TABLE hidden RENAME TO audit_events"))
    async with trail.writing():
        trail.note(event(2))
    assert [one.target for one in await trail.query(Filter())] == ["thing:2", "thing:1"]


async def test_a_flush_that_is_cancelled_loses_nothing(trail: AuditTrail) -> None:
    for number in range(2000):
        trail.note(event(number))
    task = asyncio.create_task(trail.flush())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await trail.flush()
    recorded = {one.target for one in await trail.query(Filter(limit=10_000))}
    assert recorded == {f"thing:{number}" for number in range(2000)}
    assert (await trail.verify()).broken_at is None


async def test_texts_are_cut_and_cleaned(trail: AuditTrail) -> None:
    await trail.append(event(actor="a" * 10_000, reason="nul\0nul"))
    (recorded,) = await trail.query(Filter())
    assert recorded.actor == "a" * MAX_TEXT
    assert recorded.reason == "nul\N{REPLACEMENT CHARACTER}nul"
    assert (await trail.verify()).broken_at is None


@pytest.mark.parametrize("column", sorted(audit_events.columns.keys()))
async def test_no_field_can_be_changed_unseen(
    trail: AuditTrail, database: Database, column: str
) -> None:
    for number in range(5):
        await trail.append(event(number))
    changed = {"seq": 300, "details": '{"a":1}'}.get(column, "x")
    async with database.transaction() as connection:
        written = sa.update(audit_events).where(audit_events.c.seq == 3)
        await connection.execute(written.values({column: changed}))
    assert (await trail.verify()).broken_at == (4 if column == "seq" else 3)
