"""The one owner of database connections."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, Self

from sqlalchemy import URL, func, make_url, select
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from inferno.core.errors import ConfigurationError, InfernoError
from inferno.storage.connection import Connection
from inferno.storage.schema import upgrade

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


Gate = AbstractAsyncContextManager[None]


class Backend(Protocol):
    """What the modules `sqlite` and `postgres` provide."""

    def create_engines(self, url: URL) -> tuple[AsyncEngine, AsyncEngine]:
        """Return the engines for reading and for writing, over one pool of connections."""

    def create_gates(self, url: URL) -> tuple[Gate, Gate]:
        """Return what readers and what writers wait at for a free connection."""


class Notices(Protocol):
    """A connection that hears of other processes' writes."""

    async def ensure(self) -> None:
        """Connect, unless connected."""

    async def close(self) -> None:
        """Disconnect."""


class Database:
    """A database whose schema is current. Make one with `open`; use it on one event loop.

    Transactions must not be nested: a second one waits for a connection that the first holds.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self.is_postgres = url.get_backend_name() == "postgresql"
        backend = self._backend()
        self._reader, self._writer = backend.create_engines(url)
        # Waiting for a connection happens at these gates, where it can be cancelled.
        self._read_gate, self._write_gate = backend.create_gates(url)

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect and bring the schema up to date.

        Args:
            url: `sqlite+aiosqlite:///PATH`, `sqlite+aiosqlite:///:memory:` or
                `postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE`.

        Raises:
            ConfigurationError: the address is wrong, the database cannot be reached, or a newer
                version of the platform wrote it.
        """
        parsed = _parse(url)
        try:
            database = cls(parsed)
        except ImportError as error:
            raise ConfigurationError(
                "Postgres needs the asyncpg driver: pip install 'inferno[postgres]'"
            ) from error
        except (OSError, SQLAlchemyError) as error:
            raise _cannot_open(parsed, error) from error
        try:
            # Plainly, so that the driver's own words reach whoever set the address.
            async with database._writer.begin() as connection:
                await connection.run_sync(upgrade)
        except BaseException as error:
            await database.close()
            if isinstance(error, InfernoError) or not isinstance(error, Exception):
                raise
            raise _cannot_open(parsed, error) from error
        return database

    async def close(self) -> None:
        """Close all connections."""
        await self._writer.dispose()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection whose writes are committed at the end, or undone on an exception.

        A caller that is cancelled in the last moment may find its writes committed.

        Raises:
            Conflict: the writes break a constraint: the name is taken, or the owner is missing.
            Overloaded: the database cannot be reached or stays busy.
        """
        async with self._write_gate, _connected(self._writer) as connection:
            yield connection
            await connection.commit()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection for reading; all it reads is of one moment.

        Raises:
            Overloaded: the database cannot be reached or stays busy.
        """
        async with self._read_gate, _connected(self._reader) as connection:
            yield connection

    async def announce(self, connection: AsyncConnection, channel: str) -> None:
        """Tell listeners in other processes, once the transaction commits, that they should look.

        SQLite has no such notices: there the others find out by looking.
        """
        if self.is_postgres:
            await connection.execute(select(func.pg_notify(channel, "")))

    def listener(self, channel: str, heard: Callable[[], None]) -> Notices | None:
        """Return a listener for `announce`, or None where the database has no notices."""
        if not self.is_postgres:
            return None
        from inferno.storage.postgres import Listener

        return Listener(self._writer, channel, heard)

    def _backend(self) -> Backend:
        # Imported here, so that neither driver is loaded for the other.
        if self.is_postgres:
            from inferno.storage import postgres

            return postgres
        from inferno.storage import sqlite

        return sqlite


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError("The database address is not a URL.") from error
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ConfigurationError(
            f"'{parsed.drivername}' databases are not supported; use sqlite+aiosqlite:///PATH or "
            "postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE."
        )
    return parsed.set(drivername=driver)


def _cannot_open(url: URL, error: Exception) -> ConfigurationError:
    cause = str(getattr(error, "orig", None) or error).splitlines()
    return ConfigurationError(
        f"The database {url.render_as_string(hide_password=True)} cannot be opened: "
        f"{cause[0] if cause else type(error).__name__}"
    )


@contextlib.asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[Connection]:
    connection = Connection(engine)
    try:
        await connection.open()
        yield connection
    finally:
        await connection.close()
