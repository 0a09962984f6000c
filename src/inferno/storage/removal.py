"""How a resource goes, and what goes with it: all of it in the transaction of one journal."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from inferno.core.resources import Resource
from inferno.storage import transitions
from inferno.storage.base import Propagation
from inferno.storage.documents import timestamp
from inferno.storage.journal import Journal

R = TypeVar("R", bound=Resource)

FOREGROUND_FINALIZER = "foregroundDeletion"
"""Holds an owner until its last dependent is gone; Kubernetes' own name for it."""


async def delete(journal: Journal, key: str, resource: R, how: Propagation) -> R:
    """Remove a resource, or mark it while finalizers hold it, and return its last state.

    Args:
        journal: of the transaction.
        key: the resource's kind.
        resource: its current state.
        how: what becomes of its dependents.
    """
    if how == "Orphan":
        await _set_free(journal, resource.metadata.uid)
    if how == "Foreground":
        held = transitions.going(resource, at=timestamp(), held_by=FOREGROUND_FINALIZER)
        resource = await journal.replace(key, resource, held)
        for dependent_key, dependent in await journal.dependents(resource.metadata.uid):
            await delete(journal, dependent_key, dependent, "Background")
        # The removal of the last dependent may have taken the owner with it.
        left = await journal.find_uid(resource.metadata.uid)
        if left is None:
            return resource
        if not await journal.dependents(resource.metadata.uid):
            return await _release(journal, key, resource)
        return resource
    marked = transitions.going(resource, at=timestamp())
    if transitions.is_gone(marked.metadata):
        return await remove(journal, key, marked)
    return await journal.replace(key, resource, marked)


async def remove(journal: Journal, key: str, resource: R) -> R:
    """Remove a resource, whatever it leaves without an owner, and owners that waited for it."""
    removed = await journal.remove(key, resource)
    gone: deque[Resource] = deque([resource])
    while gone:
        last = gone.popleft()
        for orphan_key, orphan in await journal.orphans(last.metadata.uid):
            marked = transitions.going(orphan, at=timestamp())
            if transitions.is_gone(marked.metadata):
                await journal.remove(orphan_key, marked)
                gone.append(marked)
            else:
                await journal.replace(orphan_key, orphan, marked)
        for owner in last.metadata.owner_references:
            await _let_owner_go(journal, owner.uid)
    return removed


async def _let_owner_go(journal: Journal, uid: str) -> None:
    """Remove an owner that was deleted in the foreground, if nothing is left to wait for."""
    found = await journal.find_uid(uid)
    if found is None:
        return
    key, owner = found
    waits = FOREGROUND_FINALIZER in owner.metadata.finalizers
    if waits and owner.metadata.deletion_timestamp and not await journal.dependents(uid):
        await _release(journal, key, owner)


async def _release(journal: Journal, key: str, owner: R) -> R:
    """Take the finalizer off an owner without dependents, and remove it if it was the last."""
    free = transitions.released(owner, FOREGROUND_FINALIZER)
    if transitions.is_gone(free.metadata):
        return await remove(journal, key, free)
    return await journal.replace(key, owner, free)


async def _set_free(journal: Journal, owner_uid: str) -> None:
    """Make all dependents of an owner outlive it."""
    for key, dependent in await journal.dependents(owner_uid):
        await journal.replace(key, dependent, transitions.disowned(dependent, owner_uid))
