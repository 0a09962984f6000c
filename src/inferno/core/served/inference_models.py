"""`InferenceModel` as v1alpha1 (seed 002) and v1alpha2 show it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from inferno.core import conditions
from inferno.core.inference_models import (
    DEFAULT_WEIGHT,
    MAX_TARGETS,
    Criticality,
    InferenceModel,
    InferenceModelSpec,
    InferenceModelStatus,
    TargetModel,
    Weight,
)
from inferno.core.kinds import Cause, Column, KindDefinition, ServedVersion
from inferno.core.references import INFERENCE_GROUP, PoolReference
from inferno.core.resources import Condition, ObjectMeta
from inferno.core.served.pending import with_pending

CriticalityV1Alpha2 = Literal["Critical", "Standard", "Sheddable"]

TargetName = Annotated[str, Meta(max_length=253)]


class ModelStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Observed state of a model name.

    Args:
        conditions: `Accepted`: whether the name is this resource's in its pool; `Routed`: whether
            requests for it go by this resource.
    """

    conditions: Annotated[list[Condition], Meta(max_length=8)] = []


class TargetModelV1Alpha1(msgspec.Struct, rename="camel", kw_only=True):
    """A model or LoRA adapter that gets a share of the traffic.

    Args:
        name: as model servers know it.
        weight: its share is weight / sum of all weights.
    """

    name: TargetName
    weight: Weight = DEFAULT_WEIGHT


class ModelSpecV1Alpha1(msgspec.Struct, rename="camel", kw_only=True):
    """Desired state of a model name.

    Args:
        model_name: what clients put into `model`; unique in its pool.
        pool_ref: the pool that serves it, in the same namespace.
        criticality: how important its requests are: `Sheddable` ones are refused first.
        target_models: what it stands for; by default a model of its own name.
    """

    model_name: Annotated[str, Meta(max_length=253)]
    pool_ref: PoolReference
    criticality: Criticality = "Default"
    target_models: Annotated[list[TargetModelV1Alpha1], Meta(max_length=MAX_TARGETS)] = []


class ModelV1Alpha1(msgspec.Struct, rename="camel", kw_only=True):
    """What clients ask for by a name of its own."""

    spec: ModelSpecV1Alpha1
    status: ModelStatus = msgspec.field(default_factory=ModelStatus)


class TargetModelV1Alpha2(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A model or LoRA adapter that gets a share of the traffic.

    Args:
        name: as model servers know it.
        weight: its share is weight / sum of all weights; set for all targets or for none.
    """

    name: TargetName
    weight: Weight | None = None


class ModelSpecV1Alpha2(msgspec.Struct, rename="camel", kw_only=True):
    """Desired state of a model name.

    Args:
        model_name: what clients put into `model`; unique in its pool.
        pool_ref: the pool that serves it, in the same namespace.
        criticality: how important its requests are: `Sheddable` ones are refused first.
        target_models: what it stands for; by default a model of its own name.
    """

    model_name: Annotated[str, Meta(max_length=256)]
    pool_ref: PoolReference
    criticality: CriticalityV1Alpha2 = "Standard"
    target_models: Annotated[list[TargetModelV1Alpha2], Meta(max_length=MAX_TARGETS)] = []


class ModelV1Alpha2(msgspec.Struct, rename="camel", kw_only=True):
    """What clients ask for by a name of its own."""

    spec: ModelSpecV1Alpha2
    status: ModelStatus = msgspec.field(default_factory=ModelStatus)


def from_v1alpha1(
    shape: ModelV1Alpha1, metadata: ObjectMeta, current: InferenceModel | None
) -> InferenceModel:
    """Return the stored model; weights that v1alpha2 left open stay so while they mean the same."""
    targets = [TargetModel(name=one.name, weight=one.weight) for one in shape.spec.target_models]
    if current is not None and _shares(current.spec.target_models) == _shares(targets):
        targets = current.spec.target_models
    spec = InferenceModelSpec(
        model_name=shape.spec.model_name,
        pool_ref=shape.spec.pool_ref,
        criticality=shape.spec.criticality,
        target_models=targets,
    )
    status = InferenceModelStatus(conditions=shape.status.conditions)
    return InferenceModel(metadata=metadata, spec=spec, status=status)


def to_v1alpha1(model: InferenceModel) -> ModelV1Alpha1:
    """Return what v1alpha1 shows of a model."""
    spec = model.spec
    return ModelV1Alpha1(
        spec=ModelSpecV1Alpha1(
            model_name=spec.model_name,
            pool_ref=spec.pool_ref,
            criticality=spec.criticality,
            target_models=[
                TargetModelV1Alpha1(name=one.name, weight=one.share) for one in spec.target_models
            ],
        ),
        status=ModelStatus(conditions=with_pending(model.status.conditions, model.metadata)),
    )


def from_v1alpha2(
    shape: ModelV1Alpha2, metadata: ObjectMeta, current: InferenceModel | None
) -> InferenceModel:
    """Return the stored model."""
    said = shape.spec.criticality
    spec = InferenceModelSpec(
        model_name=shape.spec.model_name,
        pool_ref=shape.spec.pool_ref,
        criticality="Default" if said == "Standard" else said,
        target_models=[
            TargetModel(name=one.name, weight=one.weight) for one in shape.spec.target_models
        ],
    )
    status = InferenceModelStatus(conditions=shape.status.conditions)
    return InferenceModel(metadata=metadata, spec=spec, status=status)


def to_v1alpha2(model: InferenceModel) -> ModelV1Alpha2:
    """Return what v1alpha2 shows of a model."""
    spec = model.spec
    return ModelV1Alpha2(
        spec=ModelSpecV1Alpha2(
            model_name=spec.model_name,
            pool_ref=spec.pool_ref,
            criticality="Standard" if spec.criticality == "Default" else spec.criticality,
            target_models=[
                TargetModelV1Alpha2(name=one.name, weight=one.weight) for one in spec.target_models
            ],
        ),
        status=ModelStatus(conditions=with_pending(model.status.conditions, model.metadata)),
    )


def violations_of_v1alpha2(shape: ModelV1Alpha2) -> list[Cause]:
    """Find what is wrong with a model of v1alpha2 beyond what its types say."""
    if len({one.weight is None for one in shape.spec.target_models}) < 2:
        return []
    message = "Invalid value: Weights should be set for all models, or none of the models."
    return [Cause("spec.targetModels", message)]


def _shares(targets: list[TargetModel]) -> list[tuple[str, int]]:
    return [(target.name, target.share) for target in targets]


def accepted(resource: InferenceModel) -> str:
    """Return the status of the condition `Accepted`, for a table."""
    condition = conditions.find(resource.status.conditions, "Accepted")
    return condition.status if condition else "Unknown"


COLUMNS = (
    Column(
        name="Model Name",
        value=lambda model: model.spec.model_name,
        description="What clients ask for.",
    ),
    Column(
        name="Inference Pool",
        value=lambda model: model.spec.pool_ref.name,
        description="The pool that serves it.",
    ),
    Column(
        name="Criticality",
        value=lambda model: model.spec.criticality,
        description="How important its requests are.",
    ),
    Column(name="Accepted", value=accepted, description="Whether it can be asked for."),
)

MODELS = KindDefinition(
    stored=InferenceModel,
    group=INFERENCE_GROUP,
    kind="InferenceModel",
    plural="inferencemodels",
    versions=(
        ServedVersion(
            name="v1alpha1",
            shape=ModelV1Alpha1,
            to_stored=from_v1alpha1,
            from_stored=to_v1alpha1,
            columns=COLUMNS,
        ),
        ServedVersion(
            name="v1alpha2",
            shape=ModelV1Alpha2,
            to_stored=from_v1alpha2,
            from_stored=to_v1alpha2,
            validate=violations_of_v1alpha2,
            columns=COLUMNS,
        ),
    ),
    short_names=("infmodel",),
    categories=("inferno",),
)
"""Model names in the API group of seed 002."""
