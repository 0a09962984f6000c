"""Telling the runtime of replicas whose streams fell silent: their engine may be stuck.

A stuck engine may well answer health checks, which another thread of it does. Only those who wait
for its words notice; the runtime then looks whether it works, and starts it again if it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog

from inferno.core.errors import InfernoError
from inferno.core.resources import SUSPECTED_ANNOTATION, Pod
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.following import split_place
from inferno.storage.base import ResourceStore

PAUSE_SECONDS = 5.0
"""Between two reports: many streams of one engine fall silent together."""

log = structlog.get_logger(__name__)


class Suspicions:
    """Notes replicas that fell silent, and writes that on their pods.

    Args:
        store: where the pods are.
    """

    def __init__(self, store: ResourceStore) -> None:
        self._store = store
        self._noted: dict[str, Endpoint] = {}
        self._bell = asyncio.Event()

    def note(self, endpoint: Endpoint) -> None:
        """Note an endpoint; those that others run are theirs to look after."""
        if not endpoint.remote:
            self._noted[endpoint.name] = endpoint
            self._bell.set()

    @asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """Report what is noted while the block runs."""
        async with asyncio.TaskGroup() as tasks:
            reporter = tasks.create_task(self._report())
            yield
            reporter.cancel()

    async def _report(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            noted, self._noted = self._noted, {}
            for endpoint in noted.values():
                await self._tell(endpoint)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _tell(self, endpoint: Endpoint) -> None:
        namespace, _ = split_place(endpoint.model)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        log.warning("replica_silent", replica=endpoint.name)

        def change(pod: Pod) -> None:
            pod.metadata.annotations[SUSPECTED_ANNOTATION] = now

        try:
            await self._store.modify(Pod, endpoint.name, change, namespace=namespace)
        except InfernoError as error:  # it is gone, or the store is away
            log.info("silence_not_reported", replica=endpoint.name, error=error.message)
