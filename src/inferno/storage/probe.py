"""Whether the database answers, for whoever watches the platform's health."""

from __future__ import annotations

import asyncio
import time

import structlog
from sqlalchemy import select

from inferno.core.errors import InfernoError
from inferno.storage.database import Database

INTERVAL_SECONDS = 1.0
"""A database is asked at most so often, however many ask for its health."""

PATIENCE_SECONDS = 1.0
"""One that takes longer to answer counts as lost."""

log = structlog.get_logger(__name__)


class DatabaseProbe:
    """Asks the database now and then, when somebody wants to know; its owner closes it.

    A driver may wait for a minute for a server that was cut off, and must not be interrupted. So
    the question is a task of its own, which nobody waits for longer than `PATIENCE_SECONDS`.

    Args:
        database: to ask.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asking: asyncio.Task[bool] | None = None
        self._asked_at = float("-inf")

    async def answers(self) -> bool:
        """Return whether the database answered the latest question in time."""
        now = time.monotonic()
        asking = self._asking
        if asking is None or (asking.done() and now - self._asked_at >= INTERVAL_SECONDS):
            asking = self._asking = asyncio.get_running_loop().create_task(self._ask())
            self._asked_at = now
        left = self._asked_at + PATIENCE_SECONDS - now
        if not asking.done() and left > 0:
            await asyncio.wait({asking}, timeout=left)
        return asking.done() and not asking.cancelled() and asking.result()

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking}, timeout=PATIENCE_SECONDS)

    async def _ask(self) -> bool:
        try:
            async with self._database.read() as connection:
                await connection.execute(select(1))
        except InfernoError:
            return False
        except Exception:  # whatever it is, the database did not answer
            log.exception("database_probe_failed")
            return False
        return True
