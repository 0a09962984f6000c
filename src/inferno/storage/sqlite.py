"""What is particular to SQLite: one file, one writer at a time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

_BEGIN = "inferno_begin"
_READERS = 4
_PRAGMAS = (
    "PRAGMA busy_timeout = 10000",
    "PRAGMA journal_mode = WAL",
    # NORMAL would keep what was committed when the process dies, but not when the power fails.
    # FULL costs one fsync per write, and writes here are people's and controllers', not requests'.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
)


def is_memory(url: URL) -> bool:
    """Say whether the database lives in memory, in one connection."""
    return url.database in (None, "", ":memory:")


def create_engines(url: URL) -> tuple[AsyncEngine, AsyncEngine]:
    """Return the engines for reading and for writing, over one pool of connections.

    Args:
        url: `sqlite+aiosqlite:///PATH`. The file is created with mode 0600, since it holds
            password hashes; SQLite gives its journals the same mode.

    Raises:
        OSError: the file cannot be created.
    """
    pool: dict[str, Any]
    if is_memory(url):
        pool = {"poolclass": StaticPool}
    else:
        _create_file(Path(url.database or ""))
        pool = {"pool_size": _READERS + 1, "max_overflow": 0}  # kept: opening one starts a thread
    # No isolation level: the driver then leaves BEGIN to us.
    engine = create_async_engine(url, connect_args={"isolation_level": None}, **pool)
    event.listen(engine.sync_engine, "connect", _configure)
    event.listen(engine.sync_engine, "begin", _begin)
    # A transaction that may write takes the write lock at its start: taken later, it could fail.
    return engine, engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})


def create_gates(url: URL) -> tuple[asyncio.Lock | asyncio.Semaphore, asyncio.Lock]:
    """Return what readers and what writers wait at for a free connection.

    Writers in this process queue here rather than poll for SQLite's lock, which is unfair.
    """
    writers = asyncio.Lock()
    return (writers if is_memory(url) else asyncio.Semaphore(_READERS)), writers


def _create_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _configure(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))
