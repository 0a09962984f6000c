"""The outbox: events become deliveries, one for each address that wants to be told.

`add` writes them in the caller's own transaction, so that an event is told exactly where what it
tells of has been committed. `publish` is for the request path: it waits for nothing, and its events
are written by the outbox's own task a moment later; what a process that dies had not written yet
is lost.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import InfernoError
from inferno.core.events import Event
from inferno.core.tenancy import DEFAULT_TENANT
from inferno.storage.database import Database
from inferno.storage.tables import webhook_deliveries as table
from inferno.webhooks import moments
from inferno.webhooks.guard import Guard
from inferno.webhooks.interest import Interest, Interested, interested
from inferno.webhooks.sealing import SecretSealer
from inferno.webhooks.signing import check_secret, payload_of

MAX_WAITING = 10_000
"""Published events that may wait to be written; more are counted, not kept."""

MAX_QUEUED = 10_000
"""Deliveries that may wait for one subscription before published events pass it by."""

BATCH = 500
FLUSH_EVERY = 0.2
LOOK_EVERY = 2.0
RETRY_AFTER = 2.0

log = structlog.get_logger(__name__)

Moment = tuple[Event, datetime]


class Outbox:
    """Takes events in.

    Args:
        database: where deliveries are kept.
        guard: says where deliveries may go; whoever takes an address in asks it with `check_url`.
        sealer: encrypts secrets that come with an address.
        interest: who wants what.
    """

    def __init__(
        self, database: Database, guard: Guard, sealer: SecretSealer, interest: Interest
    ) -> None:
        self.guard = guard
        self.due = asyncio.Event()
        """Set where there may be something to deliver; the deliverer clears it."""
        self.dropped = 0
        """Published events that were not kept, since the start."""
        self._database = database
        self._sealer = sealer
        self.interest = interest
        self._waiting: deque[Moment] = deque()
        self._unreported = 0
        self._published = asyncio.Event()
        self._flushing = asyncio.Lock()

    async def add(
        self,
        connection: AsyncConnection,
        event: Event,
        *,
        url: str | None = None,
        secret: str | None = None,
    ) -> None:
        """Write an event's deliveries in the caller's transaction; call `wake` once it commits.

        Args:
            connection: of the transaction.
            event: what has happened; with no tenant it is told to all that may see models.
            url: told as well, whoever subscribed to what.
            secret: signs what goes to `url`; the tenant's own secret where not given.
        """
        at = moments.now()
        wanting = await interested(connection, event.tenant, keep=True)
        rows = _rows(event, at, wanting)
        if url is not None:
            rows.append(self._direct(event, at, url, secret))
        if rows:
            await connection.execute(sa.insert(table), rows)

    def _direct(self, event: Event, at: datetime, url: str, secret: str | None) -> dict[str, Any]:
        row = row_of(event, at, tenant=event.tenant or DEFAULT_TENANT)
        if secret is not None:
            check_secret(secret, field="webhook_secret")
            row["secret"] = self._sealer.seal(secret, row["id"])
        return {**row, "url": url, "endpoint": endpoint_of(row["tenant"], url)}

    def wake(self) -> None:
        """Tell the deliverer that something was added."""
        self.due.set()

    def publish(self, event: Event) -> None:
        """Leave an event to be written soon; never waits, and asks nobody who is not here.

        When too many wait, further ones are counted, and the count is logged.
        """
        if not self.interest.has(event.tenant, event.name):
            return
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            self._unreported += 1
            return
        self._waiting.append((event, moments.now()))
        self._published.set()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write published events while the block runs, and those that are left at its end."""
        await self.interest.look()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._write()), tasks.create_task(self._look())]
            try:
                yield
            finally:
                for task in running:
                    task.cancel()
        await self.flush()

    async def flush(self) -> None:
        """Write what was published. Raises what the database raises; the events wait on."""
        async with self._flushing:
            while self._waiting:
                batch = [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]
                # Written first and forgotten after: a cancelled write must not lose its events.
                await self._write_batch(batch)
                for _ in batch:
                    self._waiting.popleft()
        if self._unreported:
            log.warning("webhook_events_dropped", events=self._unreported, waiting=MAX_WAITING)
            self._unreported = 0

    async def _write_batch(self, batch: Sequence[Moment]) -> None:
        async with self._database.transaction() as connection:
            wanting = await interested(connection, None, keep=True)
            full = await _full(connection)
            open_ = [one for one in wanting if one.id not in full]
            rows = [row for event, at in batch for row in _rows(event, at, open_)]
            if rows:
                await connection.execute(sa.insert(table), rows)
        self._report_full(batch, wanting, full)
        if rows:
            self.wake()

    def _report_full(
        self, batch: Sequence[Moment], wanting: Sequence[Interested], full: Collection[str]
    ) -> None:
        missed = [one for one in wanting if one.id in full]
        lost = sum(_concerns(event, one) for event, _ in batch for one in missed)
        if lost:
            self.dropped += lost
            log.warning("webhook_queue_full", webhooks=sorted(full)[:20], events=lost)

    async def _write(self) -> None:
        while True:
            await self._published.wait()
            self._published.clear()
            await asyncio.sleep(FLUSH_EVERY)
            try:
                await asyncio.shield(self.flush())
            except InfernoError as error:
                log.warning("webhook_events_not_written", error=error.message)
                await asyncio.sleep(RETRY_AFTER)
                self._published.set()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.interest.look()
            except InfernoError as error:
                log.warning("webhooks_not_read", error=error.message)


def _concerns(event: Event, one: Interested) -> bool:
    return event.name in one.events and event.tenant in (None, one.tenant)


def _rows(event: Event, at: datetime, wanting: Sequence[Interested]) -> list[dict[str, Any]]:
    """Return the rows of an event's deliveries to subscriptions."""
    return [
        row_of(event, at, tenant=one.tenant) | {"webhook_id": one.id, "endpoint": one.id}
        for one in wanting
        if _concerns(event, one)
    ]


def row_of(event: Event, at: datetime, *, tenant: str) -> dict[str, Any]:
    """Return the row of a new delivery, its address still missing."""
    return {
        "id": moments.delivery_id(at),
        "webhook_id": None,
        "tenant": tenant,
        "url": None,
        "secret": None,
        "endpoint": "",
        "event": event.name.value,
        "payload": payload_of(event.name, at, event.data),
        "status": "pending",
        "attempts": 0,
        "waited": 0,
        "due_at": moments.text_of(at),
        "last_error": "",
        "created_at": moments.text_of(at),
    }


def endpoint_of(tenant: str, url: str) -> str:
    """Return what is down when an address that nobody subscribed does not answer.

    Each tenant has its own: one that lets deliveries pile up must not hold up another's.
    """
    scheme, _, rest = url.partition("://")
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{host} {tenant}"[:320]


async def _full(connection: AsyncConnection) -> set[str]:
    """Return the subscriptions for which too much waits already."""
    query = (
        sa.select(table.c.webhook_id)
        .where(table.c.status == "pending", table.c.webhook_id.is_not(None))
        .group_by(table.c.webhook_id)
        .having(sa.func.count() >= MAX_QUEUED)
    )
    return set((await connection.execute(query)).scalars())
