"""The loop that all controllers share: whatever changes, look at the whole object again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

from inferno.controllers.queue import WorkQueue
from inferno.core.errors import Conflict, Expired
from inferno.core.resources import Resource
from inferno.storage.base import ResourceStore
from inferno.storage.outage import Outage

_log = structlog.get_logger(__name__)

_PAUSE = 1.0  # seconds before the store is asked again after an error


class Key(NamedTuple):
    """Names the object that a controller works on."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Source:
    """A kind whose changes matter to a controller.

    Args:
        kind: what to watch.
        keys: which of the controller's objects a changed resource concerns.
    """

    kind: type[Resource]
    keys: Callable[[Any], Iterable[Key]]


def own_key(resource: Resource) -> tuple[Key]:
    """Return the resource's own key, for the kind that a controller is about."""
    return (Key(resource.metadata.namespace, resource.metadata.name),)


class Loop:
    """Calls `reconcile` for every object that may have changed, one at a time.

    Level-triggered: events only say where to look. An object whose reconciliation raises is tried
    again after a growing pause; all objects are looked at again every `resync` seconds.

    Args:
        name: for the log.
        store: what is watched.
        sources: which changes matter.
        reconcile: looks at one object and acts.
        resync: seconds between looks at everything.
    """

    def __init__(
        self,
        name: str,
        store: ResourceStore,
        sources: Sequence[Source],
        reconcile: Callable[[Key], Awaitable[None]],
        *,
        resync: float = 30.0,
    ) -> None:
        self._store = store
        self._sources = sources
        self._reconcile = reconcile
        self._resync = resync
        self._queue: WorkQueue[Key] = WorkQueue()
        self._log = _log.bind(controller=name)
        self._outage = Outage(self._log)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Runs once."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._follow(source)) for source in self._sources]
                tasks.append(group.create_task(self._look_again()))
                tasks.append(group.create_task(self._work()))
                await stop.wait()
                for task in tasks:
                    task.cancel()
        finally:
            self._queue.close()

    def add(self, key: Key) -> None:
        """Have an object looked at soon, for a reason that no source knows of."""
        self._queue.add(key)

    async def _follow(self, source: Source) -> None:
        """Keep track of one kind, beginning anew whenever the thread is lost."""
        while True:
            try:
                version = await self._enqueue_all(source)
                async for event in self._store.watch(source.kind, since=version):
                    self._enqueue(source, event.resource)
            except Expired:
                continue
            except Exception as error:
                if not self._outage.explains(error):
                    self._log.exception("watch_failed", kind=source.kind.KIND.kind)
            await asyncio.sleep(_PAUSE)

    async def _look_again(self) -> None:
        """Queue everything from time to time, in case an event or an effect was missed."""
        while True:
            await asyncio.sleep(self._resync)
            try:
                for source in self._sources:
                    await self._enqueue_all(source)
            except Exception as error:
                if not self._outage.explains(error):
                    self._log.exception("resync_failed")

    async def _work(self) -> None:
        """Reconcile keys as they come."""
        while True:
            key = await self._queue.take()
            try:
                await self._reconcile(key)
            except Conflict:  # somebody else wrote meanwhile: look again
                self._queue.retry(key)
            except Exception as error:
                delay = self._queue.retry(key)
                if not self._outage.explains(error):
                    self._log.exception(
                        "reconcile_failed",
                        namespace=key.namespace,
                        name=key.name,
                        retry_in_seconds=delay,
                    )
            else:
                self._queue.forget(key)

    async def _enqueue_all(self, source: Source) -> int:
        """Queue what all resources of a kind concern; returns the version that was seen."""
        resources, version = await self._store.list(source.kind)
        self._outage.over()
        for resource in resources:
            self._enqueue(source, resource)
        return version

    def _enqueue(self, source: Source, resource: Resource) -> None:
        """Queue what one resource concerns."""
        for key in source.keys(resource):
            self._queue.add(key)
