"""Limits of roles and tenants."""

from __future__ import annotations

import pytest

from inferno.core.errors import InvalidRequest
from inferno.core.tenancy import LimitOverrides
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.overrides import Scope

SOME = LimitOverrides(requests_per_minute=5, concurrent_requests=-1)


async def test_set_replaced_and_taken_away(accounts: Accounts) -> None:
    overrides = accounts.overrides
    await overrides.set("role", "user", SOME)
    await overrides.set("tenant", "research", SOME)
    assert await overrides.all() == {("role", "user"): SOME, ("tenant", "research"): SOME}
    other = LimitOverrides(tokens_per_minute=9)
    await overrides.set("role", "user", other)
    await overrides.set("tenant", "research", LimitOverrides())
    assert await overrides.all() == {("role", "user"): other}


@pytest.mark.parametrize(
    ("scope", "name"), [("role", "king"), ("role", ""), ("tenant", "A b"), ("tenant", "x" * 64)]
)
async def test_names_that_nothing_can_have(accounts: Accounts, scope: Scope, name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"There is no {scope}"):
        await accounts.overrides.set(scope, name, SOME)
    assert await accounts.overrides.all() == {}
