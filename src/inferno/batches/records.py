"""Batches in the database: every statement about them, each call one transaction.

Whoever works on a batch has its lease. A result is written in one transaction with the counters of
its batch, under the lock of the batch's row; the primary key of the results is the last guard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.batches.base import Outbox
from inferno.batches.files import used_bytes
from inferno.batches.types import (
    ACTIVE,
    Answer,
    Batch,
    Details,
    Item,
    Owner,
    Result,
    Status,
    StoredFile,
    encoded,
    now_text,
)
from inferno.core.errors import NotFound
from inferno.core.events import Event
from inferno.storage.database import Database
from inferno.storage.tables import batch_items as items
from inferno.storage.tables import batch_results as results
from inferno.storage.tables import batches, files

LEASE_SECONDS = 30.0
"""How long nobody else works on a batch whose process is silent."""

FIELDS = [batches.c[name] for name in Batch.__struct_fields__]

HIDDEN = sa.or_(
    batches.c.status == Status.DELETED,
    # One that is still being handed in: its id has not been told to anybody.
    sa.and_(batches.c.api == "native", batches.c.status == Status.VALIDATING),
)

HAS_WORK = sa.and_(batches.c.status.in_(ACTIVE), sa.not_(HIDDEN))


@dataclass(frozen=True, slots=True)
class Claimable:
    """A batch that waits for somebody to work on it.

    Args:
        id: the batch.
        tenant: whose it is.
        is_over: it is to be cancelled, or has run out of time: there is next to nothing to do.
    """

    id: str
    tenant: str
    is_over: bool


class Records:
    """The batches of all tenants.

    Args:
        database: where they are kept.
        holder: this process, as leases name it; the same after a restart, so that it goes on with
            its batches at once.
        outbox: told of ends; None where nobody is.
    """

    def __init__(self, database: Database, holder: str, outbox: Outbox | None = None) -> None:
        self._database = database
        self._holder = holder
        self._outbox = outbox

    async def create(self, batch: Batch, submission: str | None) -> None:
        """Store a new batch; where it is being validated, this process holds it.

        Raises:
            Conflict: the owner has a batch of this submission already.
        """
        row = _row_of(batch) | {"submission": submission}
        if batch.api == "native":
            row |= {"lease_holder": self._holder, "lease_until": now_text(LEASE_SECONDS)}
        async with self._database.transaction() as connection:
            await connection.execute(sa.insert(batches).values(row))

    async def submitted(
        self, tenant: str, owner_id: str, submission: str, *, arriving: Iterable[str]
    ) -> Batch | None:
        """Return the batch that an owner has handed in under a key, or None.

        One that a process was killed over is forgotten: nobody was told its id.

        Args:
            tenant: the owner's.
            owner_id: the owner.
            submission: the key.
            arriving: batches that are being handed in to this process now.
        """
        same = sa.and_(
            batches.c.tenant == tenant,
            batches.c.owner_id == owner_id,
            batches.c.submission == submission,
        )
        lost = sa.and_(same, HIDDEN, self._is_free(), batches.c.id.not_in(list(arriving)))
        async with self._database.transaction() as connection:
            await connection.execute(_deletion(lost))
            row = (await connection.execute(sa.select(*FIELDS).where(same))).first()
        return None if row is None else _batch_of(row)

    async def add_items(self, batch_id: str, added: Sequence[Item]) -> None:
        """Add requests to a batch that is being validated.

        Raises:
            NotFound: somebody else took it, since this process was silent for too long.
        """
        if not added:
            return
        size = sum(len(item.body) for item in added)
        change = {
            "input_bytes": batches.c.input_bytes + size,
            "total": batches.c.total + len(added),
            "lease_until": now_text(LEASE_SECONDS),
        }
        held = self._held(batch_id, Status.VALIDATING)
        async with self._database.transaction() as connection:
            changed = await connection.execute(sa.update(batches).where(held).values(change))
            if changed.rowcount == 0:
                raise no_batch(batch_id)
            await connection.execute(
                sa.insert(items), [_item_row(batch_id, item) for item in added]
            )

    async def clear_items(self, batch_id: str) -> None:
        """Forget what an earlier process had read of a batch's input."""
        change = {"total": 0, "input_bytes": 0}
        held = self._held(batch_id, Status.VALIDATING)
        while await purge_rows(self._database, items, batch_id):
            pass
        async with self._database.transaction() as connection:
            await connection.execute(sa.update(batches).where(held).values(change))

    async def open(self, batch_id: str, model: str, *, keep: bool = False) -> Batch:
        """Begin work on a batch whose requests are all there. From here on nothing loses it.

        Args:
            batch_id: the batch.
            model: what it is for.
            keep: whether this process goes on with it, rather than whoever comes first.

        Raises:
            NotFound: somebody else took it, or it was cancelled.
        """
        change = {
            "status": Status.IN_PROGRESS,
            "started_at": now_text(),
            "model": model,
            "lease_until": now_text(LEASE_SECONDS) if keep else None,
        }
        held = self._held(batch_id, Status.VALIDATING)
        async with self._database.transaction() as connection:
            changed = await connection.execute(sa.update(batches).where(held).values(change))
            if changed.rowcount == 0:
                raise no_batch(batch_id)
            row = (await connection.execute(sa.select(*FIELDS).where(_is(batch_id)))).one()
        return _batch_of(row)

    async def get(self, batch_id: str, tenant: str | None) -> Batch:
        """Return a batch.

        Args:
            batch_id: its id.
            tenant: who asks; None for somebody who sees all.

        Raises:
            NotFound: there is none, or it is another tenant's.
        """
        query = _visible(tenant).where(_is(batch_id))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise no_batch(batch_id)
        return _batch_of(row)

    async def page(
        self, tenant: str | None, *, api: str | None, after: str | None, limit: int
    ) -> tuple[list[Batch], bool]:
        """Return batches, the newest first, and whether there are more.

        Raises:
            NotFound: `after` is no batch.
        """
        query = _visible(tenant)
        if api is not None:
            query = query.where(batches.c.api == api)
        if after is not None:
            last = await self.get(after, tenant)
            place = sa.tuple_(batches.c.created_at, batches.c.id)
            query = query.where(place < sa.tuple_(sa.literal(last.created_at), sa.literal(last.id)))
        query = query.order_by(batches.c.created_at.desc(), batches.c.id.desc()).limit(limit + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [_batch_of(row) for row in rows[:limit]], len(rows) > limit

    async def standing(self, tenant: str) -> tuple[int, int]:
        """Return how many batches of a tenant are not finished, and what it takes in bytes."""
        query = sa.select(sa.func.count()).where(
            batches.c.tenant == tenant, batches.c.status.in_(ACTIVE)
        )
        async with self._database.read() as connection:
            active = int(await connection.scalar(query) or 0)
            return active, await used_bytes(connection, tenant)

    async def results(self, batch: Batch, *, after: int = -1, limit: int = 200) -> list[Result]:
        """Return results in the order of the input, behind a place in it.

        Of a batch that has ended, requests without an answer are among them.
        """
        answered = sa.and_(
            results.c.batch_id == items.c.batch_id, results.c.number == items.c.number
        )
        query = (
            sa.select(
                items.c.number,
                items.c.custom_id,
                results.c.status_code,
                results.c.request_id,
                results.c.body,
            )
            .select_from(items)
            .join(results, answered, isouter=not batch.status.is_active)
            .where(items.c.batch_id == batch.id)
            .order_by(items.c.number)
        )
        rows = await self._page(query, items.c.number, results.c.body, after, limit)
        return [Result(n, c, s, r or "", (b or "").encode()) for n, c, s, r, b in rows]

    async def _page(
        self,
        query: sa.Select[Any],
        number: sa.ColumnElement[int],
        body: sa.ColumnElement[str],
        after: int,
        limit: int,
    ) -> Sequence[Any]:
        """Return the rows of a query behind a place, as many as fit into memory; one at least.

        Bodies differ a thousandfold in size, so what fits is found out before they are read.
        """
        sizes = query.with_only_columns(number, sa.func.length(body)).where(number > after)
        async with self._database.read() as connection:
            last = _last_that_fits((await connection.execute(sizes.limit(limit))).all())
            if last is None:
                return ()
            rows = await connection.execute(query.where(number > after, number <= last))
            found: Sequence[Any] = rows.all()
        return found

    async def claimable(self, limit: int = 2000) -> list[Claimable]:
        """Return batches that nobody works on, the oldest first."""
        over = sa.or_(batches.c.status == Status.CANCELLING, batches.c.expires_at < now_text())
        query = (
            sa.select(batches.c.id, batches.c.tenant, over)
            .where(HAS_WORK, self._is_free())
            .order_by(batches.c.created_at)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [Claimable(batch_id, tenant, bool(over)) for batch_id, tenant, over in rows]

    async def claim(self, batch_id: str) -> Batch | None:
        """Take a batch's lease and return the batch, or None where somebody was faster."""
        change = {"lease_holder": self._holder, "lease_until": now_text(LEASE_SECONDS)}
        free = sa.and_(_is(batch_id), HAS_WORK, self._is_free())
        async with self._database.transaction() as connection:
            changed = await connection.execute(sa.update(batches).where(free).values(change))
            if changed.rowcount == 0:
                return None
            row = (await connection.execute(sa.select(*FIELDS).where(_is(batch_id)))).one()
        return _batch_of(row)

    async def renew(self, batch_ids: Iterable[str]) -> dict[str, Status]:
        """Keep leases, and return the state of each batch that is still this process's."""
        ours = sa.and_(
            batches.c.id.in_(sorted(batch_ids)), batches.c.lease_holder == self._holder, HAS_WORK
        )
        change = sa.update(batches).where(ours).values(lease_until=now_text(LEASE_SECONDS))
        async with self._database.transaction() as connection:
            await connection.execute(change)
            query = sa.select(batches.c.id, batches.c.status).where(ours)
            rows = (await connection.execute(query)).all()
        return {batch_id: Status(status) for batch_id, status in rows}

    async def release(self, batch_ids: Iterable[str]) -> None:
        """Give leases back, for others to go on at once."""
        ours = sa.and_(batches.c.id.in_(sorted(batch_ids)), batches.c.lease_holder == self._holder)
        async with self._database.transaction() as connection:
            await connection.execute(sa.update(batches).where(ours).values(lease_until=None))

    async def pending(self, batch_id: str, *, after: int, limit: int) -> list[Item]:
        """Return requests without a result, in the order of the input, behind a place in it."""
        answered = sa.exists().where(
            results.c.batch_id == items.c.batch_id, results.c.number == items.c.number
        )
        query = (
            sa.select(items.c.number, items.c.custom_id, items.c.endpoint, items.c.body)
            .where(items.c.batch_id == batch_id, sa.not_(answered))
            .order_by(items.c.number)
        )
        rows = await self._page(query, items.c.number, items.c.body, after, limit)
        return [Item(n, c, e, b.encode()) for n, c, e, b in rows]

    async def save(self, answers: Mapping[str, Sequence[tuple[Item, Answer]]]) -> set[str]:
        """Write results of one or more batches in one transaction.

        Returns:
            The batches that are no longer this process's; nothing of theirs was written.
        """
        lost: set[str] = set()
        async with self._database.transaction() as connection:
            for batch_id in sorted(answers):
                if not await self._save_one(connection, batch_id, answers[batch_id]):
                    lost.add(batch_id)
        return lost

    async def _save_one(
        self, connection: AsyncConnection, batch_id: str, answers: Sequence[tuple[Item, Answer]]
    ) -> bool:
        held = self._held(batch_id, Status.IN_PROGRESS, Status.CANCELLING)
        # First, since on Postgres it is the row's lock that makes other writers wait.
        renewed = sa.update(batches).where(held).values(lease_until=now_text(LEASE_SECONDS))
        if (await connection.execute(renewed)).rowcount == 0:
            return False
        there = sa.select(results.c.number).where(
            results.c.batch_id == batch_id,
            results.c.number.in_([item.number for item, _ in answers]),
        )
        known = set((await connection.execute(there)).scalars())
        new = [(item, answer) for item, answer in answers if item.number not in known]
        if new:
            rows = [_result_row(batch_id, item, answer) for item, answer in new]
            await connection.execute(sa.insert(results), rows)
            counted = sa.update(batches).where(_is(batch_id)).values(_counted(new))
            await connection.execute(counted)
        return True

    async def finalize(self, batch_id: str) -> bool:
        """Note that all is answered and the files are being made."""
        held = self._held(batch_id, Status.IN_PROGRESS, Status.FINALIZING)
        change = {"status": Status.FINALIZING, "finalizing_at": now_text()}
        async with self._database.transaction() as connection:
            changed = await connection.execute(sa.update(batches).where(held).values(change))
        return bool(changed.rowcount)

    async def end(
        self,
        batch_id: str,
        status: Status,
        *,
        event: Event | None,
        output: Sequence[StoredFile] = (),
        details: Details | None = None,
        failed: int | None = None,
    ) -> None:
        """End a batch: its state, its files and the word to webhooks in one transaction.

        Args:
            batch_id: the batch.
            status: what it has become.
            event: what webhooks are told.
            output: files with its results.
            details: with what is new in them.
            failed: requests without an answer, where they are not counted yet.
        """
        change: dict[str, Any] = {"status": status, "ended_at": now_text(), "lease_until": None}
        if details is not None:
            change["details"] = encoded(details)
        if failed is not None:
            change["failed"] = failed
        for file in output:
            change["output_file_id" if file.batch_part == "output" else "error_file_id"] = file.id
        async with self._database.transaction() as connection:
            ended = sa.update(batches).where(self._held(batch_id, *ACTIVE)).values(change)
            if (await connection.execute(ended)).rowcount == 0:
                return
            for file in output:
                row = msgspec.structs.asdict(file) | {
                    "state": "ready",
                    "touched_at": file.created_at,
                }
                await connection.execute(sa.insert(files).values(row))
            if event is not None and self._outbox is not None:
                query = sa.select(batches.c.details).where(_is(batch_id))
                stored = await connection.scalar(query)
                url = msgspec.json.decode(stored or "{}", type=Details).webhook_url
                await self._outbox.add(connection, event, url=url)
        if event is not None and self._outbox is not None:
            self._outbox.wake()

    async def cancel(self, batch_id: str) -> None:
        """Ask for a batch to be cancelled; whoever works on it does so."""
        change = {"status": Status.CANCELLING, "cancelling_at": now_text()}
        running = batches.c.status.in_([Status.VALIDATING, Status.IN_PROGRESS])
        async with self._database.transaction() as connection:
            await connection.execute(
                sa.update(batches).where(_is(batch_id), running).values(change)
            )

    async def delete(self, batch_id: str) -> None:
        """Delete a batch: nobody sees it any more; what it has goes soon after."""
        async with self._database.transaction() as connection:
            await connection.execute(_deletion(_is(batch_id)))
            shown = sa.update(files).where(files.c.batch_id == batch_id)
            await connection.execute(shown.values(state="deleted"))

    def _held(self, batch_id: str, *statuses: Status) -> sa.ColumnElement[bool]:
        """Return the condition that a batch is this process's, and in one of some states."""
        return sa.and_(
            _is(batch_id), batches.c.lease_holder == self._holder, batches.c.status.in_(statuses)
        )

    def _is_free(self) -> sa.ColumnElement[bool]:
        """Return the condition that no other process that lives has the lease."""
        return sa.or_(
            batches.c.lease_until.is_(None),
            batches.c.lease_until < now_text(),
            batches.c.lease_holder == self._holder,
        )


PAGE_CHARACTERS = 4 * 2**20
"""Of bodies that are read at once."""


def _last_that_fits(sizes: Sequence[Any]) -> int | None:
    """Return the last number up to which bodies may be read together; None for no rows."""
    last: int | None = None
    total = 0
    for number, size in sizes:
        total += size or 0
        if last is not None and total > PAGE_CHARACTERS:
            break
        last = number
    return last


PURGED_AT_ONCE = 1000
"""Rows that one transaction deletes: others have their turn between two."""


async def purge_rows(database: Database, table: sa.Table, owner_id: str) -> int:
    """Delete some of the rows that belong to a batch or a file, and return how many."""
    owner, number = list(table.primary_key)
    query = sa.select(sa.func.min(number)).where(owner == owner_id)
    async with database.transaction() as connection:
        first = await connection.scalar(query)
        if first is None:
            return 0
        step = 16 if "content" in table.c else PURGED_AT_ONCE
        chosen = sa.and_(owner == owner_id, number < first + step)
        return int((await connection.execute(sa.delete(table).where(chosen))).rowcount)


def no_batch(batch_id: str) -> NotFound:
    """Return the error for a batch that is not there, or not for the caller."""
    return NotFound(f"There is no batch '{batch_id}'.")


def _is(batch_id: str) -> sa.ColumnElement[bool]:
    return batches.c.id == batch_id


def _deletion(condition: sa.ColumnElement[bool]) -> sa.Update:
    return sa.update(batches).where(condition).values(status=Status.DELETED, submission=None)


def _visible(tenant: str | None) -> sa.Select[Any]:
    query = sa.select(*FIELDS).where(sa.not_(HIDDEN))
    return query if tenant is None else query.where(batches.c.tenant == tenant)


def _counted(new: Sequence[tuple[Item, Answer]]) -> dict[str, Any]:
    """Return what some results add to the counters of their batch."""
    failed = sum(answer.error is not None for _, answer in new)
    added = {
        "completed": len(new) - failed,
        "failed": failed,
        "prompt_tokens": sum(answer.prompt_tokens for _, answer in new),
        "completion_tokens": sum(answer.completion_tokens for _, answer in new),
    }
    return {name: batches.c[name] + value for name, value in added.items()}


def _item_row(batch_id: str, item: Item) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "number": item.number,
        "custom_id": item.custom_id,
        "endpoint": item.endpoint,
        "body": item.body.decode(),
    }


def _result_row(batch_id: str, item: Item, answer: Answer) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "number": item.number,
        "status_code": answer.status_code,
        "request_id": answer.request_id,
        "body": answer.body.decode("utf-8", "replace"),
    }


def _row_of(batch: Batch) -> dict[str, Any]:
    return msgspec.structs.asdict(batch) | {
        "owner": encoded(batch.owner),
        "details": encoded(batch.details),
    }


def _batch_of(row: sa.Row[Any]) -> Batch:
    values = dict(zip(Batch.__struct_fields__, row, strict=True))
    values["owner"] = msgspec.json.decode(values["owner"], type=Owner)
    values["details"] = msgspec.json.decode(values["details"], type=Details)
    return msgspec.convert(values, Batch)
