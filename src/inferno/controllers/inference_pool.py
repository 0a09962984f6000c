"""What an `InferencePool` says of itself: whether it is served, and how many endpoints it has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inferno.controllers.loop import Key, Loop, Source
from inferno.controllers.reporting import namespace_key, report
from inferno.core.conditions import present, settled
from inferno.core.inference_pools import InferencePool, InferencePoolStatus
from inferno.core.model_servers import ModelServer
from inferno.core.pool_members import Member, members
from inferno.core.resources import Condition, Pod
from inferno.storage.base import ResourceStore


def status_of(pool: InferencePool, found: Sequence[Member], *, now: str) -> InferencePoolStatus:
    """Return the status of a pool.

    Args:
        pool: with the status that it has now.
        found: its members.
        now: RFC 3339, for conditions that change.
    """
    ready = sum(member.ready for member in found)
    observed = (_accepted(pool), _resolved(pool), _ready(pool, ready, len(found)))
    return InferencePoolStatus(
        endpoints=len(found),
        ready_endpoints=ready,
        conditions=settled(
            pool.status.conditions, observed, generation=pool.metadata.generation, now=now
        ),
    )


def _accepted(pool: InferencePool) -> Condition:
    if pool.spec.app_protocol == "kubernetes.io/h2c":
        return Condition(
            type="Accepted",
            status="False",
            reason="NotSupportedByParent",
            message="This gateway speaks HTTP/1.1 to model servers; appProtocol must be http.",
        )
    return Condition(
        type="Accepted", status="True", reason="Accepted", message="This gateway serves the pool."
    )


def _resolved(pool: InferencePool) -> Condition:
    picker = pool.spec.endpoint_picker
    message = (
        "There are no references to resolve."
        if picker is None
        else f"This gateway picks endpoints itself and does not ask '{picker.name}'."
    )
    return Condition(type="ResolvedRefs", status="True", reason="ResolvedRefs", message=message)


def _ready(pool: InferencePool, ready: int, known: int) -> Condition:
    if ready:
        message = f"{ready} of {known} endpoints can answer."
        return Condition(type="Ready", status="True", reason="Ready", message=message)
    if not pool.spec.selector:
        reason, message = "EmptySelector", "The selector is empty, and so is the pool."
    elif not known:
        reason = "NoEndpoints"
        message = "No replica and no ModelServer carries the labels of the selector."
    else:
        reason, message = "NoReadyEndpoints", f"None of {known} endpoints can answer."
    return Condition(type="Ready", status="False", reason=reason, message=message)


class InferencePoolController:
    """Keeps the status of pools true.

    Args:
        store: holds pools, replicas and model servers.
    """

    def __init__(self, store: ResourceStore) -> None:
        self._store = store

    def loop(self, *, resync: float = 300.0) -> Loop:
        """Return the loop that runs this controller.

        Args:
            resync: seconds between looks at everything.
        """
        kinds = (InferencePool, Pod, ModelServer)
        sources = [Source(kind, namespace_key) for kind in kinds]
        return Loop("inference_pool", self._store, sources, self.reconcile, resync=resync)

    async def reconcile(self, key: Key) -> None:
        """Look at all pools of a namespace. Raises what the store raises."""
        pools, _ = await self._store.list(InferencePool, namespace=key.namespace)
        if not pools:
            return
        pods, _ = await self._store.list(Pod, namespace=key.namespace)
        servers, _ = await self._store.list(ModelServer, namespace=key.namespace)
        await self._report(pools, pods, servers)

    async def _report(
        self, pools: Iterable[InferencePool], pods: Sequence[Pod], servers: Sequence[ModelServer]
    ) -> None:
        now = present()
        for pool in pools:
            found = members(pool, pods, servers)
            await report(self._store, pool, status_of(pool, found, now=now))
