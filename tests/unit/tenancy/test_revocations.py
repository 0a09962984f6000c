"""Revoked tokens: kept for as long as they could come back, and no longer."""

from __future__ import annotations

import time

import pytest

from inferno.core.errors import AuthenticationFailed
from inferno.tenancy.accounts import Accounts

HOUR = 3600.0


async def test_the_later_end_holds(accounts: Accounts) -> None:
    now = float(int(time.time()))
    for hours in (2, 5, 3):
        await accounts.revocations.revoke("jti", until=now + hours * HOUR)
    assert await accounts.revocations.all() == {"jti": now + 5 * HOUR}


async def test_a_token_is_spent_once(accounts: Accounts) -> None:
    until = time.time() + HOUR
    await accounts.revocations.spend("jti", until=until)
    with pytest.raises(AuthenticationFailed, match="used before"):
        await accounts.revocations.spend("jti", until=until)
    with pytest.raises(AuthenticationFailed):
        await accounts.revocations.spend("jti", until=until)


async def test_spending_changes_nothing_that_others_keep_in_memory(accounts: Accounts) -> None:
    version = await accounts.ledger.version()
    await accounts.revocations.spend("jti", until=time.time() + HOUR)
    assert await accounts.ledger.version() == version
    await accounts.revocations.revoke("family", until=time.time() + HOUR)
    assert await accounts.ledger.version() == version + 1


@pytest.mark.parametrize("act", ["revoke", "spend"])
async def test_the_expired_are_forgotten_with_some_delay(accounts: Accounts, act: str) -> None:
    """A clock that is set back by less than an hour brings nothing back."""
    now = time.time()
    for name, until in {"old": now - 2 * HOUR, "recent": now - HOUR / 2}.items():
        await accounts.revocations.revoke(name, until=until)
    if act == "revoke":
        await accounts.revocations.revoke("new", until=now + HOUR)
    else:
        await accounts.revocations.spend("new", until=now + HOUR)
    assert set(await accounts.revocations.all()) == {"recent", "new"}
