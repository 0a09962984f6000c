"""`Pod` as tools know it: a replica, with what it runs as its one container.

Replicas are made by the InferenceService that they belong to; clients may label, annotate and
delete them, and read their logs.
"""

from __future__ import annotations

from typing import Any

import msgspec

from inferno.core.kinds import ALL_VERBS, Cause, Column, InvalidResource, KindDefinition
from inferno.core.kinds import ServedVersion as Version
from inferno.core.resources import ObjectMeta, Pod

CONTAINER = "replica"
"""The name of a pod's one container."""


class ContainerPort(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Where a replica listens."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What runs in a pod.

    Args:
        name: always `replica`.
        image: the engine that runs the model.
        args: the model.
        ports: where it listens.
        resources: what it may take; not limited here.
    """

    name: str
    image: str
    args: list[str] = []
    ports: list[ContainerPort] = []
    resources: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)


class PodSpecV1(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What is wanted.

    Args:
        node_name: the machine that runs it.
        containers: what runs in it.
        restart_policy: a replica that dies is started again.
        termination_grace_period_seconds: how long it may take to finish what it works on.
    """

    containers: list[Container]
    node_name: str = ""
    restart_policy: str = ""
    termination_grace_period_seconds: int | None = None


class PodConditionV1(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """One observed fact about a pod."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class StateRunning(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """It runs."""

    started_at: str | None = None


class StateWaiting(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """It does not run yet."""

    reason: str = ""
    message: str = ""


class StateTerminated(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """It ended."""

    exit_code: int
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None


class ContainerState(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """One of the three."""

    running: StateRunning | None = None
    waiting: StateWaiting | None = None
    terminated: StateTerminated | None = None


class ContainerStatusV1(msgspec.Struct, rename="camel", kw_only=True):
    """What is seen of a container."""

    name: str
    ready: bool
    restart_count: int
    image: str
    started: bool
    state: ContainerState
    image_id: str = msgspec.field(name="imageID", default="")
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)


class PodIP(msgspec.Struct, rename="camel", kw_only=True):
    """An address of a pod."""

    ip: str


class PodStatusV1(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What is seen of a pod.

    Args:
        phase: `Pending`, `Running` or `Failed`.
        conditions: `PodScheduled`, `Initialized`, `ContainersReady` and `Ready`.
        message: why it is not ready.
        reason: the same in one word.
        host_ip: where its machine can be reached.
        pod_ip: where it listens.
        pod_ips: the same as a list.
        start_time: when it was started.
        container_statuses: what is seen of its container.
        qos_class: what it is promised of the machine: nothing.
    """

    phase: str = "Pending"
    conditions: list[PodConditionV1] = []
    message: str = ""
    reason: str = ""
    host_ip: str = msgspec.field(name="hostIP", default="")
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: list[PodIP] = msgspec.field(name="podIPs", default_factory=list)
    start_time: str | None = None
    container_statuses: list[ContainerStatusV1] = []
    qos_class: str = ""


class PodV1(msgspec.Struct, rename="camel", kw_only=True):
    """A replica: one process that serves one model."""

    spec: PodSpecV1
    status: PodStatusV1 = msgspec.field(default_factory=PodStatusV1)


def definition(node: str) -> KindDefinition:
    """Return the definition of pods that run on a machine of that name."""

    def from_stored(pod: Pod) -> PodV1:
        return PodV1(spec=_spec(pod, node), status=_status(pod))

    def to_stored(shape: PodV1, metadata: ObjectMeta, current: Any) -> Pod:
        pod: Pod = current
        if shape.spec != _spec(pod, node):
            message = "Forbidden: pod updates may not change fields other than the metadata"
            raise InvalidResource([Cause("spec", message, "FieldValueForbidden")])
        return msgspec.structs.replace(pod, metadata=metadata)

    version = Version(
        name="v1", shape=PodV1, to_stored=to_stored, from_stored=from_stored, columns=_columns(node)
    )
    return KindDefinition(
        stored=Pod,
        group="",
        kind="Pod",
        plural="pods",
        short_names=("po",),
        categories=("all",),
        verbs=ALL_VERBS - {"create"},
        versions=(version,),
    )


def _spec(pod: Pod, node: str) -> PodSpecV1:
    port = pod.status.port
    container = Container(
        name=CONTAINER,
        image=pod.spec.engine,
        args=["--model", pod.spec.service],
        ports=[ContainerPort(container_port=port, name="http")] if port else [],
    )
    return PodSpecV1(
        containers=[container],
        node_name=node,
        restart_policy="Always",
        termination_grace_period_seconds=30,
    )


def _status(pod: Pod) -> PodStatusV1:
    status = pod.status
    runs = status.pid > 0
    failed = status.phase == "Failed"
    address = status.host if runs else ""
    return PodStatusV1(
        phase="Failed" if failed else "Running" if runs else "Pending",
        conditions=_conditions(pod),
        message=status.message,
        reason=status.reason,
        host_ip=address,
        pod_ip=address,
        pod_ips=[PodIP(ip=address)] if address else [],
        start_time=_seconds(status.started_at) or pod.metadata.creation_timestamp or None,
        container_statuses=[
            ContainerStatusV1(
                name=CONTAINER,
                ready=status.phase == "Ready",
                restart_count=status.restarts,
                image=pod.spec.engine,
                started=status.phase in ("Ready", "Draining"),
                state=_state(pod),
            )
        ],
        qos_class="BestEffort",
    )


def _state(pod: Pod) -> ContainerState:
    status = pod.status
    if status.phase == "Failed":
        ended = StateTerminated(
            exit_code=1,
            reason=status.reason or "Error",
            message=status.message,
            started_at=_seconds(status.started_at),
        )
        return ContainerState(terminated=ended)
    if status.pid > 0:
        return ContainerState(running=StateRunning(started_at=_seconds(status.started_at)))
    reason = status.reason or "ContainerCreating"
    return ContainerState(waiting=StateWaiting(reason=reason, message=status.message))


def _conditions(pod: Pod) -> list[PodConditionV1]:
    status = pod.status
    ready = status.phase == "Ready"
    since = _seconds(status.ready_at if ready else status.started_at)
    created = pod.metadata.creation_timestamp or None
    found = [
        PodConditionV1(type="PodScheduled", status="True", last_transition_time=created),
        PodConditionV1(type="Initialized", status="True", last_transition_time=created),
    ]
    for kind in ("ContainersReady", "Ready"):
        found.append(
            PodConditionV1(
                type=kind,
                status="True" if ready else "False",
                reason="" if ready else status.reason or "ContainersNotReady",
                message="" if ready else status.message or f"The replica is {status.phase}.",
                last_transition_time=since or created,
            )
        )
    return found


def _seconds(moment: str) -> str | None:
    """Return a moment to the second, as Kubernetes' own types have it; None for none."""
    return f"{moment[:19]}Z" if moment else None


def _word(pod: Pod) -> str:
    """Return what `kubectl get pods` says of a replica."""
    if pod.metadata.deletion_timestamp:
        return "Terminating"
    if pod.status.reason and pod.status.phase != "Ready":
        return pod.status.reason
    return {"Ready": "Running", "Failed": "Error"}.get(pod.status.phase, pod.status.phase)


def _columns(node: str) -> tuple[Column, ...]:
    return (
        Column(
            name="Ready",
            value=lambda pod: "1/1" if pod.status.phase == "Ready" else "0/1",
            description="Whether it answers requests.",
        ),
        Column(name="Status", value=_word, description="Where it is in its life."),
        Column(
            name="Restarts",
            value=lambda pod: pod.status.restarts,
            type="integer",
            description="How often its process was started again.",
        ),
        Column(
            name="IP",
            value=lambda pod: pod.status.host or "<none>",
            description="Where it listens.",
            priority=1,
        ),
        Column(
            name="Node",
            value=lambda _: node,
            description="The machine that runs it.",
            priority=1,
        ),
        Column(
            name="Model",
            value=lambda pod: pod.spec.service,
            description="What it serves.",
            priority=1,
        ),
    )
