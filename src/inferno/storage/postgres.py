"""What is particular to Postgres: snapshots for reading, and notices between processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from inferno.core.errors import Overloaded

_CONNECTIONS = 12
_SESSION = {
    # A process that is stopped or cut off in a write must not hold up the others for ever.
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
}


def create_engines(url: URL) -> tuple[AsyncEngine, AsyncEngine]:
    """Return the engines for reading and for writing, over one pool of connections.

    Args:
        url: `postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE`.

    Raises:
        ImportError: asyncpg is not installed.
    """
    engine = create_async_engine(
        _with_ssl(url),
        pool_size=4,
        max_overflow=_CONNECTIONS - 4,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
        connect_args={"server_settings": _SESSION, "timeout": 10, "command_timeout": 60},
    )
    # Everything that one read transaction returns is of one moment.
    reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return reader, engine


def create_gates(_url: URL) -> tuple[asyncio.Semaphore, asyncio.Semaphore]:
    """Return what readers and what writers wait at for a free connection."""
    gate = asyncio.Semaphore(_CONNECTIONS)
    return gate, gate


class Listener:
    """Hears notices of other processes, on a connection of its own.

    Args:
        engine: whose address to connect to.
        channel: name of the notices.
        heard: called for each notice, on the event loop.
    """

    def __init__(self, engine: AsyncEngine, channel: str, heard: Callable[[], None]) -> None:
        self._engine = engine
        self._channel = channel
        self._heard = heard
        self._connection: Any = None

    async def ensure(self) -> None:
        """Connect, unless connected. Raises Overloaded when that fails."""
        if self._connection is not None and not self._connection.is_closed():
            return
        import asyncpg  # type: ignore[import-untyped]

        args, options = self._engine.dialect.create_connect_args(self._engine.url)
        options.pop("prepared_statement_cache_size", None)
        try:
            self._connection = await asyncpg.connect(*args, **options)
            await self._connection.add_listener(self._channel, self._on_notice)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Overloaded("The database does not answer.", retry_after=1) from error

    async def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            with contextlib.suppress(OSError, TimeoutError):
                await connection.close(timeout=2)

    def _on_notice(self, *_: object) -> None:
        self._heard()


def _with_ssl(url: URL) -> URL:
    # Addresses are commonly written for libpq, which says `sslmode` where asyncpg says `ssl`.
    mode = url.query.get("sslmode")
    if mode is None:
        return url
    return url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
