"""Keeping a picture of one kind of resource fresh: list, then watch from there, for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import structlog

from inferno.core.errors import Expired
from inferno.core.resources import DEFAULT_NAMESPACE, Resource
from inferno.storage.base import ResourceStore
from inferno.storage.outage import Outage

R = TypeVar("R", bound=Resource)

RETRY_SECONDS = 1.0
"""Before the store is asked again after an error."""

log = structlog.get_logger(__name__)


def place_of(resource: Resource) -> str:
    """Return the name of a resource in a picture of its kind: short in the shared namespace."""
    return join_place(resource.metadata.namespace, resource.metadata.name)


def join_place(namespace: str, name: str) -> str:
    """Return the place of the resource of a name in a namespace."""
    return name if namespace == DEFAULT_NAMESPACE else f"{namespace}/{name}"


def split_place(place: str) -> tuple[str, str]:
    """Return the namespace and the name that a place in a picture stands for."""
    namespace, _, name = place.rpartition("/")
    return namespace or DEFAULT_NAMESPACE, name


async def follow(
    store: ResourceStore,
    kind: type[R],
    known: dict[str, R],
    on_change: Callable[[R, bool], None],
    ready: asyncio.Event,
) -> None:
    """Keep track of one kind for ever; while the store is away, what was known still holds.

    Args:
        store: where it is kept.
        kind: what to follow.
        known: the picture to keep, by `place_of`.
        on_change: called with each resource that is new or has changed, once the picture has it,
            and whether it is gone.
        ready: set when the picture is complete for the first time.
    """
    outage = Outage(log.bind(kind=kind.KIND.kind))

    def complete() -> None:
        outage.over()
        ready.set()

    while True:
        try:
            await _follow_once(store, kind, known, on_change, complete)
        except Expired:
            log.info("watch_expired", kind=kind.KIND.kind)
        except Exception as error:
            if not outage.explains(error):
                log.exception("watch_failed", kind=kind.KIND.kind)
            await asyncio.sleep(RETRY_SECONDS)


async def _follow_once(
    store: ResourceStore,
    kind: type[R],
    known: dict[str, R],
    on_change: Callable[[R, bool], None],
    complete: Callable[[], None],
) -> None:
    """List, then watch from there. Raises what the store raises."""
    listed, version = await store.list(kind)
    present = {place_of(resource) for resource in listed}
    for place in known.keys() - present:
        on_change(known.pop(place), True)
    for resource in listed:
        known[place_of(resource)] = resource
        on_change(resource, False)
    complete()
    async for event in store.watch(kind, since=version):
        gone = event.type == "DELETED"
        if gone:
            known.pop(place_of(event.resource), None)
        else:
            known[place_of(event.resource)] = event.resource
        on_change(event.resource, gone)
