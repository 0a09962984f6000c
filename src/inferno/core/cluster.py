"""Kinds that tools expect of a cluster: namespaces, nodes and events."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from inferno.core.resources import Condition, Kind, Resource

NAMESPACE_FINALIZER = "inferno.dev/namespace"
"""Holds a namespace until all that is in it is gone."""

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
"""Label on every namespace, with its name; selectors use it."""


class NamespaceSpec(msgspec.Struct, rename="camel", kw_only=True):
    """What holds a namespace.

    Args:
        finalizers: Kubernetes' own list; kept for tools that look at it.
    """

    finalizers: list[str] = msgspec.field(default_factory=lambda: ["kubernetes"])


class NamespaceStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Where a namespace is in its life.

    Args:
        phase: `Active`, or `Terminating` while what is in it goes.
        conditions: what is so, and since when.
    """

    phase: Literal["Active", "Terminating"] = "Active"
    conditions: list[Condition] = []


class Namespace(Resource, rename="camel", kw_only=True):
    """A part of the platform with resources of its own; the tenant of its name works in it."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Namespace", "namespaces")
    spec: NamespaceSpec = msgspec.field(default_factory=NamespaceSpec)
    status: NamespaceStatus = msgspec.field(default_factory=NamespaceStatus)


class NodeSpec(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What a node is known by.

    Args:
        provider_id: names the machine.
        unschedulable: whether no replicas should be started on it.
    """

    provider_id: str = msgspec.field(name="providerID", default="")
    unschedulable: bool = False


class NodeAddress(msgspec.Struct, rename="camel", kw_only=True):
    """Where a node can be reached."""

    type: str
    address: str


class NodeCondition(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """One observed fact about a node."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""
    last_heartbeat_time: str = ""
    last_transition_time: str = ""


class NodeInfo(msgspec.Struct, rename="camel", kw_only=True):
    """What a node runs."""

    machine_id: str = msgspec.field(name="machineID", default="")
    system_uuid: str = msgspec.field(name="systemUUID", default="")
    boot_id: str = msgspec.field(name="bootID", default="")
    kernel_version: str = ""
    os_image: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""
    kube_proxy_version: str = ""
    operating_system: str = ""
    architecture: str = ""


class NodeStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What a machine has.

    Args:
        capacity: all that there is, by resource.
        allocatable: what of it replicas may take.
        conditions: what is so, and since when.
        addresses: where it can be reached.
        node_info: what it runs.
    """

    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: list[NodeCondition] = []
    addresses: list[NodeAddress] = []
    node_info: NodeInfo = msgspec.field(default_factory=NodeInfo)


class Node(Resource, rename="camel", kw_only=True):
    """A machine that runs replicas."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Node", "nodes")
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


class ObjectReference(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Names an object."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class EventSource(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Who saw it."""

    component: str = ""
    host: str = ""


class EventSeries(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """How often it was seen, and when last."""

    count: int = 0
    last_observed_time: str = ""


class EventSpec(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What happened.

    Args:
        involved_object: to what it happened.
        reason: in one word, for programs.
        message: for a person.
        source: who saw it.
        first_timestamp, last_timestamp: when it was first and last seen.
        count: how often.
        type: `Normal` or `Warning`.
        event_time: when it was first seen, to the microsecond.
        series: how often it was seen, in the newer form.
        action: what was being done.
        related: what else it is about.
        reporting_component: who reports it.
        reporting_instance: which of them.
    """

    involved_object: ObjectReference
    reason: str = ""
    message: str = ""
    source: EventSource = msgspec.field(default_factory=EventSource)
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    count: int = 0
    type: str = ""
    event_time: str | None = None
    series: EventSeries | None = None
    action: str = ""
    related: ObjectReference | None = None
    reporting_component: str = ""
    reporting_instance: str = ""


class Event(Resource, rename="camel", kw_only=True):
    """Something that happened to a resource."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Event", "events")
    spec: EventSpec
    status: Any = None
