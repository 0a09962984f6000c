"""Entries in the database: added, changed, kept alive, removed.

Writers take turns, so a name that is free when it is looked at is free when it is taken, and the
order of changes is the order of commits. A heartbeat takes no turn: it locks its own entry alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.documents.applying import apply_update
from inferno.core.documents.matching import matches
from inferno.core.documents.tree import Filter
from inferno.core.documents.update_tree import Update
from inferno.core.errors import Conflict, NotFound, PermissionDenied
from inferno.core.tenancy import Permission, Principal
from inferno.registry.entries import (
    EXPIRED,
    EXPIRES,
    ID,
    NAME,
    REGISTERED,
    STATE,
    TTL,
    UPDATED,
    URL,
    Document,
    Finding,
    changed_entry,
    examined,
    expired,
    new_entry,
    refreshed,
    same,
    same_place,
    text_of,
)
from inferno.registry.examining import Examiner
from inferno.registry.index import update_index
from inferno.registry.indexing import index_of
from inferno.storage.database import Database
from inferno.storage.tables import counters, registry_changes, registry_entries

TURNS = "registry"
"""The counter that writers take turns at; its value is the version of the last change."""

KEPT_CHANGES = 10_000
BYTES_OF_A_TEST = 20
"""Of an update: it does no more than one thing to each value for so many."""

CHANNEL = "inferno_registry"

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody wants of an entry.

    Args:
        update: in the update language.
        condition: the entry has to match it; its match is what a positional `$` stands for.
        size: bytes that say so.
    """

    update: Update
    condition: Filter | None = None
    size: int = 0

    def applied(self, before: Document, now: datetime) -> Document:
        """Return what becomes of an entry. Raises Conflict, InvalidRequest."""
        if self.condition is not None and not matches(self.condition, before):
            raise Conflict("The entry does not match the filter.", field="filter")
        return apply_update(self.update, before, matched=self.condition, now=now)


def owner_of(principal: Principal) -> str:
    """Return how an entry's owner is kept: users of two tenants may have one id."""
    return f"{principal.tenant}/{principal.user_id}"


def is_admin(principal: Principal) -> bool:
    """Return whether a caller may change what is another's."""
    return Permission.MANAGE_USERS in principal.permissions


def present() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


class Catalog:
    """The entries.

    Args:
        database: where they are.
        most: how many a caller who is no admin may have.
        clock: says what time it is.
    """

    def __init__(self, database: Database, *, most: int, clock: Clock = present) -> None:
        self._database = database
        self._most = most
        self._clock = clock
        self._examiner = Examiner()

    async def get(self, id_: str) -> Document:
        """Return an entry. Raises NotFound."""
        query = sa.select(registry_entries.c.document).where(registry_entries.c.id == id_)
        async with self._database.read() as connection:
            found = await connection.scalar(query)
        if found is None:
            raise NotFound("No document found", id=id_)
        return decoded(found)

    async def create(self, given: Any, principal: Principal) -> Document:
        """Register a server, and return its entry.

        Raises:
            InvalidRequest: it is none; names the field.
            Conflict: another has the id, the name or the URL, which `field` tells; or the caller
                has as many entries as it may have.
        """
        entry = new_entry(given, self._clock())
        owner = owner_of(principal)
        async with self._writing() as (connection, version):
            await self._check_room(connection, owner, principal)
            await _check_free(connection, entry, 0)
            row = {**columns_of(entry), "owner": owner, "registered_at": entry[REGISTERED]}
            result = await connection.execute(sa.insert(registry_entries).values(row))
            (seq,) = result.inserted_primary_key or (0,)
            await update_index(connection, seq, set(), index_of(entry))
            await _note(connection, version, None, entry, self._clock())
        return entry

    async def update(self, id_: str, change: Change, principal: Principal) -> Document:
        """Change an entry, whole or not at all, and return it.

        Raises:
            NotFound: there is no such entry; none is made.
            PermissionDenied: it is another's.
            InvalidRequest: the update cannot be applied, or its result is no inference server.
            Conflict: the entry does not match the condition, or another has the name or the URL.
        """
        now = self._clock()
        async with self._writing() as (connection, version):
            row = await _locked(connection, id_, principal, "update")
            before = decoded(row.document)
            cost = len(row.document) * change.size // BYTES_OF_A_TEST
            after = await self._examiner.ask(cost, change.applied, before, now)
            entry = changed_entry(before, after, now)
            if not same(before, entry):
                await _check_free(connection, entry, row.seq)
                await _rewrite(connection, row.seq, before, entry)
                await _note(connection, version, before, entry, now)
        return entry

    async def delete(self, id_: str, principal: Principal) -> None:
        """Remove an entry. Raises NotFound, PermissionDenied."""
        async with self._writing() as (connection, version):
            row = await _locked(connection, id_, principal, "delete")
            await _remove(connection, row.seq)
            await _note(connection, version, decoded(row.document), None, self._clock())

    async def heartbeat(self, id_: str, principal: Principal) -> Document:
        """Keep an entry alive for as long as it asked for, and return it.

        Raises:
            NotFound: there is no such entry, or no longer: it has to be registered again.
            PermissionDenied: it is another's.
            Conflict: it never expires.
        """
        now = self._clock()
        async with self._database.transaction() as connection:
            row = await _locked(connection, id_, principal, "keep alive")
            before = decoded(row.document)
            if TTL not in before:
                raise Conflict(f"The entry has no {TTL}: it never expires.", field=TTL)
            entry = refreshed(before, now)
            if before[STATE] != EXPIRED:
                await _rewrite(connection, row.seq, before, entry)
                return entry
        return await self._revive(id_, principal)

    async def _revive(self, id_: str, principal: Principal) -> Document:
        """Make an expired entry active again: a change that others want to hear of."""
        now = self._clock()
        async with self._writing() as (connection, version):
            row = await _locked(connection, id_, principal, "keep alive")
            before = decoded(row.document)
            entry = refreshed(before, now)
            await _rewrite(connection, row.seq, before, entry)
            await _note(connection, version, before, entry, now)
        return entry

    async def expire(self, *, keep_seconds: float, at_once: int = 100) -> int:
        """Mark entries whose time is over, and remove those that were marked long ago.

        Args:
            keep_seconds: how long a marked entry stays.
            at_once: most that one transaction works on.

        Returns:
            How many were marked or removed; ask again while it is `at_once`.
        """
        now = self._clock()
        columns = registry_entries.c
        gone_before = text_of(datetime.fromtimestamp(now.timestamp() - keep_seconds, UTC))
        due = sa.or_(
            sa.and_(columns.state != EXPIRED, columns.expires_at <= text_of(now)),
            sa.and_(columns.state == EXPIRED, columns.expires_at <= gone_before),
        )
        query = sa.select(columns.seq, columns.document).where(due).limit(at_once)
        async with self._database.read() as connection:
            if (await connection.execute(query)).first() is None:
                return 0  # writers need not wait for those who only look
        async with self._database.transaction() as connection:
            version = await _take_turn(connection)
            rows = (await connection.execute(query.with_for_update())).all()
            for row in rows:
                before = decoded(row.document)
                if before[STATE] == EXPIRED:
                    await _remove(connection, row.seq)
                    await _note(connection, version, before, None, now)
                else:
                    entry = expired(before)
                    await _rewrite(connection, row.seq, before, entry)
                    await _note(connection, version, before, entry, now)
                version = await _take_turn(connection)
            await self._database.announce(connection, CHANNEL)
        return len(rows)

    async def note_health(self, findings: Sequence[Finding]) -> int:
        """Keep what was found of entries' servers, where it is news, and return of how many."""
        now, noted = self._clock(), 0
        columns = registry_entries.c
        async with self._database.transaction() as connection:
            version = await _take_turn(connection)
            for finding in findings:
                query = sa.select(columns.seq, columns.document).where(columns.id == finding.id)
                row = (await connection.execute(query.with_for_update())).first()
                if row is None:
                    continue
                before = decoded(row.document)
                entry = examined(before, finding, now)
                if same(before, entry):
                    continue
                await _rewrite(connection, row.seq, before, entry)
                await _note(connection, version, before, entry, now)
                version = await _take_turn(connection)
                noted += 1
            await self._database.announce(connection, CHANNEL)
        return noted

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """Give a transaction in which no other changes the registry, and the change's version."""
        async with self._database.transaction() as connection:
            yield connection, await _take_turn(connection)
            await self._database.announce(connection, CHANNEL)

    async def _check_room(
        self, connection: AsyncConnection, owner: str, principal: Principal
    ) -> None:
        if is_admin(principal):
            return
        mine = sa.select(sa.func.count()).where(registry_entries.c.owner == owner)
        if int(await connection.scalar(mine) or 0) >= self._most:
            raise Conflict(
                f"The caller has {self._most} entries already, the most that it may have.",
                max_entries=self._most,
            )


def decoded(text: str) -> Document:
    """Return the document of a row."""
    document: Document = msgspec.json.decode(text)
    return document


def _encoded(entry: Document) -> str:
    return msgspec.json.encode(entry).decode()


def columns_of(entry: Document) -> dict[str, Any]:
    """Return what of an entry has columns of its own."""
    return {
        "id": entry[ID],
        "name": entry[NAME] or None,
        "url": same_place(entry[URL]) if entry[URL] else None,
        "state": entry[STATE],
        "updated_at": entry[UPDATED],
        "expires_at": entry.get(EXPIRES),
        "document": _encoded(entry),
    }


async def _take_turn(connection: AsyncConnection) -> int:
    """Make other writers wait until the transaction's end, and return the change's version."""
    mine = counters.c.name == TURNS
    turn = sa.update(counters).where(mine).values(value=counters.c.value + 1)
    if (await connection.execute(turn)).rowcount == 0:
        start = "INSERT INTO counters (name, value) VALUES (:name, 0) ON CONFLICT DO NOTHING"
        await connection.execute(sa.text(start), {"name": TURNS})
        await connection.execute(turn)
    return int(await connection.scalar(sa.select(counters.c.value).where(mine)) or 0)


async def _locked(connection: AsyncConnection, id_: str, principal: Principal, verb: str) -> Any:
    """Return an entry's row, which nobody else changes until the transaction's end.

    Raises:
        NotFound: there is none.
        PermissionDenied: it is another's.
    """
    columns = registry_entries.c
    query = sa.select(columns.seq, columns.owner, columns.document).where(columns.id == id_)
    row = (await connection.execute(query.with_for_update())).first()
    if row is None:
        raise NotFound(f"No document found to {verb}", id=id_)
    if row.owner != owner_of(principal) and not is_admin(principal):
        raise PermissionDenied(
            "The entry belongs to somebody else; only its owner or an admin may do that."
        )
    return row


async def _check_free(connection: AsyncConnection, entry: Document, seq: int) -> None:
    """Refuse an id, a name or a URL that another entry has. Raises Conflict."""
    columns, wanted = registry_entries.c, columns_of(entry)
    for column, field in ((columns.id, ID), (columns.name, NAME), (columns.url, URL)):
        value = wanted[column.name]
        query = sa.select(columns.seq).where(column == value, columns.seq != seq)
        if value is not None and await connection.scalar(query) is not None:
            raise Conflict(f"Another entry has the {field} '{entry[field]}'.", field=field)


async def _rewrite(
    connection: AsyncConnection, seq: int, before: Document, entry: Document
) -> None:
    mine = registry_entries.c.seq == seq
    await connection.execute(sa.update(registry_entries).where(mine).values(columns_of(entry)))
    await update_index(connection, seq, index_of(before), index_of(entry))


async def _remove(connection: AsyncConnection, seq: int) -> None:
    await connection.execute(sa.delete(registry_entries).where(registry_entries.c.seq == seq))


async def _note(
    connection: AsyncConnection,
    version: int,
    before: Document | None,
    after: Document | None,
    now: datetime,
) -> None:
    """Write down a change for those who watch, and forget the oldest."""
    row = {
        "version": version,
        "entry_id": (after or before or {})[ID],
        "before": None if before is None else _encoded(before),
        "after": None if after is None else _encoded(after),
        "at": text_of(now),
    }
    await connection.execute(sa.insert(registry_changes).values(row))
    old = registry_changes.c.version <= version - KEPT_CHANGES
    await connection.execute(sa.delete(registry_changes).where(old))
