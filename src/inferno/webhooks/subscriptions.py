"""Subscriptions: made, changed and removed by the callers of a tenant.

Everything here is asked for on behalf of one tenant; what is another's is not found.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import Conflict, NotFound, PermissionDenied
from inferno.core.tenancy import Permission, Principal
from inferno.storage.database import Database
from inferno.storage.tables import webhook_deliveries as deliveries
from inferno.storage.tables import webhooks as table
from inferno.webhooks import moments, signing
from inferno.webhooks.guard import Guard
from inferno.webhooks.interest import Interest, raise_version
from inferno.webhooks.sealing import SecretSealer
from inferno.webhooks.types import MODEL_EVENTS, NewSecret, NewWebhook, Webhook, WebhookChange


class Subscriptions:
    """The subscriptions in the database.

    Args:
        database: where they are.
        sealer: encrypts their secrets.
        guard: says where deliveries may go.
        interest: told of changes, so that they count at once in this process.
        most: how many a tenant may have.
    """

    def __init__(
        self,
        database: Database,
        sealer: SecretSealer,
        guard: Guard,
        interest: Interest,
        *,
        most: int,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._guard = guard
        self._interest = interest
        self._most = most

    async def all(self, tenant: str) -> list[Webhook]:
        """Return a tenant's subscriptions, oldest first."""
        query = sa.select(table).where(table.c.tenant == tenant)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(table.c.created_at, table.c.id))
            return [webhook_of(row) for row in rows.mappings()]

    async def get(self, id_: str, tenant: str) -> Webhook:
        """Return one subscription. Raises NotFound."""
        async with self._database.read() as connection:
            return webhook_of(await _find(connection, id_, tenant))

    async def create(self, new: NewWebhook, principal: Principal) -> tuple[Webhook, str]:
        """Make a subscription of the caller's tenant, and return it with its secret.

        Raises:
            InvalidRequest: the address or the secret cannot be used.
            PermissionDenied: an event of models, which the caller may not see.
            Conflict: the tenant has as many as it may have.
        """
        self._guard.check_url(new.webhook_url)
        require_models(principal, new.events)
        secret = _chosen(new.secret)
        await self._sealer.load()
        id_, now = f"wh_{uuid.uuid4().hex}", moments.text_of(moments.now())
        row = {
            "id": id_,
            "tenant": principal.tenant,
            "owner": principal.user_id,
            "owner_is_user": principal.credential in ("api_key", "token"),
            "sees_models": Permission.READ_MODELS in principal.permissions,
            "url": new.webhook_url,
            "events": sorted(set(new.events)),
            "description": new.description,
            "secret": self._sealer.seal(secret, id_),
            "enabled": new.enabled,
            "disabled_reason": "",
            "created_at": now,
            "updated_at": now,
        }
        async with self._changing() as connection:
            mine = sa.select(sa.func.count()).where(table.c.tenant == principal.tenant)
            if int(await connection.scalar(mine) or 0) >= self._most:
                raise Conflict(
                    f"The tenant has {self._most} webhooks already, the most that it may have.",
                    max_webhooks=self._most,
                )
            await connection.execute(sa.insert(table).values(row))
            found = webhook_of(await _find(connection, id_, principal.tenant))
        return found, secret

    async def change(self, id_: str, change: WebhookChange, principal: Principal) -> Webhook:
        """Change what is given; deliveries that wait go to the new address.

        Raises:
            NotFound: there is no such subscription.
            InvalidRequest, PermissionDenied: as `create` does.
        """
        values: dict[str, Any] = {"updated_at": moments.text_of(moments.now())}
        if change.webhook_url is not None:
            self._guard.check_url(change.webhook_url)
            values["url"] = change.webhook_url
        if change.events is not None:
            require_models(principal, change.events)
            values["events"] = sorted(set(change.events))
            if MODEL_EVENTS.intersection(change.events):
                # Whoever could not see models when it was made could not ask for them either.
                values["sees_models"] = True
        if change.description is not None:
            values["description"] = change.description
        if change.enabled is not None:
            values |= {"enabled": change.enabled, "disabled_reason": ""}
        async with self._changing() as connection:
            await _find(connection, id_, principal.tenant)
            await connection.execute(sa.update(table).where(table.c.id == id_).values(values))
            return webhook_of(await _find(connection, id_, principal.tenant))

    async def rotate(self, id_: str, new: NewSecret, tenant: str) -> tuple[Webhook, str]:
        """Replace the secret, and return the new one; the old one signs too for a while.

        Raises:
            NotFound: there is no such subscription.
            InvalidRequest: the secret cannot be used.
        """
        secret = _chosen(new.secret)
        await self._sealer.load()
        async with self._changing() as connection:
            row = await _find(connection, id_, tenant)
            values = {
                "secret": self._sealer.seal(secret, id_),
                "previous_secret": row["secret"] if new.grace_seconds else None,
                "previous_until": moments.later(new.grace_seconds) if new.grace_seconds else None,
                "updated_at": moments.text_of(moments.now()),
            }
            await connection.execute(sa.update(table).where(table.c.id == id_).values(values))
            return webhook_of(await _find(connection, id_, tenant)), secret

    async def delete(self, id_: str, tenant: str) -> None:
        """Remove a subscription with its deliveries, also those that wait. Raises NotFound."""
        async with self._changing() as connection:
            await _find(connection, id_, tenant)
            # Explicitly, because a sender may hold some of them.
            await connection.execute(sa.delete(deliveries).where(deliveries.c.webhook_id == id_))
            await connection.execute(sa.delete(table).where(table.c.id == id_))

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncConnection]:
        async with self._database.transaction() as connection:
            await raise_version(connection)
            yield connection
        await self._interest.look()


def require_models(principal: Principal, events: Collection[str]) -> None:
    """Refuse events of models to a caller that may not see models. Raises PermissionDenied."""
    wanted = MODEL_EVENTS.intersection(events)
    if wanted and Permission.READ_MODELS not in principal.permissions:
        raise PermissionDenied(
            f"'{min(wanted)}' needs the permission 'read_models', which the caller does not have.",
            permission=Permission.READ_MODELS.value,
        )


def _chosen(given: str | None) -> str:
    """Return the secret that a caller gave, or a new one. Raises InvalidRequest."""
    if given is None:
        return signing.generate()
    signing.check_secret(given)
    return given


async def _find(connection: AsyncConnection, id_: str, tenant: str) -> Any:
    query = sa.select(table).where(table.c.id == storable(id_), table.c.tenant == tenant)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise NotFound("There is no such webhook.")
    return row


def storable(id_: str) -> str:
    """Return an id that the database can be asked for; Postgres chokes on NUL."""
    return id_ if id_.isascii() and id_.isprintable() and len(id_) <= 40 else ""


def webhook_of(row: Any) -> Webhook:
    """Return a subscription as callers see it."""
    return Webhook(
        id=row["id"],
        webhook_url=row["url"],
        events=row["events"],
        description=row["description"],
        enabled=row["enabled"],
        disabled_reason=row["disabled_reason"],
        created_by=row["owner"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
