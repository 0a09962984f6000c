"""`InferenceModel`: a name to ask for, where it goes and how much it matters (seed 002)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta

from inferno.core.references import INFERENCE_GROUP, PoolReference
from inferno.core.resources import Condition, Kind, Resource

Criticality = Literal["Critical", "Default", "Sheddable"]
"""How important requests are: `Sheddable` ones are refused first, `Critical` ones last."""

PRIORITIES: dict[Criticality, int] = {"Critical": 1, "Default": 0, "Sheddable": -1}
"""The bands as priorities, which came after them: 0 where nothing is said."""

DEFAULT_WEIGHT = 1
MAX_WEIGHT = 1_000_000
MAX_TARGETS = 10

Weight = Annotated[int, Meta(ge=0, le=MAX_WEIGHT)]


class TargetModel(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A model or LoRA adapter that gets a share of the traffic.

    Args:
        name: as model servers know it.
        weight: its share is weight / sum of all weights; None counts as 1.
    """

    name: Annotated[str, Meta(max_length=253)]
    weight: Weight | None = None

    @property
    def share(self) -> int:
        """The weight that counts."""
        return DEFAULT_WEIGHT if self.weight is None else self.weight


class InferenceModelSpec(msgspec.Struct, rename="camel", kw_only=True):
    """Desired state of a model name: what every version of the API can say.

    Args:
        model_name: what clients put into `model`; unique in its pool.
        pool_ref: the pool that serves it.
        criticality: how important its requests are.
        target_models: what they are turned into; empty for the name itself.
    """

    model_name: Annotated[str, Meta(max_length=256)]
    pool_ref: PoolReference
    criticality: Criticality = "Default"
    target_models: Annotated[list[TargetModel], Meta(max_length=MAX_TARGETS)] = []

    @property
    def priority(self) -> int:
        """Its criticality as a number: the higher, the more important; below 0 is shed first."""
        return PRIORITIES[self.criticality]

    @property
    def is_reserved(self) -> bool:
        """Whether it only keeps its name from others: it has targets, and none of any weight."""
        return bool(self.target_models) and not any(one.share for one in self.target_models)


class InferenceModelStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Observed state of a model name.

    Args:
        conditions: `Accepted` and `Routed`.
    """

    conditions: list[Condition] = []


class InferenceModel(Resource, rename="camel", kw_only=True):
    """What clients ask for by a name of its own."""

    KIND: ClassVar[Kind] = Kind(INFERENCE_GROUP, "v1alpha1", "InferenceModel", "inferencemodels")
    spec: InferenceModelSpec
    status: InferenceModelStatus = msgspec.field(default_factory=InferenceModelStatus)


class Claim(NamedTuple):
    """What at most one InferenceModel may have: a model name in a pool."""

    namespace: str
    pool: str
    model_name: str


def claim_of(model: InferenceModel) -> Claim:
    """Return the name that a model wants for itself."""
    spec = model.spec
    return Claim(model.metadata.namespace, spec.pool_ref.name, spec.model_name)


def winners(models: Iterable[InferenceModel]) -> dict[Claim, InferenceModel]:
    """Return who has each name: the oldest of those that want it (seed 002).

    Timestamps are whole seconds. Among the equally old the first by name wins, so that everybody
    who looks sees the same winner. A model that is being deleted holds no name any more: the next
    oldest has it.
    """
    holders: dict[Claim, InferenceModel] = {}
    for model in models:
        if model.metadata.deletion_timestamp is not None:
            continue
        holder = holders.setdefault(claim_of(model), model)
        if _seniority(model) < _seniority(holder):
            holders[claim_of(model)] = model
    return holders


def routed(
    holders: Iterable[InferenceModel], pools: Collection[tuple[str, str]]
) -> dict[tuple[str, str], InferenceModel]:
    """Return which model requests go by, by namespace and the name that they ask for.

    A name is unique in its pool only (seed 002), and a request names no pool. Where several pools
    have the name, the oldest model has the requests.

    Args:
        holders: the `winners` of their names.
        pools: namespaces and names of the pools that exist.
    """
    routes: dict[tuple[str, str], InferenceModel] = {}
    for model in sorted(holders, key=_seniority):
        reference, namespace = model.spec.pool_ref, model.metadata.namespace
        if reference.is_pool and (namespace, reference.name) in pools:
            routes.setdefault((namespace, model.spec.model_name), model)
    return routes


def _seniority(model: InferenceModel) -> tuple[str, str]:
    return model.metadata.creation_timestamp, model.metadata.name
