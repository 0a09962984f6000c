"""The roster: what the data plane knows of users and keys, and how soon."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from inferno.core.errors import Overloaded
from inferno.core.tenancy import UNLIMITED, LimitOverrides, LimitPolicy, Permission, Role
from inferno.identity.revocation import RevocationList
from inferno.storage.database import Database
from inferno.tenancy import roster as module
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.roster import Roster
from inferno.tenancy.types import ApiKeyChange, NewApiKey, User, UserChange
from tests.unit.tenancy.conftest import Clock, add_user, roster_over


async def key_of(accounts: Accounts, user: str, **values: Any) -> tuple[str, bytes]:
    """Create a key, and return its id and itself as it comes in a header."""
    key, secret = await accounts.keys.create(user, NewApiKey(name="x", **values))
    return key.id, secret.encode()


class TestKeys:
    async def test_a_key_stands_for_its_owner(
        self, accounts: Accounts, ada: User, roster: Roster
    ) -> None:
        key_id, secret = await key_of(accounts, "ada")
        await roster.read()
        principal = roster.ring.find(secret)
        assert principal is not None
        assert (principal.user_id, principal.username, principal.tenant) == (
            ada.id, "ada", "research",
        )  # fmt: skip
        assert (principal.credential, principal.credential_id) == ("api_key", key_id)
        assert principal.limit_subject == f"key:{key_id}"
        assert roster.ring.find(secret + b"x") is None

    async def test_permissions_are_the_roles_narrowed_by_the_scopes(
        self, accounts: Accounts, ada: User, roster: Roster
    ) -> None:
        _, every = await key_of(accounts, "ada")
        both = [Permission.READ_MODELS, Permission.USE_STREAMING]
        _, some = await key_of(accounts, "ada", permissions=both)
        await roster.read()
        held = {Permission.READ_MODELS, Permission.RUN_INFERENCE, Permission.USE_STREAMING}
        assert [p.permissions for s in (every, some) if (p := roster.ring.find(s))] == [
            held, {*both},
        ]  # fmt: skip
        await accounts.users.change("ada", UserChange(role=Role.GUEST))
        await roster.read()
        for secret in (every, some):
            principal = roster.ring.find(secret)
            assert principal is not None
            assert principal.permissions == {Permission.READ_MODELS}

    async def test_a_key_ends_at_its_time(self, accounts: Accounts, ada: User) -> None:
        clock = Clock(time.time())
        roster = roster_over(accounts, clock)
        _, secret = await key_of(accounts, "ada", expires_in_days=1)
        await roster.read()
        clock.now += 86_390
        assert roster.ring.find(secret) is not None
        clock.now += 20
        assert roster.ring.find(secret) is None

    async def test_a_rotated_key_works_until_its_grace_ends(
        self, accounts: Accounts, ada: User
    ) -> None:
        clock = Clock(time.time())
        roster = roster_over(accounts, clock)
        key_id, old = await key_of(accounts, "ada")
        _, secret = await accounts.keys.rotate(key_id, grace_seconds=600)
        await roster.read()
        clock.now += 590
        assert roster.ring.find(old) is not None
        clock.now += 20
        assert roster.ring.find(old) is None
        assert roster.ring.find(secret.encode()) is not None

    async def test_disabling_a_key(self, accounts: Accounts, ada: User, roster: Roster) -> None:
        key_id, secret = await key_of(accounts, "ada")
        await accounts.keys.change(key_id, ApiKeyChange(disabled=True))
        await roster.read()
        assert roster.ring.find(secret) is None
        await accounts.keys.change(key_id, ApiKeyChange(disabled=False))
        await roster.read()
        assert roster.ring.find(secret) is not None

    async def test_disabling_a_user_ends_its_keys_and_tokens(
        self, accounts: Accounts, ada: User, roster: Roster
    ) -> None:
        _, secret = await key_of(accounts, "ada")
        await roster.read()
        assert roster.user(ada.id) == ada
        await accounts.users.change("ada", UserChange(disabled=True))
        await roster.read()
        assert roster.ring.find(secret) is None
        assert roster.user(ada.id) is None

    async def test_last_use_is_written(self, accounts: Accounts, ada: User) -> None:
        clock = Clock()
        roster = roster_over(accounts, clock)
        key_id, secret = await key_of(accounts, "ada")
        async with roster.following():
            roster.ring.find(secret)
        assert (await accounts.keys.get(key_id)).last_used_at == "2027-01-15T08:00:00.000Z"


class TestLimits:
    async def limits(self, roster: Roster, secret: bytes) -> LimitPolicy:
        await roster.read()
        principal = roster.ring.find(secret)
        assert principal is not None
        return principal.limits

    async def test_the_narrowest_that_says_something_decides(
        self, accounts: Accounts, ada: User, roster: Roster
    ) -> None:
        key_id, secret = await key_of(accounts, "ada")
        assert await self.limits(roster, secret) == LimitPolicy()
        everything = LimitOverrides(
            requests_per_minute=1, requests_per_hour=1, tokens_per_minute=1, concurrent_requests=1
        )
        await accounts.overrides.set("tenant", "research", everything)
        await accounts.overrides.set(
            "role",
            "user",
            LimitOverrides(requests_per_hour=2, tokens_per_minute=2, concurrent_requests=2),
        )
        user_limits = LimitOverrides(tokens_per_minute=3, concurrent_requests=3)
        await accounts.users.change("ada", UserChange(limits=user_limits))
        key_limits = LimitOverrides(concurrent_requests=4)
        await accounts.keys.change(key_id, ApiKeyChange(limits=key_limits))
        assert await self.limits(roster, secret) == LimitPolicy(
            requests_per_minute=1, requests_per_hour=2, tokens_per_minute=3, concurrent_requests=4
        )

    async def test_minus_one_is_none_and_can_be_limited_again(
        self, accounts: Accounts, ada: User, roster: Roster
    ) -> None:
        key_id, secret = await key_of(accounts, "ada")
        none = LimitOverrides(requests_per_minute=-1)
        await accounts.overrides.set("tenant", "research", none)
        assert (await self.limits(roster, secret)).requests_per_minute is None
        zero = LimitOverrides(requests_per_minute=0)
        await accounts.keys.change(key_id, ApiKeyChange(limits=zero))
        assert (await self.limits(roster, secret)).requests_per_minute == 0

    async def test_admins_have_none_unless_some_are_set(
        self, accounts: Accounts, roster: Roster
    ) -> None:
        _, secret = await key_of(accounts, "root")
        assert await self.limits(roster, secret) == UNLIMITED
        await accounts.overrides.set("role", "admin", LimitOverrides(requests_per_hour=9))
        limits = await self.limits(roster, secret)
        assert (limits.requests_per_hour, limits.requests_per_minute) == (9, None)

    async def test_tokens_count_against_the_user(
        self, accounts: Accounts, ada: User, roster: Roster
    ) -> None:
        changed = await accounts.users.change(
            "ada", UserChange(limits=LimitOverrides(requests_per_minute=5))
        )
        principal = roster.principal_of(changed, "token", "jti")
        assert principal.limits.requests_per_minute == 5
        assert principal.limit_subject == f"user:research/{ada.id}"


class TestNoticing:
    async def test_changes_of_another_process(
        self, accounts: Accounts, elsewhere: Accounts, ada: User, roster: Roster
    ) -> None:
        async with roster.following():
            key_id, secret = await key_of(elsewhere, "ada")
            await within(5.0, lambda: roster.ring.find(secret) is not None)
            await elsewhere.keys.revoke(key_id)
            await within(5.0, lambda: roster.ring.find(secret) is None)
            await elsewhere.users.change("ada", UserChange(disabled=True))
            await within(5.0, lambda: roster.user(ada.id) is None)

    async def test_a_look_finds_them_at_once(
        self, accounts: Accounts, elsewhere: Accounts, ada: User, roster: Roster
    ) -> None:
        await roster.read()
        _, secret = await key_of(elsewhere, "ada")
        await roster.look()
        assert roster.ring.find(secret) is not None

    async def test_revocations_reach_the_list_of_tokens(
        self, accounts: Accounts, elsewhere: Accounts
    ) -> None:
        revoked = RevocationList()
        roster = Roster(
            accounts.ledger, accounts.users, accounts.keys, accounts.overrides,
            accounts.revocations, defaults=LimitPolicy(), tokens=revoked,
        )  # fmt: skip
        await roster.read()
        await elsewhere.revocations.revoke("jti", until=time.time() + 60)
        await roster.look()
        assert revoked.is_revoked("jti")

    async def test_nothing_is_read_again_while_nothing_changes(
        self, roster: Roster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await roster.read()
        reads = counted(monkeypatch, roster, "read")
        for _ in range(3):
            await roster.look()
        assert reads == []

    async def test_a_thousand_unknown_keys_share_a_look(
        self, accounts: Accounts, roster: Roster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await roster.read()
        looks = counted(monkeypatch, accounts.ledger, "version")
        await asyncio.gather(*(roster.look() for _ in range(1000)))
        assert 1 <= len(looks) <= 2

    async def test_a_reading_that_fails_is_made_good(
        self, accounts: Accounts, ada: User, roster: Roster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Half of what was read must not pass for all of it."""
        await roster.read()
        _, secret = await key_of(accounts, "ada")
        with monkeypatch.context() as away:
            away.setattr(accounts.keys, "digests", unavailable)
            with pytest.raises(Overloaded):
                await roster.look()
        await roster.look()
        assert roster.ring.find(secret) is not None

    async def test_it_goes_on_with_what_it_knows_while_the_database_is_away(
        self, accounts: Accounts, ada: User, roster: Roster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
        _, secret = await key_of(accounts, "ada")
        async with roster.following():
            with monkeypatch.context() as away:
                away.setattr(accounts.ledger, "version", unavailable)
                await asyncio.sleep(0.3)
                assert roster.ring.find(secret) is not None
            _, newer = await key_of(accounts, "ada")
            await within(5.0, lambda: roster.ring.find(newer) is not None)


class TestLedger:
    async def test_every_change_is_a_new_version(self, accounts: Accounts) -> None:
        seen = [await accounts.ledger.version()]
        user = await add_user(accounts, "ada")
        seen.append(await accounts.ledger.version())
        key, _ = await accounts.keys.create(user.id, NewApiKey(name="x"))
        seen.append(await accounts.ledger.version())
        await accounts.keys.revoke(key.id)
        seen.append(await accounts.ledger.version())
        await accounts.overrides.set("role", "user", LimitOverrides(requests_per_minute=1))
        seen.append(await accounts.ledger.version())
        assert seen == sorted(set(seen))

    async def test_a_write_that_fails_is_none(self, accounts: Accounts, database: Database) -> None:
        version = await accounts.ledger.version()
        with pytest.raises(RuntimeError):
            async with accounts.ledger.writing():
                raise RuntimeError
        assert await accounts.ledger.version() == version


async def within(seconds: float, true: Any) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it was not noticed in time"
        await asyncio.sleep(0.01)


def counted(monkeypatch: pytest.MonkeyPatch, target: Any, name: str) -> list[None]:
    """Count the calls of a method."""
    calls: list[None] = []
    method = getattr(target, name)

    async def counting() -> Any:
        calls.append(None)
        return await method()

    monkeypatch.setattr(target, name, counting)
    return calls


async def unavailable() -> Any:
    raise Overloaded("The database does not answer.")
