"""Who wants to be told of what.

What must not be lost asks in its transaction, the request path asks the picture in memory.
A subscription counts while its maker could still make it: a user who is disabled, deleted, moved
to another tenant or no longer allowed hears no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.events import EventName
from inferno.core.tenancy import ROLE_PERMISSIONS, Permission
from inferno.storage.database import Database
from inferno.storage.tables import counters, users
from inferno.storage.tables import webhooks as table
from inferno.webhooks.types import MODEL_EVENTS

VERSION = "webhooks"
"""The counter that every change of subscriptions increments."""

_WATCHED = (VERSION, "accounts")
"""What subscriptions count, and what their makers may do, changes with these counters."""


@dataclass(frozen=True, slots=True)
class Interested:
    """A subscription that counts.

    Args:
        id: its id.
        tenant: whose it is.
        events: what it is told of, as far as its maker may know of it.
    """

    id: str
    tenant: str
    events: frozenset[str]


async def interested(
    connection: AsyncConnection, tenant: str | None, *, keep: bool = False
) -> list[Interested]:
    """Return the enabled subscriptions of a tenant, or of all where it is None.

    Args:
        connection: inside a transaction.
        tenant: whose.
        keep: hold off their removal until the transaction ends, since it refers to them.
    """
    query = (
        sa.select(
            table.c.id,
            table.c.tenant,
            table.c.events,
            table.c.sees_models,
            table.c.owner_is_user,
            users.c.role,
        )
        .outerjoin(
            users,
            sa.and_(
                users.c.id == table.c.owner,
                users.c.tenant == table.c.tenant,
                users.c.disabled.is_(False),
            ),
        )
        .where(table.c.enabled.is_(True))
    )
    if tenant is not None:
        query = query.where(table.c.tenant == tenant)
    if keep:
        query = query.with_for_update(read=True, key_share=True, of=table)
    rows = (await connection.execute(query)).all()
    found = [_interested(*row) for row in rows]
    return [one for one in found if one is not None]


def _interested(
    id_: str,
    tenant: str,
    events: list[str],
    sees_models: bool,
    owner_is_user: bool,
    role: str | None,
) -> Interested | None:
    held = frozenset(Permission) if not owner_is_user else _held(role)
    if Permission.RUN_INFERENCE not in held:
        return None
    wanted = frozenset(events)
    if not sees_models or Permission.READ_MODELS not in held:
        wanted -= MODEL_EVENTS
    return Interested(id_, tenant, wanted)


def _held(role: str | None) -> frozenset[Permission]:
    """Return what a user may do; nothing, where there is none that counts."""
    return next((held for name, held in ROLE_PERMISSIONS.items() if name == role), frozenset())


class Interest:
    """The picture in memory, as old as the last `look`.

    Args:
        database: where subscriptions are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._versions: dict[str, int] | None = None
        self._wanted: frozenset[tuple[str, str]] = frozenset()

    def has(self, tenant: str | None, event: EventName) -> bool:
        """Return whether any subscription wants an event of a tenant's, or of everybody's."""
        if tenant is not None:
            return (tenant, event) in self._wanted
        return any(event == name for _, name in self._wanted)

    async def look(self) -> None:
        """Read again if anything has changed. Raises Overloaded."""
        async with self._database.read() as connection:
            query = sa.select(counters.c.name, counters.c.value)
            rows = await connection.execute(query.where(counters.c.name.in_(_WATCHED)))
            versions = dict(rows.all())
            if versions == self._versions:
                return
            found = await interested(connection, None)
        self._wanted = frozenset((one.tenant, event) for one in found for event in one.events)
        self._versions = versions


async def raise_version(connection: AsyncConnection) -> None:
    """Note that subscriptions change; whoever else changes them waits for this transaction."""
    start = "INSERT INTO counters (name, value) VALUES (:name, 0) ON CONFLICT DO NOTHING"
    await connection.execute(sa.text(start), {"name": VERSION})
    row = counters.c.name == VERSION
    await connection.execute(sa.update(counters).where(row).values(value=counters.c.value + 1))
