"""A connection that no cancellation interrupts, and that speaks in core errors.

A driver that is cancelled in a statement leaves the connection in an unknown state: SQLAlchemy
then throws it away, and a thrown-away SQLite connection can keep the write lock of its file for
seconds. Statements are short, so a cancellation waits for the statement to end; between two
statements it comes through, and the transaction is rolled back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import Conflict, InfernoError, Overloaded

T = TypeVar("T")

# Postgres: connection lost, deadlock, out of resources, lock timeout, shutting down.
_PASSING_STATES = ("08", "40", "53", "55P03", "57")


class Connection(AsyncConnection):
    """An `AsyncConnection` for one transaction of `Database`."""

    async def open(self) -> None:
        """Take a connection from the pool and begin a transaction. Raises Overloaded."""
        try:
            await _completed(self._begin())
        except Exception as error:  # drivers and sockets raise errors of their own kinds here
            raise _unavailable() from error

    async def execute(self, *args: Any, **options: Any) -> Any:
        """Run a statement; `scalar` and `scalars` come through here too."""
        return await _driven(super().execute(*args, **options))

    async def run_sync(self, *args: Any, **options: Any) -> Any:
        """Run a function with the synchronous connection."""
        return await _driven(super().run_sync(*args, **options))

    async def commit(self) -> None:
        """Commit the transaction."""
        await _driven(super().commit())

    async def close(self) -> None:
        """Give the connection back; what was not committed is undone."""
        if self.sync_connection is not None:
            await _driven(super().close())

    async def _begin(self) -> None:
        await self.start()
        await self.begin()


async def _driven(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await _completed(work)
    except IntegrityError as error:
        raise Conflict("The write conflicts with what is stored.") from error
    except SQLAlchemyError as error:
        raise _core_error(error) from error
    except OSError as error:  # of the socket; time-outs among them
        raise _unavailable() from error


async def _completed(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:  # impatience changes nothing
                continue
        if not task.cancelled():
            task.exception()  # the caller no longer wants to know
        raise


def _core_error(error: SQLAlchemyError) -> InfernoError:
    if isinstance(error, OperationalError | InterfaceError | PoolTimeoutError):
        return _unavailable()
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or ""
        if error.connection_invalidated or state.startswith(_PASSING_STATES):
            return _unavailable()
    return InfernoError("The database could not do the operation.")


def _unavailable() -> Overloaded:
    return Overloaded("The database does not answer.", retry_after=1)
