"""What an `InferenceObjective` says of itself: whether requests may name it."""

from __future__ import annotations

from collections.abc import Collection

from inferno.controllers.inference_model import pool_problem
from inferno.controllers.loop import Key, Loop, Source
from inferno.controllers.reporting import namespace_key, report
from inferno.core.conditions import present, settled
from inferno.core.inference_objectives import InferenceObjective, InferenceObjectiveStatus
from inferno.core.inference_pools import InferencePool
from inferno.core.resources import Condition
from inferno.storage.base import ResourceStore


def verdict(objective: InferenceObjective, pools: Collection[str]) -> Condition:
    """Return the condition `Accepted` of an objective, without its time.

    Args:
        objective: which.
        pools: names of the pools in its namespace.
    """
    reference, namespace = objective.spec.pool_ref.reference, objective.metadata.namespace
    problem = pool_problem(reference, pools, namespace)
    if problem:
        return Condition(type="Accepted", status="False", reason="PoolNotFound", message=problem)
    message = f"Requests that name it are {objective.spec.criticality}."
    return Condition(type="Accepted", status="True", reason="Accepted", message=message)


class InferenceObjectiveController:
    """Keeps the status of objectives true.

    Args:
        store: holds objectives and pools.
    """

    def __init__(self, store: ResourceStore) -> None:
        self._store = store

    def loop(self, *, resync: float = 300.0) -> Loop:
        """Return the loop that runs this controller.

        Args:
            resync: seconds between looks at everything.
        """
        sources = [Source(InferenceObjective, namespace_key), Source(InferencePool, namespace_key)]
        return Loop("inference_objective", self._store, sources, self.reconcile, resync=resync)

    async def reconcile(self, key: Key) -> None:
        """Look at all objectives of a namespace. Raises what the store raises."""
        objectives, _ = await self._store.list(InferenceObjective, namespace=key.namespace)
        if not objectives:
            return
        pools, _ = await self._store.list(InferencePool, namespace=key.namespace)
        names, now = {pool.metadata.name for pool in pools}, present()
        for objective in objectives:
            conditions = settled(
                objective.status.conditions,
                [verdict(objective, names)],
                generation=objective.metadata.generation,
                now=now,
            )
            await report(self._store, objective, InferenceObjectiveStatus(conditions=conditions))
