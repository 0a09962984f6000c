"""What an `InferenceModel` says of itself: whether its name can be asked for, and if not, why."""

from __future__ import annotations

from collections.abc import Collection

from inferno.controllers.loop import Key, Loop, Source
from inferno.controllers.reporting import namespace_key, report
from inferno.core.conditions import present, settled
from inferno.core.inference_models import (
    InferenceModel,
    InferenceModelStatus,
    claim_of,
    routed,
    winners,
)
from inferno.core.inference_pools import InferencePool
from inferno.core.references import PoolReference
from inferno.core.resources import Condition
from inferno.storage.base import ResourceStore


def pool_problem(reference: PoolReference, pools: Collection[str], namespace: str) -> str:
    """Return why a reference leads to no pool, or nothing.

    Args:
        reference: of a model or an objective.
        pools: names of those in its namespace.
        namespace: the namespace's name.
    """
    if not reference.is_pool:
        return f"'{reference.kind}' of group '{reference.group}' is not a pool."
    if reference.name not in pools:
        return f"There is no InferencePool '{reference.name}' in namespace '{namespace}'."
    return ""


def verdict(
    model: InferenceModel, winner: InferenceModel | None, pools: Collection[str]
) -> Condition:
    """Return the condition `Accepted` of a model, without its time.

    Args:
        model: which.
        winner: who has its name; None for nobody, because it is being deleted.
        pools: names of the pools in its namespace.
    """
    problem = pool_problem(model.spec.pool_ref, pools, model.metadata.namespace)
    if problem:
        return _refused("PoolNotFound", problem)
    if winner is not None and winner.metadata.name != model.metadata.name:
        return _refused(
            "ModelNameInUse",
            f"The older InferenceModel '{winner.metadata.name}' has the name "
            f"'{model.spec.model_name}' in pool '{model.spec.pool_ref.name}'.",
        )
    if model.spec.is_reserved:
        return _refused(
            "NoValidTarget",
            f"The name '{model.spec.model_name}' is reserved: the weights of its targets are "
            "all 0, and requests for it are refused.",
        )
    message = f"The name '{model.spec.model_name}' is its own in pool '{model.spec.pool_ref.name}'."
    return Condition(type="Accepted", status="True", reason="Accepted", message=message)


def routing(model: InferenceModel, holder: InferenceModel | None) -> Condition:
    """Return the condition `Routed` of a model, without its time.

    Args:
        model: which.
        holder: the model that requests for the name go by; None for none.
    """
    if holder is None:
        message = "Requests for the name go nowhere: no pool that is served has it."
        return Condition(type="Routed", status="False", reason="PoolNotServed", message=message)
    name, pool = holder.metadata.name, holder.spec.pool_ref.name
    if name != model.metadata.name:
        message = f"Requests for the name go by the older InferenceModel '{name}' to pool '{pool}'."
        return Condition(type="Routed", status="False", reason="Shadowed", message=message)
    message = f"Requests for '{model.spec.model_name}' go to pool '{pool}'."
    return Condition(type="Routed", status="True", reason="Routed", message=message)


def _refused(reason: str, message: str) -> Condition:
    return Condition(type="Accepted", status="False", reason=reason, message=message)


class InferenceModelController:
    """Keeps the status of model names true.

    Args:
        store: holds models and pools.
    """

    def __init__(self, store: ResourceStore) -> None:
        self._store = store

    def loop(self, *, resync: float = 300.0) -> Loop:
        """Return the loop that runs this controller.

        Args:
            resync: seconds between looks at everything.
        """
        sources = [Source(InferenceModel, namespace_key), Source(InferencePool, namespace_key)]
        return Loop("inference_model", self._store, sources, self.reconcile, resync=resync)

    async def reconcile(self, key: Key) -> None:
        """Look at all models of a namespace. Raises what the store raises."""
        models, _ = await self._store.list(InferenceModel, namespace=key.namespace)
        if not models:
            return
        pools, _ = await self._store.list(InferencePool, namespace=key.namespace)
        names = {pool.metadata.name for pool in pools}
        holders, now = winners(models), present()
        served = {(key.namespace, pool.metadata.name) for pool in pools if pool.is_served}
        routes = routed(holders.values(), served)
        for model in models:
            holder = routes.get((key.namespace, model.spec.model_name))
            conditions = settled(
                model.status.conditions,
                [verdict(model, holders.get(claim_of(model)), names), routing(model, holder)],
                generation=model.metadata.generation,
                now=now,
            )
            await report(self._store, model, InferenceModelStatus(conditions=conditions))
