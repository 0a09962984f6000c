"""Several writers at once, over both databases: what must hold does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from inferno.core.errors import AuthenticationFailed, Conflict
from inferno.core.tenancy import Role
from inferno.storage.database import Database
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.types import NewApiKey, UserChange
from tests.unit.tenancy.conftest import add_user, roster_over


@pytest.fixture
async def pair(url: str) -> AsyncIterator[tuple[Accounts, Accounts]]:
    """The accounts of two processes."""
    one, two = await Database.open(url), await Database.open(url)
    yield Accounts.over(one), Accounts.over(two)
    await one.close()
    await two.close()


async def at_once(*work: Coroutine[Any, Any, Any]) -> list[type | None]:
    """Return what each came to: None, or the kind of error."""
    results = await asyncio.gather(*work, return_exceptions=True)
    return [type(result) if isinstance(result, BaseException) else None for result in results]


async def test_the_first_writes_of_two_processes(pair: tuple[Accounts, Accounts]) -> None:
    one, two = pair
    assert await at_once(add_user(one, "ada"), add_user(two, "bob")) == [None, None]
    assert await one.ledger.version() == 2


async def test_a_name_goes_to_one(pair: tuple[Accounts, Accounts]) -> None:
    one, two = pair
    results = await at_once(*(add_user(side, "ada") for side in (one, two, one, two)))
    assert sorted(map(str, results)) == sorted(map(str, [None, *[Conflict] * 3]))


async def test_of_two_admins_one_is_left(pair: tuple[Accounts, Accounts]) -> None:
    one, two = pair
    await add_user(one, "ada", role=Role.ADMIN)
    await add_user(one, "bob", role=Role.ADMIN)
    results = await at_once(
        one.users.change("ada", UserChange(role=Role.USER)), two.users.delete("bob")
    )
    assert sorted(map(str, results)) == sorted(map(str, [None, Conflict]))


async def test_a_token_is_spent_once(pair: tuple[Accounts, Accounts]) -> None:
    until = time.time() + 60
    results = await at_once(*(side.revocations.spend("jti", until=until) for side in pair * 3))
    assert results.count(None) == 1
    assert results.count(AuthenticationFailed) == 5


async def test_a_token_is_revoked_by_all(pair: tuple[Accounts, Accounts]) -> None:
    until = time.time() + 60
    work = [side.revocations.revoke("jti", until=until + n) for n, side in enumerate(pair * 3)]
    assert await at_once(*work) == [None] * 6
    assert (await pair[0].revocations.all())["jti"] == pytest.approx(until + 5, abs=0.01)


async def test_a_roster_sees_what_the_other_process_made(pair: tuple[Accounts, Accounts]) -> None:
    one, two = pair
    roster = roster_over(one)
    await roster.read()
    await add_user(one, "root", role=Role.ADMIN)
    user = await add_user(two, "ada")
    key, secret = await two.keys.create(user.id, NewApiKey(name="x", expires_in_days=1))
    await two.keys.note_used({key.id: 1.0})
    await roster.look()
    assert roster.ring.find(secret.encode()) is not None
    assert await one.keys.get(key.id) == await two.keys.get(key.id)
    await two.users.delete("ada")
    await roster.look()
    assert len(roster.ring) == 0
