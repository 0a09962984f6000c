"""Databases of both kinds, with users in them, and the parts of webhooks over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from inferno.core.tenancy import ROLE_PERMISSIONS, UNLIMITED, Principal, Role
from inferno.storage.database import Database
from inferno.storage.tables import users
from inferno.webhooks.deliveries import Deliveries
from inferno.webhooks.guard import Guard
from inferno.webhooks.interest import Interest
from inferno.webhooks.outbox import Outbox
from inferno.webhooks.sealing import SecretSealer
from inferno.webhooks.subscriptions import Subscriptions
from inferno.webhooks.types import NewWebhook, Webhook
from tests.contract.storage.conftest import database, postgres_folder, url

__all__ = ["database", "postgres_folder", "url"]

SEALER = SecretSealer(b"s" * 32)
OPEN = Guard.of(["127.0.0.0/8"])


@dataclass(frozen=True)
class Parts:
    """Webhooks over one database, as one process has them."""

    database: Database
    interest: Interest
    outbox: Outbox
    subscriptions: Subscriptions
    deliveries: Deliveries

    async def subscribe(self, principal: Principal, *events: str, url: str = "") -> Webhook:
        new = NewWebhook(
            webhook_url=url or "https://example.com/",
            events=list(events),  # type: ignore[arg-type]
            secret="secret",
        )
        return (await self.subscriptions.create(new, principal))[0]


def parts_over(database: Database, claim: str) -> Parts:
    interest = Interest(database)
    outbox = Outbox(database, OPEN, SEALER, interest)
    subscriptions = Subscriptions(database, SEALER, OPEN, interest, most=100)
    return Parts(database, interest, outbox, subscriptions, Deliveries(database, claim=claim))


@pytest.fixture
def parts(database: Database) -> Parts:
    return parts_over(database, "here")


@pytest.fixture
async def others(url: str, database: Database) -> AsyncIterator[Parts]:
    """The same in another process."""
    other = await Database.open(url)
    yield parts_over(other, "there")
    await other.close()


async def make_principal(
    database: Database, name: str, *, tenant: str = "red", role: Role = Role.USER
) -> Principal:
    """Store a user and return it as a caller."""
    row: dict[str, Any] = {
        "id": name,
        "username": name,
        "password_hash": "",
        "role": role.value,
        "tenant": tenant,
        "limits": {},
        "disabled": False,
        "created_at": "",
        "updated_at": "",
    }
    async with database.transaction() as connection:
        await connection.execute(sa.insert(users).values(row))
    return Principal(
        user_id=name,
        username=name,
        tenant=tenant,
        role=role,
        permissions=ROLE_PERMISSIONS[role],
        credential="api_key",
        credential_id="",
        limits=UNLIMITED,
    )
