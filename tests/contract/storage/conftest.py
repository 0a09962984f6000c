"""The stores under test: SQLite in a temporary folder, and a Postgres server of our own."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore

_ROOT = Path(__file__).parents[3]
_EMPTY = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "DROP SCHEMA public CASCADE",
    "CREATE SCHEMA public",
)


def _postgres_binaries() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda path: int(path.parents[1].name),
    )
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path:
        return Path(on_path).parent
    pytest.fail("The Postgres server is missing; install it: apt-get install postgresql")


def _wait_until_ready(binaries: Path, folder: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        ready = subprocess.run([binaries / "pg_isready", "-q", "-h", folder], check=False)
        if ready.returncode == 0:
            return
        time.sleep(0.05)
    pytest.fail("Postgres did not start:\n" + Path(folder, "log").read_text())


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[str]:
    """Start a Postgres server on a Unix socket; gives the socket's folder."""
    binaries = _postgres_binaries()
    # Not in pytest's folder: a socket's path has to be short, and the server's user owns it.
    folder = tempfile.mkdtemp(prefix="inferno-pg-")
    account = pwd.getpwuid(os.geteuid())
    if account.pw_uid == 0:  # the server refuses to run as root
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
    data = str(Path(folder, "data"))
    initdb = [str(binaries / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run(
        [*initdb, "-E", "UTF8", "--locale=C.UTF-8"],
        check=True,
        capture_output=True,
        cwd=folder,
        user=account.pw_uid,
        group=account.pw_gid,
    )
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": folder,
        "fsync": "off",
        "max_connections": "60",
    }
    flags = [f"-c{name}={value}" for name, value in settings.items()]
    with Path(folder, "log").open("wb") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, *flags],
            stdout=log,
            stderr=log,
            cwd=folder,
            user=account.pw_uid,
            group=account.pw_gid,
        )
    try:
        _wait_until_ready(binaries, folder, server)
        yield folder
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


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
