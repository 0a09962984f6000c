"""Users: names, passwords, the last admin."""

from __future__ import annotations

from typing import Any

import argon2
import msgspec
import pytest

from inferno.core.errors import Conflict, InvalidRequest, NotFound
from inferno.core.tenancy import LimitOverrides, Role
from inferno.identity import passwords
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.types import NewApiKey, NewUser, User, UserChange
from tests.unit.tenancy.conftest import PASSWORD, add_user


class TestNames:
    async def test_id_and_username_name_the_same_user(self, accounts: Accounts, ada: User) -> None:
        assert await accounts.users.get(ada.id) == await accounts.users.get("ada") == ada

    async def test_a_username_is_taken_once(self, accounts: Accounts, ada: User) -> None:
        with pytest.raises(Conflict, match="'ada' is taken"):
            await add_user(accounts, "ada")

    async def test_nobody_can_be_called_by_anothers_id(
        self, accounts: Accounts, ada: User, bob: User
    ) -> None:
        """The name is allowed, but it means whom the id means."""
        first, last = sorted([ada.id, bob.id])
        await add_user(accounts, first)
        await add_user(accounts, last)
        assert (await accounts.users.get(ada.id)).username == "ada"
        assert (await accounts.users.get(bob.id)).username == "bob"

    async def test_a_made_up_name(self, accounts: Accounts) -> None:
        with pytest.raises(NotFound, match="no user 'eve'"):
            await accounts.users.get("eve")

    async def test_another_tenants_user_is_as_a_made_up_one(
        self, accounts: Accounts, ada: User
    ) -> None:
        assert (await accounts.users.get("ada", tenant="research")).id == ada.id
        with pytest.raises(NotFound) as hidden:
            await accounts.users.get("ada", tenant="default")
        with pytest.raises(NotFound) as missing:
            await accounts.users.get("eve", tenant="default")
        assert hidden.value.message.replace("ada", "eve") == missing.value.message

    async def test_lists_are_sorted_and_of_a_tenant(
        self, accounts: Accounts, bob: User, ada: User
    ) -> None:
        assert [user.username for user in await accounts.users.all()] == ["ada", "bob", "root"]
        assert await accounts.users.all(tenant="research") == [ada]

    @pytest.mark.parametrize(
        "values",
        [
            {"username": ""},
            {"username": "-ada"},
            {"username": "a b"},
            {"username": "ada\n"},
            {"username": "a" * 65},
            {"username": "ada/../bob"},
            {"tenant": "Research"},
            {"tenant": "research\n"},
            {"tenant": "-"},
            {"email": "ada"},
            {"email": "ada@example.com\n"},
            {"role": "root"},
            {"password": ""},
            {"is_admin": True},
        ],
    )
    def test_values_that_are_refused(self, values: dict[str, Any]) -> None:
        good = {"username": "ada", "password": PASSWORD, "email": "ada@example.com"}
        msgspec.convert(good, NewUser)
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({**good, **values}, NewUser)


class TestPasswords:
    @pytest.mark.parametrize("password", ["password", "Admin123", "elevenchars"])
    async def test_weak_ones_are_refused(self, accounts: Accounts, password: str) -> None:
        with pytest.raises(InvalidRequest, match="too easy to guess"):
            await accounts.users.create(NewUser(username="eve", password=password))
        with pytest.raises(InvalidRequest, match="too easy to guess"):
            await accounts.users.change("root", UserChange(password=password))
        assert await accounts.users.with_password("root", PASSWORD) is not None

    async def test_the_right_one_finds_the_user(self, accounts: Accounts, ada: User) -> None:
        assert await accounts.users.with_password("ada", PASSWORD) == ada
        assert await accounts.users.with_password("ada", PASSWORD + "x") is None
        assert await accounts.users.with_password("eve", PASSWORD) is None
        assert await accounts.users.with_password(ada.id, PASSWORD) is None

    async def test_a_changed_one_replaces_the_old(self, accounts: Accounts, ada: User) -> None:
        await accounts.users.change("ada", UserChange(password="another horse, another battery"))
        assert await accounts.users.with_password("ada", PASSWORD) is None
        assert await accounts.users.with_password("ada", "another horse, another battery")

    async def test_a_disabled_users_password_is_wrong(self, accounts: Accounts, ada: User) -> None:
        await accounts.users.change("ada", UserChange(disabled=True))
        assert await accounts.users.with_password("ada", PASSWORD) is None

    async def test_every_login_takes_the_same_path(
        self, accounts: Accounts, ada: User, bob: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One look-up and one hash each, whether the name, the password or nothing is wrong."""
        await accounts.users.change("bob", UserChange(disabled=True))
        checked: list[bool] = []

        def verify(hashed: str | None, password: str) -> bool:
            checked.append(hashed is not None)
            return False

        monkeypatch.setattr(passwords, "verify_password", verify)
        for name in ("ada", "bob", "eve"):
            assert await accounts.users.with_password(name, "wrong") is None
        assert checked == [True, True, False]

    def test_a_missing_hash_costs_a_hash(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hashed: list[str] = []
        monkeypatch.setattr(argon2.PasswordHasher, "hash", lambda _, text: hashed.append(text))
        assert passwords.verify_password(None, "guess") is False
        assert hashed == ["guess"]


class TestChanges:
    async def test_what_is_not_given_stays(self, accounts: Accounts, ada: User) -> None:
        limits = LimitOverrides(requests_per_minute=5)
        changed = await accounts.users.change(
            "ada", UserChange(email="ada@example.com", limits=limits)
        )
        assert changed == msgspec.structs.replace(
            ada, email="ada@example.com", limits=limits, updated_at=changed.updated_at
        )
        assert await accounts.users.get("ada") == changed

    async def test_a_login_is_noted_and_changes_no_rights(
        self, accounts: Accounts, ada: User
    ) -> None:
        version = await accounts.ledger.version()
        await accounts.users.note_login(ada.id)
        assert (await accounts.users.get("ada")).last_login is not None
        assert await accounts.ledger.version() == version

    async def test_deleting_takes_the_keys_along(
        self, accounts: Accounts, ada: User, bob: User
    ) -> None:
        await accounts.keys.create("ada", NewApiKey(name="hers"))
        kept, _ = await accounts.keys.create("bob", NewApiKey(name="his"))
        assert (await accounts.users.delete("ada")).id == ada.id
        assert await accounts.keys.all() == [kept]
        with pytest.raises(NotFound):
            await accounts.users.get(ada.id)

    async def test_other_tenants_users_are_out_of_reach(
        self, accounts: Accounts, ada: User
    ) -> None:
        with pytest.raises(NotFound):
            await accounts.users.change("ada", UserChange(disabled=True), tenant="default")
        with pytest.raises(NotFound):
            await accounts.users.delete("ada", tenant="default")
        assert await accounts.users.get("ada") == ada


class TestLastAdmin:
    @pytest.mark.parametrize("change", [UserChange(disabled=True), UserChange(role=Role.USER)])
    async def test_is_kept(self, accounts: Accounts, ada: User, change: UserChange) -> None:
        before = await accounts.users.get("root")
        with pytest.raises(Conflict, match="last admin"):
            await accounts.users.change("root", change)
        with pytest.raises(Conflict, match="last admin"):
            await accounts.users.delete("root")
        assert await accounts.users.get("root") == before

    async def test_may_go_once_there_is_another(self, accounts: Accounts) -> None:
        await add_user(accounts, "second", role=Role.ADMIN)
        await accounts.users.delete("root")
        assert [user.username for user in await accounts.users.all()] == ["second"]

    async def test_a_disabled_one_does_not_count(self, accounts: Accounts) -> None:
        await add_user(accounts, "second", role=Role.ADMIN)
        await accounts.users.change("second", UserChange(disabled=True))
        with pytest.raises(Conflict):
            await accounts.users.delete("root")
