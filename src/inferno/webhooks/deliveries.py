"""Deliveries in the database: looked at and sent again by callers, worked on by the deliverer.

A delivery is `pending` until it is `delivered` or `parked`. The deliverer takes some by moving
their time into the future: if it dies, they are due again then, and go out a second time under the
same id, which is what "at least once" means.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import Conflict, NotFound
from inferno.core.events import Event
from inferno.storage.database import Database
from inferno.storage.tables import webhook_attempts as attempts
from inferno.storage.tables import webhook_deliveries as table
from inferno.storage.tables import webhooks
from inferno.webhooks import moments
from inferno.webhooks.interest import raise_version
from inferno.webhooks.outbox import row_of
from inferno.webhooks.places import PER_ENDPOINT, Places
from inferno.webhooks.schedule import LONGEST_STEP
from inferno.webhooks.subscriptions import storable
from inferno.webhooks.types import Attempt, Delivery, DeliveryDetails

KEPT_DELIVERED = timedelta(days=7)
KEPT_AT_ALL = timedelta(days=30)
"""Then even what is parked is removed."""

MAX_SHOWN_ATTEMPTS = 200


_QUEUE = table.outerjoin(webhooks, webhooks.c.id == table.c.webhook_id)

_MAY_GO = sa.or_(table.c.webhook_id.is_(None), webhooks.c.enabled.is_(True))
"""Whether a delivery's subscription lets it go; of deliveries joined with subscriptions."""


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that was taken to be sent.

    Args:
        id: its id.
        endpoint: what it is counted under.
        tenant: whose it is.
        webhook_id: of its subscription, if it has one.
        url: where it goes.
        payload: the body without its signature.
        secret: encrypted; None for the tenant's own.
        secret_of: the id that the secret was encrypted for.
        previous_secret: encrypted, where one was just replaced.
        attempts: how many there have been.
        waited: seconds of planned waits so far.
    """

    id: str
    endpoint: str
    tenant: str
    webhook_id: str | None
    url: str
    payload: str
    secret: str | None
    secret_of: str
    previous_secret: str | None
    attempts: int
    waited: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an attempt.

    Args:
        due: what was tried.
        attempt: how it went; None where it was not finished and does not count.
        status: of the delivery from now on.
        wait: seconds until the next attempt, of one that is pending.
        gone: whether the receiver said that it wants no more (410).
    """

    due: Due
    attempt: Attempt | None
    status: str
    wait: float = 0.0
    gone: bool = False


class Deliveries:
    """The deliveries.

    Args:
        database: where they are.
        claim: names this process in what it has taken.
    """

    def __init__(self, database: Database, *, claim: str) -> None:
        self._database = database
        self._claim = claim

    async def page(
        self,
        tenant: str,
        *,
        webhook_id: str | None = None,
        status: str | None = None,
        before: str | None = None,
        limit: int,
    ) -> list[Delivery]:
        """Return deliveries of a tenant, newest first.

        Args:
            tenant: whose.
            webhook_id: of one subscription only.
            status: with this status only.
            before: only those that are older than the one with this id.
            limit: at most so many.
        """
        query = _shown().where(table.c.tenant == tenant).order_by(table.c.id.desc()).limit(limit)
        if webhook_id is not None:
            query = query.where(table.c.webhook_id == storable(webhook_id))
        if status is not None:
            query = query.where(table.c.status == status)
        if before is not None:
            query = query.where(table.c.id < storable(before))
        async with self._database.read() as connection:
            return [_delivery(row) for row in (await connection.execute(query)).mappings()]

    async def get(self, id_: str, tenant: str) -> DeliveryDetails:
        """Return a delivery with its attempts. Raises NotFound."""
        log = (
            sa.select(attempts)
            .where(attempts.c.delivery_id == storable(id_))
            .order_by(attempts.c.number.desc())
            .limit(MAX_SHOWN_ATTEMPTS)
        )
        async with self._database.read() as connection:
            row = await _find(connection, id_, tenant)
            tried = (await connection.execute(log)).mappings().all()
        names = Attempt.__struct_fields__
        return DeliveryDetails(
            **msgspec.structs.asdict(_delivery(row)),
            payload=msgspec.json.decode(row["payload"]),
            attempt_log=[Attempt(**{name: one[name] for name in names}) for one in reversed(tried)],
        )

    async def resend(self, id_: str, tenant: str) -> Delivery:
        """Send a delivery again, now, under the same id; its day of trying begins anew.

        Raises:
            NotFound: there is no such delivery.
            Conflict: its subscription is disabled, so nothing would be sent.
        """
        async with self._database.transaction() as connection:
            row = await _find(connection, id_, tenant)
            if row["enabled"] is not None and not row["enabled"]:
                raise Conflict("The webhook is disabled; enable it first.")
            values = {
                "status": "pending",
                "waited": 0,
                "due_at": moments.later(0),
                "claim": None,
                "finished_at": None,
            }
            await connection.execute(sa.update(table).where(table.c.id == row["id"]).values(values))
            return _delivery(await _find(connection, id_, tenant))

    async def add_for(self, webhook_id: str, event: Event, tenant: str) -> Delivery:
        """Write a delivery to one subscription, whatever it subscribed to. Raises NotFound."""
        row = row_of(event, moments.now(), tenant=tenant)
        row |= {"webhook_id": webhook_id, "endpoint": webhook_id}
        async with self._database.transaction() as connection:
            query = sa.select(webhooks.c.enabled).where(
                webhooks.c.id == storable(webhook_id), webhooks.c.tenant == tenant
            )
            enabled = await connection.scalar(query)
            if enabled is None:
                raise NotFound("There is no such webhook.")
            if not enabled:
                raise Conflict("The webhook is disabled; enable it first.")
            await connection.execute(sa.insert(table).values(row))
            return _delivery(await _find(connection, row["id"], tenant))

    async def counts(self) -> Mapping[str, int]:
        """Return how many deliveries there are with each status."""
        query = sa.select(table.c.status, sa.func.count()).group_by(table.c.status)
        async with self._database.read() as connection:
            return dict((await connection.execute(query)).all())

    async def seconds_until_due(self) -> float | None:
        """Return how long it is until a delivery is due; 0 where one is, None where none waits."""
        waiting = (table.c.status == "pending", _MAY_GO)
        due = sa.select(table.c.id).select_from(_QUEUE).where(_is_due(), _MAY_GO).limit(1)
        earliest = sa.select(sa.func.min(table.c.due_at)).select_from(_QUEUE).where(*waiting)
        async with self._database.read() as connection:
            if await connection.scalar(due) is not None:
                return 0
            first = await connection.scalar(earliest)
        if first is None:
            return None
        return max(0.0, (datetime.fromisoformat(first) - moments.now()).total_seconds())

    async def turn(
        self, finished: Sequence[Verdict], places: Places, *, most: int, lease: float
    ) -> list[Due]:
        """Write down what came of attempts, and take deliveries that are due.

        Args:
            finished: the attempts.
            places: says for whom there is room.
            most: take at most so many.
            lease: seconds after which they are due again, should this process die.
        """
        async with self._database.transaction() as connection:
            for verdict in finished:
                await self._write_down(connection, verdict)
            if most <= 0:
                return []
            query = _candidates(places.busy_endpoints(), places.busy_tenants()).limit(most)
            rows = (await connection.execute(query)).all()
            ids = places.chosen((row.id, row.endpoint, row.tenant) for row in rows)
            return await self._take(connection, ids, lease) if ids else []

    async def _take(
        self, connection: AsyncConnection, ids: Sequence[str], lease: float
    ) -> list[Due]:
        taking = (
            sa.update(table)
            # Asked again: another process may have been quicker.
            .where(table.c.id.in_(ids), _is_due())
            .values(claim=self._claim, due_at=moments.later(lease))
            .returning(table.c.id)
        )
        taken = (await connection.execute(taking)).scalars().all()
        query = sa.select(
            table,
            webhooks.c.url.label("webhook_url"),
            webhooks.c.secret.label("webhook_secret"),
            webhooks.c.previous_secret,
            webhooks.c.previous_until,
        )
        rows = await connection.execute(query.select_from(_QUEUE).where(table.c.id.in_(taken)))
        return [_due(row) for row in rows.mappings()]

    async def _write_down(self, connection: AsyncConnection, verdict: Verdict) -> None:
        due, attempt = verdict.due, verdict.attempt
        values: dict[str, Any] = {"status": verdict.status, "claim": None}
        if verdict.status == "pending":
            values["due_at"] = moments.later(verdict.wait)
            values["waited"] = due.waited + round(verdict.wait)
        else:
            values |= {"due_at": None, "finished_at": moments.later(0)}
        if attempt is not None:
            values |= {
                "attempts": attempt.number,
                "last_status_code": attempt.status_code,
                "last_error": attempt.error,
            }
        held = (table.c.id == due.id, table.c.claim == self._claim)
        written = await connection.execute(sa.update(table).where(*held).values(values))
        if written.rowcount == 0:  # removed, sent again by hand, or taken by another process
            return
        if attempt is not None:
            row = {"delivery_id": due.id, **msgspec.structs.asdict(attempt)}
            await connection.execute(sa.insert(attempts).values(row))
        if verdict.gone and due.webhook_id is not None:
            await _disable(connection, due.webhook_id)

    async def release_all(self) -> None:
        """Make what any process has taken due at once; for when there is no other process."""
        held = (table.c.status == "pending", table.c.claim.is_not(None))
        async with self._database.transaction() as connection:
            if connection.dialect.name == "sqlite":
                values = {"claim": None, "due_at": moments.later(0)}
                await connection.execute(sa.update(table).where(*held).values(values))

    async def prune(self) -> int:
        """Remove deliveries that were kept long enough; returns how many."""
        now = moments.now()
        old = sa.or_(
            sa.and_(
                table.c.status == "delivered",
                table.c.created_at < moments.text_of(now - KEPT_DELIVERED),
            ),
            table.c.created_at < moments.text_of(now - KEPT_AT_ALL),
        )
        ids = sa.select(table.c.id).where(old, table.c.claim.is_(None)).limit(5000)
        async with self._database.transaction() as connection:
            removed = await connection.execute(sa.delete(table).where(table.c.id.in_(ids)))
            return int(removed.rowcount)


def _is_due() -> sa.ColumnElement[bool]:
    """Whether a delivery's time has come, or can only have been dated by a clock that was wrong."""
    return sa.and_(
        table.c.status == "pending",
        sa.or_(table.c.due_at <= moments.later(0), table.c.due_at > moments.later(LONGEST_STEP)),
    )


def _candidates(busy_endpoints: Collection[str], busy_tenants: Collection[str]) -> sa.Select[Any]:
    """Return the query for what is due: one of each tenant, then a second one of each, and so on.

    Of an endpoint no more than may run at once are asked for, however many wait.
    """
    place = sa.func.row_number().over(
        partition_by=table.c.endpoint, order_by=(table.c.due_at, table.c.id)
    )
    columns = (table.c.id, table.c.endpoint, table.c.tenant, table.c.due_at)
    ranked = (
        sa.select(*columns, place.label("place"))
        .select_from(_QUEUE)
        .where(
            _is_due(),
            _MAY_GO,
            table.c.endpoint.not_in(busy_endpoints),
            table.c.tenant.not_in(busy_tenants),
        )
        .subquery()
    )
    by_time = (ranked.c.due_at, ranked.c.id)
    turn = sa.func.row_number().over(partition_by=ranked.c.tenant, order_by=by_time)
    return (
        sa.select(ranked.c.id, ranked.c.endpoint, ranked.c.tenant)
        .where(ranked.c.place <= PER_ENDPOINT)
        .order_by(turn, *by_time)
    )


async def _disable(connection: AsyncConnection, webhook_id: str) -> None:
    """Tell a subscription no more, and park what waits for it."""
    await raise_version(connection)
    values = {"enabled": False, "disabled_reason": "The receiver answered 410 Gone."}
    await connection.execute(sa.update(webhooks).where(webhooks.c.id == webhook_id).values(values))
    waiting = (table.c.webhook_id == webhook_id, table.c.status == "pending")
    parked = {
        "status": "parked",
        "due_at": None,
        "claim": None,
        "finished_at": moments.later(0),
        "last_error": "The receiver answered 410 Gone to another delivery.",
    }
    await connection.execute(sa.update(table).where(*waiting).values(parked))


def _shown() -> sa.Select[Any]:
    columns = (webhooks.c.url.label("webhook_url"), webhooks.c.enabled)
    return sa.select(table, *columns).select_from(_QUEUE)


async def _find(connection: AsyncConnection, id_: str, tenant: str) -> Any:
    query = _shown().where(table.c.id == storable(id_), table.c.tenant == tenant)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise NotFound("There is no such delivery.")
    return row


def _delivery(row: Any) -> Delivery:
    return Delivery(
        id=row["id"],
        webhook_id=row["webhook_id"],
        webhook_url=row["url"] or row["webhook_url"] or "",
        event=row["event"],
        status=row["status"],
        attempts=row["attempts"],
        last_status_code=row["last_status_code"],
        last_error=row["last_error"],
        created_at=row["created_at"],
        next_attempt_at=row["due_at"],
        finished_at=row["finished_at"],
    )


def _due(row: Any) -> Due:
    until = row["previous_until"]
    overlaps = until is not None and until > moments.later(0)
    return Due(
        id=row["id"],
        endpoint=row["endpoint"],
        tenant=row["tenant"],
        webhook_id=row["webhook_id"],
        url=row["webhook_url"] or row["url"] or "",
        payload=row["payload"],
        secret=row["webhook_secret"] if row["webhook_id"] else row["secret"],
        secret_of=row["webhook_id"] or row["id"],
        previous_secret=row["previous_secret"] if overlaps else None,
        attempts=row["attempts"],
        waited=row["waited"],
    )
