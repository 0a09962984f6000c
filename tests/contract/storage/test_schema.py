"""The schema: migrations and metadata say the same, and old or foreign databases are noticed."""

import asyncio
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, inspect, select, text

from inferno.core.errors import ConfigurationError, Conflict, InfernoError
from inferno.storage import schema
from inferno.storage.database import Database
from inferno.storage.tables import api_keys, metadata, users


def described(connection: Connection) -> dict[str, Any]:
    """Describe the schema as the database itself reports it."""
    inspector = inspect(connection)
    tables: dict[str, Any] = {}
    for name in inspector.get_table_names():
        if name == "alembic_version":
            continue
        tables[name] = {
            # By name: a column that a migration adds comes last, wherever the metadata has it.
            "columns": {
                c["name"]: (str(c["type"]), c["nullable"], c["default"], c.get("comment"))
                for c in inspector.get_columns(name)
            },
            "primary key": inspector.get_pk_constraint(name),
            "foreign keys": inspector.get_foreign_keys(name),
            "unique": sorted(map(str, inspector.get_unique_constraints(name))),
            "indexes": sorted(str(_plain(index)) for index in inspector.get_indexes(name)),
        }
    return tables


def _plain(index: Any) -> dict[str, Any]:
    """Return an index with what it is limited to as text."""
    limits = {name: str(limit) for name, limit in index.get("dialect_options", {}).items()}
    return {**index, "dialect_options": limits}


def migrate_from_nothing(connection: Connection) -> None:
    metadata.drop_all(connection)
    connection.execute(text("DROP TABLE alembic_version"))
    schema.migrate(connection)


async def test_migrations_build_what_the_metadata_says(database: Database) -> None:
    async with database.transaction() as connection:
        created = await connection.run_sync(described)
        await connection.run_sync(migrate_from_nothing)
        assert await connection.run_sync(schema.stored_revision) == schema.HEAD
        assert await connection.run_sync(described) == created
    assert set(created) == set(metadata.tables)


def test_head_is_the_newest_migration() -> None:
    from alembic.script import ScriptDirectory

    folder = Path(schema.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_heads() == [schema.HEAD]


async def test_a_newer_database_is_refused(url: str, database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="newer version"):
        await Database.open(url)


async def test_many_may_open_a_fresh_database_at_once(url: str) -> None:
    databases = await asyncio.gather(*(Database.open(url) for _ in range(5)))
    for database in databases:
        await database.close()


async def test_opening_again_keeps_what_is_there(url: str) -> None:
    row = {
        "id": "1",
        "username": "ada",
        "password_hash": "x",
        "role": "admin",
        "disabled": False,
        "created_at": "2025-01-01T00:00:00Z",
        "updated_at": "2025-01-01T00:00:00Z",
    }
    database = await Database.open(url)
    async with database.transaction() as connection:
        await connection.execute(insert(users).values(row))
    await database.close()
    database = await Database.open(url)
    async with database.read() as connection:
        assert await connection.scalar(select(users.c.username)) == "ada"
    await database.close()


async def test_an_old_database_is_upgraded_with_its_rows(url: str, database: Database) -> None:
    def go_back(connection: Connection) -> None:
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        schema.migrate(connection, "0001")
        connection.execute(
            text(
                "INSERT INTO users (id, username, password_hash, role, disabled, created_at,"
                " updated_at) VALUES ('1', 'ada', 'x', 'admin', :no, '2025', '2025')"
            ),
            {"no": False},
        )
        connection.execute(
            text(
                "INSERT INTO api_keys (id, user_id, name, prefix, sha256, scopes, created_at,"
                " disabled) VALUES ('k', '1', 'n', 'p', '0', '[]', '2025', :no)"
            ),
            {"no": False},
        )

    async with database.transaction() as connection:
        await connection.run_sync(go_back)
    upgraded = await Database.open(url)
    async with upgraded.read() as connection:
        assert await connection.run_sync(schema.stored_revision) == schema.HEAD
        assert await connection.scalar(select(api_keys.c.user_id)) == "1"
        assert await connection.scalar(select(users.c.username)) == "ada"
    await upgraded.close()


async def test_constraints_are_conflicts(database: Database) -> None:
    key = {
        "id": "1",
        "user_id": "nobody",
        "name": "n",
        "prefix": "p",
        "sha256": "0" * 64,
        "scopes": ["a"],
        "created_at": "2025-01-01T00:00:00Z",
        "disabled": False,
    }
    with pytest.raises(Conflict):
        async with database.transaction() as connection:
            await connection.execute(insert(api_keys).values(key))


async def test_sql_errors_do_not_leak(database: Database) -> None:
    with pytest.raises(InfernoError) as caught:
        async with database.read() as connection:
            await connection.execute(text("SELECT secret FROM nowhere"))
    assert "nowhere" not in caught.value.message


async def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO meta VALUES ('a', 'b')"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM meta")) == 0


async def test_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "inferno.db"
    database = await Database.open(f"sqlite+aiosqlite:///{path}")
    async with database.transaction() as connection:
        await connection.execute(text("INSERT INTO meta VALUES ('a', 'b')"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    await database.close()
    assert modes == {"inferno.db": 0o600, "inferno.db-wal": 0o600, "inferno.db-shm": 0o600}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://u:secret@h/d",
        "sqlite+aiosqlite:////proc/nowhere/x.db",
        "postgresql+asyncpg://u:secret@127.0.0.1:1/d",
        "postgresql+asyncpg://u:secret@127.0.0.1:1/d?sslmode=disable",
        "postgresql+asyncpg://u:secret@127.0.0.1:1/d?no_such_option=1",
    ],
)
async def test_an_address_that_cannot_work_is_said_so(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await Database.open(url)
    assert "secret" not in caught.value.message


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are my notes\n" * 100)
    with pytest.raises(ConfigurationError):
        await Database.open(f"sqlite+aiosqlite:///{path}")


def test_opening_loads_only_what_it_needs(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
async def main():
    database = await Database.open("sqlite+aiosqlite:///{tmp_path}/x.db")
    await (await SqlResourceStore.open(database)).close()
    await database.close()
asyncio.run(main())
print(sorted({{"alembic", "asyncpg"}} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert result.stdout.strip() == "[]"
