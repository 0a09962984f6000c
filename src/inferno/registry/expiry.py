"""Entries that stop their heartbeat: marked first, to be seen, then removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from inferno.core.errors import InfernoError
from inferno.registry.catalog import Catalog

LOOK_EVERY = 1.0
AT_ONCE = 100

log = structlog.get_logger(__name__)


class Expiry:
    """Looks for entries whose time is over.

    Args:
        catalog: where they are.
        retention: seconds that a marked entry stays.
    """

    def __init__(self, catalog: Catalog, *, retention: float) -> None:
        self._catalog = catalog
        self._retention = retention

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look while the block runs."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._run())
            try:
                yield
            finally:
                task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                done = await self._catalog.expire(keep_seconds=self._retention, at_once=AT_ONCE)
            except InfernoError as error:
                log.warning("registry_not_looked_through", error=error.message)
                done = 0
            if done < AT_ONCE:
                await asyncio.sleep(LOOK_EVERY)
