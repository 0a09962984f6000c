"""API keys: secrets, scopes, rotation, owners."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from inferno.core.errors import Conflict, InvalidRequest, NotFound
from inferno.core.tenancy import LimitOverrides, Permission
from inferno.identity import api_keys
from inferno.storage.database import Database
from inferno.storage.tables import api_keys as table
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.types import ApiKey, ApiKeyChange, NewApiKey, User


async def stored(database: Database) -> str:
    """Return all that the table of keys holds, as text."""
    async with database.read() as connection:
        return str((await connection.execute(table.select())).all())


class TestSecrets:
    async def test_a_new_key_is_shown_and_kept_as_its_hash(
        self, accounts: Accounts, ada: User, database: Database
    ) -> None:
        key, secret = await accounts.keys.create("ada", NewApiKey(name="laptop"))
        assert secret.startswith("inf_")
        assert key.prefix == secret[:12]
        held = await stored(database)
        assert secret not in held
        assert secret[13:] not in held
        assert (await accounts.keys.digests())[key.id] == api_keys.digest(secret)
        assert await accounts.keys.with_secret(secret) == key
        assert await accounts.keys.with_secret(secret + "x") is None

    @pytest.mark.parametrize("secret", ["short", "0123456789ab", "a-key-of-our-own-choosing"])
    async def test_of_a_short_one_most_stays_unseen(
        self, accounts: Accounts, ada: User, database: Database, secret: str
    ) -> None:
        key, _ = await accounts.keys.create("ada", NewApiKey(name="own"), secret=secret)
        assert len(key.prefix) <= len(secret) // 3
        assert secret not in await stored(database)

    async def test_two_keys_are_never_the_same(self, accounts: Accounts, ada: User) -> None:
        await accounts.keys.create("ada", NewApiKey(name="one"), secret="x" * 40)
        with pytest.raises(Conflict):
            await accounts.keys.create("ada", NewApiKey(name="two"), secret="x" * 40)

    async def test_last_use_is_written_and_changes_no_rights(
        self, accounts: Accounts, ada: User
    ) -> None:
        keys = [(await accounts.keys.create("ada", NewApiKey(name=n)))[0] for n in "abc"]
        version = await accounts.ledger.version()
        await accounts.keys.note_used({keys[0].id: 0.0, keys[1].id: 1.5, "gone": 2.0})
        assert [key.last_used_at for key in await accounts.keys.all()] == [
            "1970-01-01T00:00:00.000Z",
            "1970-01-01T00:00:01.500Z",
            None,
        ]
        assert await accounts.ledger.version() == version


class TestScopes:
    async def test_a_key_may_have_some_of_its_owners(self, accounts: Accounts, ada: User) -> None:
        new = NewApiKey(name="reader", permissions=[Permission.READ_MODELS])
        key, _ = await accounts.keys.create("ada", new)
        assert key.permissions == [Permission.READ_MODELS]

    async def test_a_key_cannot_have_more(self, accounts: Accounts, ada: User) -> None:
        new = NewApiKey(name="x", permissions=[Permission.READ_MODELS, Permission.MANAGE_USERS])
        with pytest.raises(InvalidRequest, match="'user' does not have: manage_users"):
            await accounts.keys.create("ada", new)
        assert await accounts.keys.all() == []

    async def test_of_a_made_up_user(self, accounts: Accounts) -> None:
        with pytest.raises(NotFound):
            await accounts.keys.create("eve", NewApiKey(name="x"))

    @pytest.mark.parametrize("days", [0, 366, -1])
    def test_days_that_are_refused(self, days: int) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"name": "x", "expires_in_days": days}, NewApiKey)

    async def test_days_until_the_end(self, accounts: Accounts, ada: User) -> None:
        key, _ = await accounts.keys.create("ada", NewApiKey(name="x", expires_in_days=30))
        assert key.expires_at is not None
        left = datetime.fromisoformat(key.expires_at) - datetime.now(UTC)
        assert timedelta(days=29, hours=23) < left <= timedelta(days=30)


class TestRotation:
    async def test_the_new_key_has_the_rights_of_the_old(
        self, accounts: Accounts, ada: User
    ) -> None:
        limits = LimitOverrides(requests_per_minute=7)
        new = NewApiKey(
            name="ci", permissions=[Permission.RUN_INFERENCE], limits=limits, expires_in_days=9
        )
        old, _ = await accounts.keys.create("ada", new)
        fresh, secret = await accounts.keys.rotate(old.id, grace_seconds=60)
        assert fresh.id != old.id
        assert await accounts.keys.with_secret(secret) == fresh
        for field in ("user_id", "name", "permissions", "limits", "expires_at"):
            assert getattr(fresh, field) == getattr(old, field)

    async def test_the_old_one_ends_after_its_grace(self, accounts: Accounts, ada: User) -> None:
        old, _ = await accounts.keys.create("ada", NewApiKey(name="ci"))
        await accounts.keys.rotate(old.id, grace_seconds=3600)
        end = (await accounts.keys.get(old.id)).expires_at
        assert end is not None
        left = datetime.fromisoformat(end) - datetime.now(UTC)
        assert timedelta(minutes=59) < left <= timedelta(hours=1)

    async def test_grace_never_makes_a_key_live_longer(self, accounts: Accounts, ada: User) -> None:
        old, _ = await accounts.keys.create("ada", NewApiKey(name="ci", expires_in_days=1))
        await accounts.keys.rotate(old.id, grace_seconds=7 * 86_400)
        assert (await accounts.keys.get(old.id)).expires_at == old.expires_at

    async def test_a_disabled_key_does_not_come_back_by_it(
        self, accounts: Accounts, ada: User
    ) -> None:
        old, _ = await accounts.keys.create("ada", NewApiKey(name="ci"))
        await accounts.keys.change(old.id, ApiKeyChange(disabled=True))
        with pytest.raises(Conflict, match="disabled"):
            await accounts.keys.rotate(old.id, grace_seconds=0)
        assert len(await accounts.keys.all()) == 1

    async def test_nor_does_one_that_has_expired(self, accounts: Accounts, ada: User) -> None:
        old, _ = await accounts.keys.create("ada", NewApiKey(name="ci"))
        await accounts.keys.rotate(old.id, grace_seconds=0)
        with pytest.raises(Conflict, match="expired"):
            await accounts.keys.rotate(old.id, grace_seconds=60)


class TestOwners:
    @pytest.fixture
    async def hers(self, accounts: Accounts, ada: User) -> ApiKey:
        return (await accounts.keys.create("ada", NewApiKey(name="hers")))[0]

    async def test_see_their_own(
        self, accounts: Accounts, ada: User, bob: User, hers: ApiKey
    ) -> None:
        his, _ = await accounts.keys.create("bob", NewApiKey(name="his"))
        assert await accounts.keys.all(owner=ada.id) == [hers]
        assert await accounts.keys.all(owner=bob.id) == [his]
        assert await accounts.keys.get(hers.id, owner=ada.id) == hers

    @pytest.mark.parametrize("act", ["get", "change", "rotate", "revoke"])
    async def test_anothers_key_is_as_a_made_up_one(
        self, accounts: Accounts, bob: User, hers: ApiKey, act: str
    ) -> None:
        said = []
        for key_id in (hers.id, "made-up"):
            with pytest.raises(NotFound) as error:
                await self._do(accounts, act, key_id, bob.id)
            said.append(error.value.message.replace(key_id, "…"))
        assert said[0] == said[1]
        assert await accounts.keys.get(hers.id) == hers

    async def _do(self, accounts: Accounts, act: str, key_id: str, owner: str) -> None:
        keys = accounts.keys
        if act == "get":
            await keys.get(key_id, owner=owner)
        elif act == "change":
            await keys.change(key_id, ApiKeyChange(disabled=True), owner=owner)
        elif act == "rotate":
            await keys.rotate(key_id, grace_seconds=0, owner=owner)
        else:
            await keys.revoke(key_id, owner=owner)

    async def test_revoking_deletes(self, accounts: Accounts, hers: ApiKey) -> None:
        assert await accounts.keys.revoke(hers.id) == hers
        assert await accounts.keys.all() == []

    async def test_changes(self, accounts: Accounts, hers: ApiKey) -> None:
        limits = LimitOverrides(tokens_per_minute=-1)
        change = ApiKeyChange(name="new", disabled=True, limits=limits)
        wanted = msgspec.structs.replace(hers, name="new", disabled=True, limits=limits)
        assert await accounts.keys.change(hers.id, change) == wanted
        assert await accounts.keys.change(hers.id, ApiKeyChange()) == wanted
