"""The first start: an admin and a key, given or generated."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from inferno.core.tenancy import Role
from inferno.data_dir import DataDir
from inferno.storage.database import Database
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.first_start import FirstCredentials, ensure_admin

GIVEN = "a-key-of-our-own-choosing-0123456789"


@pytest.fixture
def empty(database: Database) -> Accounts:
    return Accounts.over(database)


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path)


async def start(
    data_dir: DataDir,
    accounts: Accounts,
    *,
    password: str | None = None,
    api_key: str | None = None,
) -> FirstCredentials | None:
    return await ensure_admin(
        data_dir, accounts.users, accounts.keys, password=password, api_key=api_key
    )


async def test_what_is_generated_works_and_is_kept(data_dir: DataDir, empty: Accounts) -> None:
    first = await start(data_dir, empty)
    assert first is not None
    admin = await empty.users.with_password("admin", first.password)
    assert admin is not None
    assert admin.role is Role.ADMIN
    key = await empty.keys.with_secret(first.api_key)
    assert key is not None
    assert key.user_id == admin.id
    kept = json.loads(data_dir.credentials_file.read_text())
    assert kept == {"username": "admin", "password": first.password, "api_key": first.api_key}
    assert stat.S_IMODE(data_dir.credentials_file.stat().st_mode) == 0o600


async def test_what_is_given_is_not_written_down(data_dir: DataDir, empty: Accounts) -> None:
    await start(data_dir, empty, password="chosen by a person", api_key=GIVEN)
    assert data_dir.credentials() == {"username": "admin"}
    assert await empty.users.with_password("admin", "chosen by a person")
    assert await empty.keys.with_secret(GIVEN)


async def test_later_starts_change_nothing(data_dir: DataDir, empty: Accounts) -> None:
    await start(data_dir, empty)
    kept, version = data_dir.credentials(), await empty.ledger.version()
    assert await start(data_dir, empty, password="another password") is None
    assert (data_dir.credentials(), await empty.ledger.version()) == (kept, version)


async def test_a_key_given_later_counts_for_nothing(data_dir: DataDir, empty: Accounts) -> None:
    await start(data_dir, empty)
    assert await start(data_dir, empty, api_key=GIVEN) is None
    assert await empty.keys.with_secret(GIVEN) is None
