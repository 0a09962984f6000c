"""`InferencePool` as v1alpha1 (seed 002), v1alpha2 and v1 show it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from inferno.core import conditions
from inferno.core.inference_pools import (
    MAX_PORTS,
    EndpointPicker,
    InferencePool,
    InferencePoolSpec,
    InferencePoolStatus,
    TargetPort,
)
from inferno.core.kinds import Cause, Column, KindDefinition, ServedVersion
from inferno.core.labels import LabelValue, key_violations
from inferno.core.references import (
    INFERENCE_GROUP,
    INFERENCE_GROUP_V1,
    GroupName,
    KindName,
    ObjectName,
    PortNumber,
)
from inferno.core.registry_queries import query_of
from inferno.core.resources import Condition, ObjectMeta
from inferno.core.served.pending import with_pending

GATEWAY = "inferno"
"""The parent that v1's status names: this platform's own gateway."""

Conditions = Annotated[list[Condition], Meta(max_length=8)]
MAX_PARENTS = 32


class ConditionsStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Observed state.

    Args:
        conditions: what is so, and since when.
    """

    conditions: Conditions = []


class PoolSpecV1Alpha1(msgspec.Struct, rename="camel", kw_only=True):
    """Desired state of a pool.

    Args:
        selector: labels of the model servers in the pool.
        target_port_number: where the model servers listen.
    """

    selector: dict[str, LabelValue]
    target_port_number: TargetPort


class PoolV1Alpha1(msgspec.Struct, rename="camel", kw_only=True):
    """A group of model servers that requests for a model can go to."""

    spec: PoolSpecV1Alpha1
    status: ConditionsStatus = msgspec.field(default_factory=ConditionsStatus)


class ExtensionReference(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """The endpoint picker of a gateway that is not this platform's.

    Args:
        name: the service that picks.
        group: its API group; empty for the core group.
        kind: its kind.
        port_number: where it listens.
        failure_mode: what to do while it does not answer.
    """

    name: ObjectName
    group: GroupName = ""
    kind: KindName = "Service"
    port_number: PortNumber | None = None
    failure_mode: Literal["FailOpen", "FailClose"] = "FailClose"


class PoolSpecV1Alpha2(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Desired state of a pool.

    Args:
        selector: labels of the model servers in the pool.
        target_port_number: where the model servers listen.
        extension_ref: the endpoint picker for gateways of others; this platform needs none.
    """

    selector: dict[str, LabelValue]
    target_port_number: PortNumber
    extension_ref: ExtensionReference | None = None


class ParentReference(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """The gateway that a status is about.

    Args:
        name: the gateway's name.
        group: its API group.
        kind: its kind.
        namespace: where it is; by default that of the pool.
    """

    name: ObjectName
    group: GroupName = "gateway.networking.k8s.io"
    kind: KindName = "Gateway"
    namespace: str = ""


class ParentStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """The pool as one gateway sees it.

    Args:
        parent_ref: the gateway.
        conditions: what is so, and since when.
    """

    parent_ref: ParentReference
    conditions: Conditions = []


Parents = Annotated[list[ParentStatus], Meta(max_length=MAX_PARENTS)]


class PoolStatusV1Alpha2(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Observed state of a pool.

    Args:
        parent: the pool as gateways see it.
    """

    parent: Parents = []


class PoolV1Alpha2(msgspec.Struct, rename="camel", kw_only=True):
    """A group of model servers that requests for a model can go to."""

    spec: PoolSpecV1Alpha2
    status: PoolStatusV1Alpha2 = msgspec.field(default_factory=PoolStatusV1Alpha2)


class LabelSelector(msgspec.Struct, rename="camel", kw_only=True):
    """Finds model servers by their labels.

    Args:
        match_labels: all of them have to match.
    """

    match_labels: dict[str, LabelValue]


class Port(msgspec.Struct, rename="camel", kw_only=True):
    """A port of the model servers.

    Args:
        number: where they listen.
    """

    number: PortNumber


class PickerReference(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """The endpoint picker of a gateway that is not this platform's.

    Args:
        name: the service that picks.
        group: its API group; empty for the core group.
        kind: its kind.
        port: where it listens; required for a Service.
        failure_mode: what to do while it does not answer.
    """

    name: ObjectName
    group: GroupName = ""
    kind: KindName = "Service"
    port: Port | None = None
    failure_mode: Literal["FailOpen", "FailClose"] = "FailClose"


class PoolSpecV1(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Desired state of a pool.

    Args:
        selector: finds the model servers in the pool.
        target_ports: where they listen; each is an endpoint of its own.
        app_protocol: what is spoken there; by default HTTP/1.1.
        endpoint_picker_ref: the endpoint picker for gateways of others; this platform needs none.
    """

    selector: LabelSelector
    target_ports: Annotated[list[Port], Meta(min_length=1, max_length=MAX_PORTS)]
    app_protocol: Literal["http", "kubernetes.io/h2c"] | None = None
    endpoint_picker_ref: PickerReference | None = None


class PoolStatusV1(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Observed state of a pool.

    Args:
        parents: the pool as gateways see it.
    """

    parents: Parents = []


class PoolV1(msgspec.Struct, rename="camel", kw_only=True):
    """A group of model servers that requests for a model can go to."""

    spec: PoolSpecV1
    status: PoolStatusV1 = msgspec.field(default_factory=PoolStatusV1)


def from_v1alpha1(
    shape: PoolV1Alpha1, metadata: ObjectMeta, current: InferencePool | None
) -> InferencePool:
    """Return the stored pool; ports beyond the first, protocol and picker stay as they were."""
    spec = InferencePoolSpec(
        selector=shape.spec.selector,
        target_ports=_ports(shape.spec.target_port_number, current),
        app_protocol=current.spec.app_protocol if current else "",
        endpoint_picker=current.spec.endpoint_picker if current else None,
    )
    return _pool(metadata, spec, shape.status.conditions, current)


def to_v1alpha1(pool: InferencePool) -> PoolV1Alpha1:
    """Return what v1alpha1 shows of a pool."""
    spec = PoolSpecV1Alpha1(
        selector=pool.spec.selector, target_port_number=pool.spec.target_ports[0]
    )
    status = ConditionsStatus(conditions=with_pending(pool.status.conditions, pool.metadata))
    return PoolV1Alpha1(spec=spec, status=status)


def from_v1alpha2(
    shape: PoolV1Alpha2, metadata: ObjectMeta, current: InferencePool | None
) -> InferencePool:
    """Return the stored pool; ports beyond the first and the protocol stay as they were."""
    spec = InferencePoolSpec(
        selector=shape.spec.selector,
        target_ports=_ports(shape.spec.target_port_number, current),
        app_protocol=current.spec.app_protocol if current else "",
        endpoint_picker=_picker_of_extension(shape.spec.extension_ref),
    )
    return _pool(metadata, spec, _of_ours(shape.status.parent), current)


def to_v1alpha2(pool: InferencePool) -> PoolV1Alpha2:
    """Return what v1alpha2 shows of a pool."""
    spec = PoolSpecV1Alpha2(
        selector=pool.spec.selector,
        target_port_number=pool.spec.target_ports[0],
        extension_ref=_extension(pool.spec.endpoint_picker),
    )
    return PoolV1Alpha2(spec=spec, status=PoolStatusV1Alpha2(parent=_parents(pool)))


def from_v1(shape: PoolV1, metadata: ObjectMeta, current: InferencePool | None) -> InferencePool:
    """Return the stored pool."""
    spec = InferencePoolSpec(
        selector=shape.spec.selector.match_labels,
        target_ports=[port.number for port in shape.spec.target_ports],
        app_protocol=shape.spec.app_protocol or "",
        endpoint_picker=_picker(shape.spec.endpoint_picker_ref),
    )
    return _pool(metadata, spec, _of_ours(shape.status.parents), current)


def to_v1(pool: InferencePool) -> PoolV1:
    """Return what v1 shows of a pool."""
    spec = PoolSpecV1(
        selector=LabelSelector(match_labels=pool.spec.selector),
        target_ports=[Port(number=number) for number in pool.spec.target_ports],
        app_protocol=pool.spec.app_protocol or None,
        endpoint_picker_ref=_reference(pool.spec.endpoint_picker),
    )
    return PoolV1(spec=spec, status=PoolStatusV1(parents=_parents(pool)))


def _picker_of_extension(extension: ExtensionReference | None) -> EndpointPicker | None:
    if extension is None:
        return None
    return EndpointPicker(
        name=extension.name,
        group=extension.group,
        kind=extension.kind,
        port=extension.port_number,
        failure_mode=extension.failure_mode,
    )


def _extension(picker: EndpointPicker | None) -> ExtensionReference | None:
    if picker is None:
        return None
    return ExtensionReference(
        name=picker.name,
        group=picker.group,
        kind=picker.kind,
        port_number=picker.port,
        failure_mode=picker.failure_mode,
    )


def _picker(reference: PickerReference | None) -> EndpointPicker | None:
    if reference is None:
        return None
    return EndpointPicker(
        name=reference.name,
        group=reference.group,
        kind=reference.kind,
        port=reference.port.number if reference.port else None,
        failure_mode=reference.failure_mode,
    )


def _reference(picker: EndpointPicker | None) -> PickerReference | None:
    if picker is None:
        return None
    return PickerReference(
        name=picker.name,
        group=picker.group,
        kind=picker.kind,
        port=None if picker.port is None else Port(number=picker.port),
        failure_mode=picker.failure_mode,
    )


def violations(shape: PoolV1Alpha1 | PoolV1Alpha2) -> list[Cause]:
    """Find what is wrong with a pool beyond what its types say."""
    return list(key_violations(shape.spec.selector, "spec.selector"))


def violations_of_v1(shape: PoolV1) -> list[Cause]:
    """Find what is wrong with a pool of v1 beyond what its types say."""
    found = list(key_violations(shape.spec.selector.match_labels, "spec.selector.matchLabels"))
    numbers = [port.number for port in shape.spec.target_ports]
    for index, number in enumerate(numbers):
        if number in numbers[:index]:
            path = f"spec.targetPorts[{index}].number"
            found.append(Cause(path, f"Duplicate value: {number}", "FieldValueDuplicate"))
    picker = shape.spec.endpoint_picker_ref
    if picker is not None and picker.kind == "Service" and picker.port is None:
        message = "Required value: a Service is reached at a port"
        found.append(Cause("spec.endpointPickerRef.port", message, "FieldValueRequired"))
    return found


def _ports(first: int, current: InferencePool | None) -> list[int]:
    """Return the ports when only the first is named: a port that is the first now is no other."""
    if current is None:
        return [first]
    return [first, *(port for port in current.spec.target_ports[1:] if port != first)]


def _pool(
    metadata: ObjectMeta,
    spec: InferencePoolSpec,
    shown: list[Condition],
    current: InferencePool | None,
) -> InferencePool:
    query_of(metadata.annotations)  # raises where it is none
    counts = current.status if current else InferencePoolStatus()
    status = msgspec.structs.replace(counts, conditions=shown)
    return InferencePool(metadata=metadata, spec=spec, status=status)


def _parents(pool: InferencePool) -> list[ParentStatus]:
    shown = with_pending(pool.status.conditions, pool.metadata)
    return [ParentStatus(parent_ref=ParentReference(name=GATEWAY), conditions=shown)]


def _of_ours(parents: list[ParentStatus]) -> list[Condition]:
    ours = (parent for parent in parents if parent.parent_ref.name == GATEWAY)
    return next((parent.conditions for parent in ours), [])


def _endpoints(pool: InferencePool) -> str:
    return f"{pool.status.ready_endpoints}/{pool.status.endpoints}"


def _ready(pool: InferencePool) -> str:
    ready = conditions.find(pool.status.conditions, "Ready")
    return ready.status if ready else "Unknown"


def _selector(pool: InferencePool) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(pool.spec.selector.items()))


COLUMNS = (
    Column(name="Ready", value=_ready, description="Whether an endpoint can answer."),
    Column(name="Endpoints", value=_endpoints, description="Ready endpoints, of all."),
    Column(
        name="Port",
        value=lambda pool: pool.spec.target_ports[0],
        type="integer",
        description="Where the model servers listen.",
    ),
    Column(name="Selector", value=_selector, description="Labels of its members.", priority=1),
)

EXPERIMENTAL = KindDefinition(
    stored=InferencePool,
    group=INFERENCE_GROUP,
    kind="InferencePool",
    plural="inferencepools",
    versions=(
        ServedVersion(
            name="v1alpha1",
            shape=PoolV1Alpha1,
            to_stored=from_v1alpha1,
            from_stored=to_v1alpha1,
            validate=violations,
            columns=COLUMNS,
        ),
        ServedVersion(
            name="v1alpha2",
            shape=PoolV1Alpha2,
            to_stored=from_v1alpha2,
            from_stored=to_v1alpha2,
            validate=violations,
            columns=COLUMNS,
        ),
    ),
    short_names=("xinfpool",),  # as upstream: of two groups with one short name, kubectl warns
    categories=("inferno",),
)
"""Pools in the API group of seed 002."""

STABLE = KindDefinition(
    stored=InferencePool,
    group=INFERENCE_GROUP_V1,
    kind="InferencePool",
    plural="inferencepools",
    versions=(
        ServedVersion(
            name="v1",
            shape=PoolV1,
            to_stored=from_v1,
            from_stored=to_v1,
            validate=violations_of_v1,
            columns=COLUMNS,
        ),
    ),
    short_names=("infpool",),
)
"""The same pools in the group in which they became v1."""
