"""Pools, models, servers and replicas for the controllers' tests."""

from __future__ import annotations

from typing import Any

from inferno.core.inference_models import InferenceModel, InferenceModelSpec, TargetModel
from inferno.core.inference_objectives import (
    InferenceObjective,
    InferenceObjectiveSpec,
    ObjectivePoolReference,
)
from inferno.core.inference_pools import InferencePool, InferencePoolSpec
from inferno.core.model_servers import ModelServer, ModelServerSpec, SecretKeyReference
from inferno.core.references import PoolReference
from inferno.core.resources import (
    Condition,
    ObjectMeta,
    Pod,
    PodPhase,
    PodSpec,
    PodStatus,
    PredictorModel,
    Resource,
)

LABELS = {"app": "vllm"}


def pool(name: str = "pool", **spec: Any) -> InferencePool:
    wanted = {"selector": LABELS, "target_ports": [8000], **spec}
    return InferencePool(metadata=ObjectMeta(name=name), spec=InferencePoolSpec(**wanted))


def model(
    name: str, model_name: str = "chat", *, pool: str = "pool", weights: tuple[int, ...] = ()
) -> InferenceModel:
    return InferenceModel(
        metadata=ObjectMeta(name=name),
        spec=InferenceModelSpec(
            model_name=model_name,
            pool_ref=PoolReference(name=pool),
            target_models=[TargetModel(name=f"t{i}", weight=w) for i, w in enumerate(weights)],
        ),
    )


def objective(name: str, priority: int | None = None, *, pool: str = "pool") -> InferenceObjective:
    spec = InferenceObjectiveSpec(pool_ref=ObjectivePoolReference(name=pool), priority=priority)
    return InferenceObjective(metadata=ObjectMeta(name=name), spec=spec)


def server(name: str, *, key_from: tuple[str, str] | None = None, **metadata: Any) -> ModelServer:
    reference = key_from and SecretKeyReference(name=key_from[0], key=key_from[1])
    return ModelServer(
        metadata=ObjectMeta(name=name, **{"labels": LABELS, **metadata}),
        spec=ModelServerSpec(address="10.0.0.7", api_key_secret_ref=reference),
    )


def pod(name: str, phase: PodPhase = "Ready", **metadata: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name, **{"labels": LABELS, **metadata}),
        spec=PodSpec(service="m", engine="llama_cpp", model=PredictorModel()),
        status=PodStatus(phase=phase, host="127.0.0.1", port=1234),
    )


def condition(resource: Resource, kind: str) -> Condition:
    """Return the condition of a type, which has to be there."""
    found: Condition = next(one for one in resource.status.conditions if one.type == kind)
    return found


def said(resource: Resource, kind: str) -> tuple[str, str]:
    """Return status and reason of a condition."""
    found = condition(resource, kind)
    return found.status, found.reason
