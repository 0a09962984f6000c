"""The registry as pools see it, over both databases."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import sqlalchemy as sa

from inferno.core.documents.updates import parse_update
from inferno.core.registry_queries import OWNERS, QUERY, query_of
from inferno.core.tenancy import ANONYMOUS
from inferno.registry import observing
from inferno.registry.catalog import Catalog, Change
from inferno.registry.finding import Finder
from inferno.registry.observing import Observer
from inferno.storage.database import Database
from inferno.storage.tables import users
from tests.contract.registry.conftest import Clock, principal

NAME = "inference_server_name"


async def add_users(database: Database, *rows: tuple[str, str, str, bool]) -> None:
    """Write down users: name, tenant, role, whether they may not sign in."""
    common = {"password_hash": "", "created_at": "", "updated_at": "", "limits": {}}
    async with database.transaction() as connection:
        await connection.execute(
            sa.insert(users),
            [
                {"id": n, "username": n, "tenant": t, "role": r, "disabled": d, **common}
                for n, t, r, d in rows
            ],
        )


def asked(owners: str = "tenant", filter_: str = "{}") -> Any:
    return query_of({QUERY: filter_, OWNERS: owners})


async def names(observer: Observer, owners: str, *, most: int = 10) -> list[str]:
    found = await observer.find(asked(owners), tenant="team", most=most)
    return [entry[NAME] for entry in found]


@pytest.fixture
async def registered(database: Database, catalog: Catalog, clock: Clock) -> Database:
    """One entry of each kind of user, of which each has the name of its owner."""
    rows = [
        ("root", "default", "admin", False),
        ("writer", "team", "service", False),
        ("reader", "team", "user", False),
        ("gone", "team", "service", True),
        ("other", "else", "service", False),
    ]
    await add_users(database, *rows)
    for name, tenant, _, _ in rows:
        await catalog.create({NAME: name}, principal(name, tenant=tenant))
        clock.forward(1)
    await catalog.create({NAME: "nobody"}, ANONYMOUS)
    return database


async def test_whose_entries_are_taken(registered: Database, finder: Finder) -> None:
    observer = Observer(registered, finder, auth=True)
    assert await names(observer, "admins") == ["root"]
    assert await names(observer, "tenant") == ["root", "writer"]
    everybody = ["root", "writer", "reader", "gone", "other", "nobody"]
    assert await names(observer, "anyone") == everybody
    assert await names(observer, "anyone", most=2) == everybody[:2]
    assert await names(observer, "tenant", most=1) == ["root"]
    open_to_all = Observer(registered, finder, auth=False)
    assert await names(open_to_all, "admins") == ["root", "nobody"]


async def test_entries_that_expired_or_are_ill_are_not_taken(
    registered: Database, catalog: Catalog, finder: Finder, clock: Clock
) -> None:
    observer = Observer(registered, finder, auth=True)
    root = principal("root")
    entry = await catalog.create({NAME: "brief", "ttl_seconds": 5}, root)
    assert await names(observer, "admins") == ["root", "brief"]
    clock.forward(6)
    await catalog.expire(keep_seconds=60)
    assert await names(observer, "admins") == ["root"]
    await catalog.heartbeat(entry["inference_server_id"], root)
    assert await names(observer, "admins") == ["root", "brief"]


async def test_changes_are_told_as_they_come(
    registered: Database, catalog: Catalog, finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "LOOK_EVERY", 0.01)
    root = principal("root")
    feed = Observer(registered, finder, auth=True).changes()
    async with contextlib.aclosing(feed), asyncio.timeout(20):
        assert await anext(feed) is None
        entry = await catalog.create({NAME: "new"}, root)
        ((before, after),) = await anext(feed) or ()
        assert before is None
        assert after == entry
        id_ = entry["inference_server_id"]
        await catalog.update(id_, Change(parse_update({"$set": {NAME: "newer"}})), root)
        ((before, after),) = await anext(feed) or ()
        assert before == entry
        assert after is not None
        assert after[NAME] == "newer"
        await catalog.delete(id_, root)
        ((before, gone),) = await anext(feed) or ()
        assert before == after
        assert gone is None
        monkeypatch.setattr(observing, "KEPT_CHANGES", 0)
        await catalog.create({NAME: "another"}, root)
        assert await anext(feed) is None  # changes may have been missed
