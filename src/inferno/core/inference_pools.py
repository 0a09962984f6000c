"""`InferencePool`: model servers that share a model and answer for each other (seed 002)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from inferno.core.labels import LabelKey, LabelValue
from inferno.core.references import INFERENCE_GROUP, GroupName, KindName, ObjectName, PortNumber
from inferno.core.resources import Condition, Kind, Resource

MAX_PORTS = 8

TargetPort = Annotated[int, Meta(ge=0, le=65535)]
"""Seed 002 lets it be 0, which later versions do not: the port that a replica itself reports."""


class EndpointPicker(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """The extension that a gateway of others asks which endpoint to take.

    This platform picks endpoints itself; it keeps the reference for whoever reads the pool.

    Args:
        name: the service that picks.
        group: its API group; empty for the core group.
        kind: its kind.
        port: where it listens; None for the default of its kind.
        failure_mode: what to do while it does not answer: refuse (`FailClose`) or let any
            endpoint have the request (`FailOpen`).
    """

    name: ObjectName
    group: GroupName = ""
    kind: KindName = "Service"
    port: PortNumber | None = None
    failure_mode: Literal["FailOpen", "FailClose"] = "FailClose"


class InferencePoolSpec(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Desired state of a pool: what every version of the API can say.

    Args:
        selector: labels that model servers carry to be in the pool, all of them.
        target_ports: where they listen, unless they say so themselves; the first is the one that
            older versions know.
        app_protocol: what is spoken there; empty for HTTP/1.1.
        endpoint_picker: the picker that other gateways should ask, if any.
    """

    selector: dict[LabelKey, LabelValue]
    target_ports: Annotated[list[TargetPort], Meta(min_length=1, max_length=MAX_PORTS)]
    app_protocol: Literal["", "http", "kubernetes.io/h2c"] = ""
    endpoint_picker: EndpointPicker | None = None


class InferencePoolStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Observed state of a pool.

    Args:
        endpoints: how many model servers its selector finds.
        ready_endpoints: how many of them can answer.
        conditions: `Accepted`, `ResolvedRefs` and `Ready`.
    """

    endpoints: int = 0
    ready_endpoints: int = 0
    conditions: list[Condition] = []


class InferencePool(Resource, rename="camel", kw_only=True):
    """A group of model servers that requests for a model can go to."""

    KIND: ClassVar[Kind] = Kind(INFERENCE_GROUP, "v1alpha1", "InferencePool", "inferencepools")
    spec: InferencePoolSpec
    status: InferencePoolStatus = msgspec.field(default_factory=InferencePoolStatus)

    @property
    def is_served(self) -> bool:
        """Whether the gateway sends requests to it: it speaks HTTP/1.1 to servers, and no other."""
        speaks = self.spec.app_protocol != "kubernetes.io/h2c"
        return speaks and self.metadata.deletion_timestamp is None
