"""Accounts over a real database, and a second view of it as another process has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import argon2
import pytest

from inferno.core.tenancy import LimitPolicy, Role
from inferno.identity.api_keys import KeyRing
from inferno.identity.revocation import RevocationList
from inferno.storage.database import Database
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.roster import Roster
from inferno.tenancy.types import NewUser, User
from tests.contract.storage import conftest as storage

PASSWORD = "correct horse battery"

# Both databases, where a test asks for the address; `database` is SQLite alone, which is quick.
postgres_folder = storage.postgres_folder
url = storage.url


class Clock:
    """Seconds since 1970, as a test has them."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class QuickHasher(argon2.PasswordHasher):
    """Hashes that are as easy to guess as they are quick to make."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argon2, "PasswordHasher", QuickHasher)


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/inferno.db"


@pytest.fixture
async def database(address: str) -> AsyncIterator[Database]:
    database = await Database.open(address)
    yield database
    await database.close()


@pytest.fixture
async def accounts(database: Database) -> Accounts:
    """Accounts with an admin, `root`."""
    accounts = Accounts.over(database)
    await add_user(accounts, "root", role=Role.ADMIN)
    return accounts


@pytest.fixture
async def elsewhere(address: str, accounts: Accounts) -> AsyncIterator[Accounts]:
    """The same accounts, as another process has them."""
    database = await Database.open(address)
    yield Accounts.over(database)
    await database.close()


@pytest.fixture
async def ada(accounts: Accounts) -> User:
    return await add_user(accounts, "ada", tenant="research")


@pytest.fixture
async def bob(accounts: Accounts) -> User:
    return await add_user(accounts, "bob")


@pytest.fixture
def roster(accounts: Accounts) -> Roster:
    return roster_over(accounts)


def roster_over(accounts: Accounts, clock: Callable[[], float] | None = None) -> Roster:
    roster = Roster(
        accounts.ledger,
        accounts.users,
        accounts.keys,
        accounts.overrides,
        accounts.revocations,
        defaults=LimitPolicy(),
        tokens=RevocationList(),
    )
    if clock is not None:
        roster.ring = KeyRing(clock=clock)
    return roster


async def add_user(
    accounts: Accounts, username: str, *, role: Role = Role.USER, tenant: str = "default"
) -> User:
    new = NewUser(username=username, password=PASSWORD, role=role, tenant=tenant)
    return await accounts.users.create(new)
