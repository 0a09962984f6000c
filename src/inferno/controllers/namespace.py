"""Takes away what is in a namespace that is being deleted, and then the namespace."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from inferno.controllers.loop import Key, Loop, Source, own_key
from inferno.core.cluster import NAMESPACE_FINALIZER, Namespace
from inferno.core.errors import Conflict, NotFound
from inferno.core.resources import Resource
from inferno.storage.base import ResourceStore

_log = structlog.get_logger(__name__)


class NamespaceController:
    """Looks after namespaces on their way out.

    Args:
        store: where they are.
        kinds: all that can be in one.
    """

    def __init__(self, store: ResourceStore, kinds: Sequence[type[Resource]]) -> None:
        self._store = store
        self._kinds = tuple(kinds)

    def loop(self, *, resync: float = 30.0) -> Loop:
        """Return the loop that runs this controller.

        Args:
            resync: seconds between looks at every namespace.
        """
        sources = [Source(Namespace, own_key)]
        return Loop("namespace", self._store, sources, self.reconcile, resync=resync)

    async def reconcile(self, key: Key) -> None:
        """Look at one namespace, and act.

        Raises:
            Conflict: some of what is in it still has something to finish; look again.
        """
        try:
            namespace = await self._store.get(Namespace, key.name)
        except NotFound:
            return
        if namespace.metadata.deletion_timestamp is None:
            return
        left = 0
        for kind in self._kinds:
            left += await self._empty(kind, key.name)
        if left:
            raise Conflict(f"{left} resources in namespace '{key.name}' are still going.")
        try:
            await self._store.modify(Namespace, key.name, _release)
        except NotFound:
            return
        _log.info("namespace_removed", namespace=key.name)

    async def _empty(self, kind: type[Resource], namespace: str) -> int:
        """Delete what there is of a kind, and return how many resources are left."""
        found, _ = await self._store.list(kind, namespace=namespace)
        left = 0
        for resource in found:
            try:
                last = await self._store.delete(kind, resource.metadata.name, namespace)
            except NotFound:
                continue
            left += bool(last.finalizers)
        return left


def _release(namespace: Namespace) -> None:
    names = namespace.metadata.finalizers
    namespace.metadata.finalizers = [name for name in names if name != NAMESPACE_FINALIZER]
