"""The stores under test: SQLite in a temporary folder, and a Postgres server of our own."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from tests.postgres_server import PostgresServer

_ROOT = Path(__file__).parents[3]
_EMPTY = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "DROP SCHEMA public CASCADE",
    "CREATE SCHEMA public",
)


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[str]:
    """Start a Postgres server on a Unix socket; gives the socket's folder."""
    with PostgresServer() as server:
        yield server.folder


@pytest.fixture(params=["sqlite", "postgres"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The address of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/inferno.db"
        return
    folder = request.getfixturevalue("postgres_folder")
    admin = await asyncpg.connect(host=folder, user="postgres", database="postgres")
    for statement in _EMPTY:
        await admin.execute(statement)
    await admin.close()
    yield f"postgresql+asyncpg://postgres@/postgres?host={folder}"


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = await Database.open(url)
    yield database
    await database.close()


@pytest.fixture
async def store(database: Database) -> AsyncIterator[SqlResourceStore]:
    store = await SqlResourceStore.open(database)
    yield store
    await store.close()


@pytest.fixture
async def other_store(url: str, store: SqlResourceStore) -> AsyncIterator[SqlResourceStore]:
    """A second store over the same database, as another process would have it."""
    database = await Database.open(url)
    other = await SqlResourceStore.open(database)
    yield other
    await other.close()
    await database.close()


@pytest.fixture
def start_writer(url: str) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a process that writes; see `writer`."""
    started: list[subprocess.Popen[str]] = []

    def start(action: str, *arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.contract.storage.writer", url, action, *arguments],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT / "src")},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
