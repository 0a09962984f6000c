"""Writing a status, when it is news."""

from __future__ import annotations

from typing import TypeVar

from inferno.controllers.loop import Key
from inferno.core.errors import NotFound
from inferno.core.resources import Resource
from inferno.storage.base import ResourceStore

R = TypeVar("R", bound=Resource)


async def report(store: ResourceStore, resource: R, status: object) -> None:
    """Write the status of a resource if it is another than it has.

    Raises:
        Conflict: the resource changed since it was read; look again.
    """
    if resource.status == status:
        return
    resource.status = status
    try:
        await store.update_status(resource)
    except NotFound:  # the event of its deletion brings us back
        return


def namespace_key(resource: Resource) -> tuple[Key]:
    """Return a key for all that is in the resource's namespace.

    For controllers whose objects depend on each other: what a changed label or a name that became
    free means for whom only shows when all of them are looked at together.
    """
    return (Key(resource.metadata.namespace, ""),)
