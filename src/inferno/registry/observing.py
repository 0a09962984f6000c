"""The registry as pools see it: entries of those who may register for them, and their changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

import sqlalchemy as sa
import structlog

from inferno.core.errors import InfernoError
from inferno.core.registry_queries import RegistryQuery
from inferno.core.tenancy import ANONYMOUS, ROLE_PERMISSIONS, Permission, Role
from inferno.registry.catalog import CHANNEL, KEPT_CHANGES, TURNS, decoded, owner_of
from inferno.registry.entries import ID, REGISTERED, Document
from inferno.registry.finding import Finder, Query
from inferno.storage.database import Database
from inferno.storage.tables import counters, registry_changes, registry_entries, users

LOOK_EVERY = 0.5
"""Seconds between looks at the number of the last change, where the database sends no notices."""

LOOK_ANYWAY = 5.0
"""Where it does."""

ALL_AGAIN = 60.0
"""Seconds after which anything may have changed: who is an admin, say."""

AT_ONCE = 100

WRITERS = [role.value for role in Role if Permission.WRITE_MODELS in ROLE_PERMISSIONS[role]]
"""Roles of those who may write models in their own tenant's namespace."""

Change = tuple[Document | None, Document | None]

log = structlog.get_logger(__name__)


class Observer:
    """Finds entries for pools, and tells of changes.

    Args:
        database: where they are.
        finder: answers queries.
        auth: whether callers are known; where they are not, everybody is an admin.
    """

    def __init__(self, database: Database, finder: Finder, *, auth: bool) -> None:
        self._database = database
        self._finder = finder
        self._auth = auth

    async def find(self, query: RegistryQuery, *, tenant: str, most: int) -> list[Document]:
        """Return the entries that a pool of a tenant may take, the first registered first.

        Args:
            query: the pool's.
            tenant: the pool's namespace.
            most: at most so many.

        Raises:
            InvalidRequest: the query asks for too much.
            DeadlineExceeded: it takes too long.
        """
        if query.owners == "anyone":
            return await self._of(query, None, most)
        found: list[Document] = []
        for owner in await self._owners(tenant if query.owners == "tenant" else None):
            found += await self._of(query, owner, most)
        return sorted(found, key=lambda entry: (entry[REGISTERED], entry[ID]))[:most]

    async def _of(self, query: RegistryQuery, owner: str | None, most: int) -> list[Document]:
        found: list[Document] = []
        after: int | None = 0
        while after is not None and len(found) < most:
            page = await self._finder.find(
                Query(filter=query.filter, owner=owner, limit=most - len(found), after=after)
            )
            found += page.documents
            after = page.next
        return found

    async def _owners(self, tenant: str | None) -> list[str]:
        """Return those who have entries and are admins, or may write models in a tenant."""
        trusted: sa.ColumnElement[bool] = users.c.role == Role.ADMIN.value
        if tenant is not None:
            writes = sa.and_(users.c.tenant == tenant, users.c.role.in_(WRITERS))
            trusted = sa.or_(trusted, writes)
        names = sa.select(users.c.tenant + "/" + users.c.id).where(trusted, ~users.c.disabled)
        owner = registry_entries.c.owner
        may: sa.ColumnElement[bool] = owner.in_(names)
        if not self._auth:
            may = sa.or_(may, owner == owner_of(ANONYMOUS))
        async with self._database.read() as connection:
            found = await connection.scalars(sa.select(owner).distinct().where(may))
            return list(found)

    async def changes(self) -> AsyncGenerator[Sequence[Change] | None]:
        """Yield changes as they come, for ever; None where anything may have changed."""
        noticed = asyncio.Event()
        listener = self._database.listener(CHANNEL, noticed.set)
        pause = LOOK_EVERY if listener is None else LOOK_ANYWAY
        position: int | None = None
        again = 0.0
        try:
            while True:
                noticed.clear()
                changes: list[Change] | None = []
                try:
                    if listener is not None:
                        await listener.ensure()
                    position, changes = await self._since(position)
                except InfernoError as error:
                    log.warning("registry_not_followed", error=error.message)
                if changes is None or time.monotonic() >= again:
                    again = time.monotonic() + ALL_AGAIN
                    yield None
                elif changes:
                    yield changes
                if changes is None or len(changes) < AT_ONCE:
                    await _either(noticed, pause)
        finally:
            if listener is not None:
                await listener.close()

    async def _since(self, position: int | None) -> tuple[int, list[Change] | None]:
        """Return the number of the last change that is known now, and what has changed.

        What has changed is None where nobody can tell any more.
        """
        number = sa.select(counters.c.value).where(counters.c.name == TURNS)
        async with self._database.read() as connection:
            latest = int(await connection.scalar(number) or 0)
            if position == latest:
                return latest, []
            if position is None or not 0 <= latest - position <= KEPT_CHANGES:
                return latest, None
            columns = registry_changes.c
            rows = await connection.execute(
                sa.select(columns.version, columns.before, columns.after)
                .where(columns.version > position)
                .order_by(columns.version)
                .limit(AT_ONCE)
            )
            found = rows.all()
        last = found[-1].version if len(found) == AT_ONCE else latest
        return last, [(_read(row.before), _read(row.after)) for row in found]


def _read(text: str | None) -> Document | None:
    return None if text is None else decoded(text)


async def _either(noticed: asyncio.Event, seconds: float) -> None:
    """Wait for a notice, or for so long."""
    try:
        async with asyncio.timeout(seconds):
            await noticed.wait()
    except TimeoutError:
        return
