"""The audit trail: who did what, to what, from where, and how it ended.

Events are chained: each holds the SHA-256 of the one before it and of itself, so that changing,
removing or inserting one shows (`verify`). Removing the newest ones shows too, as long as somebody
remembers the last hash; `verify` returns it for that purpose.

Two ways in: `append` returns once the event is on disk, for acts that must not happen unseen;
`note` returns at once and leaves writing to the trail's own task, for what the request path sees.
Nothing that a caller sent as content, and no secret, belongs into an event.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import InfernoError
from inferno.storage.database import Database
from inferno.storage.tables import audit_events as table

Outcome = Literal["success", "refused", "failed"]

GENESIS = "0" * 64
"""What the first event has for the hash before it."""

MAX_WAITING = 10_000
"""Noted events that may wait to be written; more are counted, not kept."""

FLUSH_EVERY = 0.2
RETRY_AFTER = 2.0
MAX_TEXT = 512

log = structlog.get_logger(__name__)


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event, as it is recorded.

    Args:
        action: what was done (`user.create`, `login`, `request`), a dotted lower-case word.
        outcome: how it ended.
        actor: who did it: a username, or empty for somebody unknown.
        actor_id: its id.
        tenant: whose it is.
        target: what it was done to (`user:alice`, `model:x`).
        address: from where.
        request_id: of the request, to find it in the log.
        reason: why it was refused or failed: an error's name.
        details: more facts; never content, never secrets.
        at: when, RFC 3339; filled where it is empty.
    """

    action: str
    outcome: Outcome
    actor: str = ""
    actor_id: str = ""
    tenant: str = ""
    target: str = ""
    address: str = ""
    request_id: str = ""
    reason: str = ""
    details: dict[str, Any] = {}
    at: str = ""


class RecordedEvent(AuditEvent, frozen=True, kw_only=True):
    """An event with its place in the chain."""

    seq: int
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events to show, newest first; empty fields match all.

    Args:
        actor: username or user id.
        action: exact, or a prefix that ends in a dot (`user.`).
        outcome: exact.
        failures_only: whatever did not succeed.
        since, until: RFC 3339 bounds, the first included and the second not.
        before: only events with a smaller `seq`, for paging.
        limit: at most so many.
    """

    actor: str = ""
    action: str = ""
    outcome: str = ""
    failures_only: bool = False
    since: str = ""
    until: str = ""
    before: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Verdict:
    """What checking the chain found.

    Args:
        events: how many were checked.
        last_hash: of the newest; keep it elsewhere to notice when the newest are removed.
        broken_at: `seq` of the first event that does not fit, or None.
    """

    events: int
    last_hash: str
    broken_at: int | None


def chain_hash(event: AuditEvent, *, seq: int, previous: str) -> str:
    """Return the hash of an event at its place in the chain.

    It covers the canonical JSON of all fields: sorted keys, UTF-8, no spaces.
    """
    fields = {name: getattr(event, name) for name in AuditEvent.__struct_fields__}
    content = msgspec.json.encode({**fields, "seq": seq, "previous": previous}, order="sorted")
    return hashlib.sha256(content).hexdigest()


class AuditTrail:
    """The trail in the database.

    Args:
        database: where it is kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[AuditEvent] = deque()
        self._dropped = 0
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()

    def note(self, event: AuditEvent) -> None:
        """Leave an event to be written soon; never waits.

        When too many wait, further ones are counted, and the count is recorded.
        """
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append(_stamped(event))
        self._wake.set()

    async def append(self, event: AuditEvent) -> None:
        """Write an event and return once it is on disk.

        Raises:
            Overloaded: the database does not answer.
        """
        await self._write([_stamped(event)])

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write noted events while the block runs, and those that are left at its end."""
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write_noted())
            try:
                yield
            finally:
                writer.cancel()
        await self.flush()

    async def flush(self) -> None:
        """Write what waits. Raises what the database raises; the events wait on."""
        async with self._flushing:
            while self._waiting or self._dropped:
                await self._flush_batch()

    async def _flush_batch(self) -> None:
        batch = [self._waiting[i] for i in range(min(500, len(self._waiting)))]
        dropped = self._dropped
        if dropped:
            details = {"events": dropped}
            lost = AuditEvent(action="audit.dropped", outcome="failed", details=details)
            batch.append(_stamped(lost))
        # Written first and forgotten after: a cancelled write must not lose its events.
        await self._write(batch)
        for _ in range(len(batch) - bool(dropped)):
            self._waiting.popleft()
        self._dropped -= dropped

    async def _write_noted(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(FLUSH_EVERY)
            try:
                await asyncio.shield(self.flush())
            except InfernoError as error:
                log.warning("audit_not_written", error=error.message, waiting=len(self._waiting))
                await asyncio.sleep(RETRY_AFTER)
                self._wake.set()

    async def _write(self, events: Sequence[AuditEvent]) -> None:
        async with self._database.transaction() as connection:
            seq, previous = await _last(connection)
            rows = []
            for event in events:
                seq += 1
                digest = chain_hash(event, seq=seq, previous=previous)
                rows.append(_row(event, seq=seq, previous=previous, digest=digest))
                previous = digest
            await connection.execute(sa.insert(table), rows)

    async def query(self, wanted: Filter) -> list[RecordedEvent]:
        """Return matching events, newest first."""
        query = sa.select(table).order_by(table.c.seq.desc()).limit(wanted.limit)
        async with self._database.read() as connection:
            rows = await connection.execute(query.where(*_conditions(wanted)))
            return [_event(row) for row in rows.mappings()]

    async def export(self, *, page: int = 1000) -> AsyncIterator[RecordedEvent]:
        """Yield all events, oldest first."""
        after = 0
        while True:
            query = sa.select(table).where(table.c.seq > after).order_by(table.c.seq).limit(page)
            async with self._database.read() as connection:
                rows = (await connection.execute(query)).mappings().all()
            for row in rows:
                yield _event(row)
            if len(rows) < page:
                return
            after = rows[-1]["seq"]

    async def verify(self) -> Verdict:
        """Check the whole chain."""
        count, seq, previous = 0, 0, GENESIS
        async for event in self.export():
            seq += 1
            right = chain_hash(event, seq=seq, previous=previous)
            if (event.seq, event.previous, event.hash) != (seq, previous, right):
                return Verdict(count, previous, event.seq)
            count, previous = count + 1, event.hash
        return Verdict(count, previous, None)


async def _last(connection: AsyncConnection) -> tuple[int, str]:
    """Return place and hash of the newest event, with the chain locked against other writers."""
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.text("LOCK TABLE audit_events IN EXCLUSIVE MODE"))
    query = sa.select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)
    row = (await connection.execute(query)).first()
    return (0, GENESIS) if row is None else (int(row[0]), str(row[1]))


def _stamped(event: AuditEvent) -> AuditEvent:
    """Return an event with its time, and with texts cut to what is kept of them."""
    now = _text_of(datetime.now(UTC))
    texts = {
        name: value[:MAX_TEXT].replace("\x00", "\N{REPLACEMENT CHARACTER}")
        for name in ("actor", "actor_id", "tenant", "target", "address", "request_id", "reason")
        if (value := getattr(event, name))
    }
    return msgspec.structs.replace(event, at=event.at or now, **texts)


def _row(event: AuditEvent, *, seq: int, previous: str, digest: str) -> dict[str, Any]:
    fields = {name: getattr(event, name) for name in AuditEvent.__struct_fields__}
    fields["details"] = msgspec.json.encode(event.details, order="sorted").decode()
    return {**fields, "seq": seq, "previous": previous, "hash": digest}


def _event(row: Any) -> RecordedEvent:
    fields = {name: row[name] for name in RecordedEvent.__struct_fields__}
    try:
        fields["details"] = msgspec.json.decode(row["details"], type=dict[str, Any])
    except msgspec.DecodeError:  # somebody changed it: shown as it is, and found by `verify`
        fields["details"] = {"unreadable": row["details"]}
    return RecordedEvent(**fields)


def moment(text: str) -> str:
    """Return a time as events have it, so that texts compare as times do.

    Raises:
        ValueError: it is no ISO 8601 date or time.
    """
    parsed = datetime.fromisoformat(text)
    parsed = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
    return _text_of(parsed.astimezone(UTC))


def _text_of(when: datetime) -> str:
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    columns = table.c
    found: list[sa.ColumnElement[bool]] = []
    if wanted.actor:
        found.append(sa.or_(columns.actor == wanted.actor, columns.actor_id == wanted.actor))
    if wanted.action.endswith("."):
        found.append(columns.action.startswith(wanted.action, autoescape=True))
    elif wanted.action:
        found.append(columns.action == wanted.action)
    if wanted.outcome:
        found.append(columns.outcome == wanted.outcome)
    if wanted.failures_only:
        found.append(columns.outcome != "success")
    if wanted.since:
        found.append(columns.at >= wanted.since)
    if wanted.until:
        found.append(columns.at < wanted.until)
    if wanted.before:
        found.append(columns.seq < wanted.before)
    return found
