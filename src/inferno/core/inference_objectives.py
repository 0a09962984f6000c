"""`InferenceObjective`: a priority that requests can name, which came after `InferenceModel`."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from inferno.core.inference_models import Criticality
from inferno.core.references import (
    INFERENCE_GROUP,
    INFERENCE_GROUP_V1,
    GroupName,
    KindName,
    ObjectName,
    PoolReference,
)
from inferno.core.resources import Condition, Kind, Resource

Priority = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]


class ObjectivePoolReference(msgspec.Struct, rename="camel", kw_only=True):
    """Identifies a pool in the namespace of the objective; its group defaults to that of v1.

    Args:
        name: the pool's name.
        group: API group of the pool.
        kind: kind of the pool.
    """

    name: ObjectName
    group: GroupName = INFERENCE_GROUP_V1
    kind: KindName = "InferencePool"

    @property
    def reference(self) -> PoolReference:
        """The same reference, as models have it."""
        return PoolReference(name=self.name, group=self.group, kind=self.kind)


class InferenceObjectiveSpec(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Desired state of an objective.

    Args:
        pool_ref: the pool whose requests may name it.
        priority: the higher, the more important; below 0 requests can be shed. None counts as 0.
    """

    pool_ref: ObjectivePoolReference
    priority: Priority | None = None

    @property
    def criticality(self) -> Criticality:
        """The band of seed 002 that the priority falls into."""
        return criticality_of(self.priority or 0)


class InferenceObjectiveStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Observed state of an objective.

    Args:
        conditions: `Accepted`.
    """

    conditions: list[Condition] = []


class InferenceObjective(Resource, rename="camel", kw_only=True):
    """How important requests are that name it (`x-gateway-inference-objective`)."""

    KIND: ClassVar[Kind] = Kind(
        INFERENCE_GROUP, "v1alpha2", "InferenceObjective", "inferenceobjectives"
    )
    spec: InferenceObjectiveSpec
    status: InferenceObjectiveStatus = msgspec.field(default_factory=InferenceObjectiveStatus)


def criticality_of(priority: int) -> Criticality:
    """Return the band of a priority: below 0 `Sheddable`, 0 `Default`, above `Critical`.

    It turns `PRIORITIES` around.
    """
    if priority < 0:
        return "Sheddable"
    return "Critical" if priority > 0 else "Default"
