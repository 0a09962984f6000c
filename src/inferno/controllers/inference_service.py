"""From an `InferenceService` to its replicas: a pure plan, and a controller that carries it out."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import structlog

from inferno.controllers.loop import Key, Loop, Source, own_key
from inferno.core.errors import NotFound
from inferno.core.replica_labels import replica_labels
from inferno.core.resources import (
    LOAD_REQUESTED_ANNOTATION,
    RUNTIME_FINALIZER,
    SERVICE_LABEL,
    Condition,
    InferenceService,
    InferenceServiceStatus,
    ObjectMeta,
    OwnerReference,
    Pod,
    PodSpec,
    PredictorModel,
    ServiceState,
)
from inferno.storage.base import ResourceStore

_log = structlog.get_logger(__name__)

_SUFFIX = string.ascii_lowercase + string.digits
_SUFFIX_LENGTH = 5

SERVICE_LABELS_ANNOTATION = "inferno.dev/service-labels"
"""Annotation on pods: the names of the labels that they have from their service."""

ENGINES: Mapping[str, str] = {"gguf": "llama_cpp"}
"""Which engine runs a model format."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about a service.

    Args:
        create: replicas to add.
        delete: names of replicas to remove.
        status: the service's, as observed before any of it is done.
    """

    create: list[PodSpec] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)
    status: InferenceServiceStatus = field(default_factory=InferenceServiceStatus)


def template_hash(engine: str, model: PredictorModel) -> str:
    """Return a short digest of everything that a replica is made from."""
    template = msgspec.json.encode([engine, *model.template], order="deterministic")
    return hashlib.sha256(template).hexdigest()[:10]


def desired_replicas(service: InferenceService) -> int:
    """Return how many replicas the service should have; none once it is being deleted."""
    if service.metadata.deletion_timestamp is not None:
        return 0
    predictor = service.spec.predictor
    return max(predictor.min_replicas, min(predictor.replicas, predictor.max_replicas), 0)


def plan(
    service: InferenceService,
    pods: Sequence[Pod],
    *,
    engines: Mapping[str, str] = ENGINES,
    now: str = "",
) -> Plan:
    """Decide what brings the service's replicas closer to what its spec asks for.

    A new template goes out one replica at a time: one more than desired may exist, and a ready old
    replica is removed only when the ready ones would still be as many as desired. Failed replicas
    stay, so that their reason shows, until the template changes or the model is asked for again.

    Args:
        service: what is wanted.
        pods: all replicas that the service owns.
        engines: engine by model format.
        now: RFC 3339, for conditions that change.
    """
    model = service.spec.predictor.model
    engine = engines.get(model.model_format.name)
    if engine is None:
        names = sorted(pod.metadata.name for pod in pods if not _is_leaving(pod))
        return Plan(delete=names, status=_unsupported(service, pods, now))
    template = template_hash(engine, model)
    desired = desired_replicas(service)
    current, old = _divide(service, pods, template)
    kept_old = [pod for pod in old if _is_ready(pod)] if desired else []
    doomed = [pod for pod in old if pod not in kept_old]
    doomed += _surplus(current, desired)
    kept = [pod for pod in current if pod not in doomed]
    doomed += _replaceable(kept, kept_old, desired)
    room = desired + 1 - len(kept) - len(kept_old) if kept_old else desired
    missing = max(0, min(desired - len(kept), room))
    spec = PodSpec(
        service=service.metadata.name, engine=engine, model=model, template_hash=template
    )
    return Plan(
        create=[spec] * missing,
        delete=sorted(pod.metadata.name for pod in doomed),
        status=_status(service, pods, current, desired, now),
    )


def _divide(
    service: InferenceService, pods: Sequence[Pod], template: str
) -> tuple[list[Pod], list[Pod]]:
    """Split the pods that are here to stay into current ones and those to replace."""
    requested = service.metadata.annotations.get(LOAD_REQUESTED_ANNOTATION)
    current: list[Pod] = []
    old: list[Pod] = []
    for pod in pods:
        if _is_leaving(pod):
            continue
        asked_again = pod.metadata.annotations.get(LOAD_REQUESTED_ANNOTATION) != requested
        is_stale = pod.status.phase == "Failed" and asked_again
        is_current = pod.spec.template_hash == template and not is_stale
        (current if is_current else old).append(pod)
    return current, old


def _surplus(current: Sequence[Pod], desired: int) -> list[Pod]:
    """Choose what goes on scaling down: those that do not serve first, then the newest."""
    by_use = sorted(current, key=_age)
    by_use.sort(key=_is_ready, reverse=True)
    return by_use[desired:]


def _replaceable(kept: Sequence[Pod], kept_old: Sequence[Pod], desired: int) -> list[Pod]:
    """Choose old replicas, the oldest first, that can go while enough others serve."""
    ready = sum(map(_is_ready, kept)) + len(kept_old)
    return sorted(kept_old, key=_age)[: max(0, ready - desired)]


def _status(
    service: InferenceService,
    pods: Sequence[Pod],
    current: Sequence[Pod],
    desired: int,
    now: str,
) -> InferenceServiceStatus:
    """Sum up what the replicas say."""
    ready = sum(1 for pod in pods if _is_ready(pod) and not _is_leaving(pod))
    if desired == 0:
        return _summary(service, "Draining" if pods else "Unloaded", "", "", 0, now)
    troubled = sorted((pod for pod in current if pod.status.reason), key=_age)
    reason = troubled[0].status.reason if troubled else ""
    message = troubled[0].status.message if troubled else ""
    state: ServiceState = "Ready" if ready else _state_without_ready(current)
    return _summary(service, state, reason, message, ready, now)


def _state_without_ready(current: Sequence[Pod]) -> ServiceState:
    """Name the state of a service of which nothing serves yet."""
    if current and all(pod.status.phase == "Failed" for pod in current):
        return "Failed"
    if any(pod.status.phase == "Starting" or pod.status.restarts for pod in current):
        return "Starting"
    return "Pending"


def _unsupported(
    service: InferenceService, pods: Sequence[Pod], now: str
) -> InferenceServiceStatus:
    """Say that nothing here runs the model's format."""
    name = service.spec.predictor.model.model_format.name
    ready = sum(1 for pod in pods if _is_ready(pod) and not _is_leaving(pod))
    message = f"No engine here runs models of format '{name}'."
    return _summary(service, "Failed", "UnsupportedFormat", message, ready, now)


def _summary(
    service: InferenceService,
    state: ServiceState,
    reason: str,
    message: str,
    ready: int,
    now: str,
) -> InferenceServiceStatus:
    """Put a status together; the condition keeps its time while its value stays."""
    value = "True" if state == "Ready" else "False"
    previous = next((one for one in service.status.conditions if one.type == "Ready"), None)
    unchanged = previous is not None and previous.status == value
    generation = service.metadata.generation
    condition = Condition(
        type="Ready",
        status="True" if state == "Ready" else "False",
        reason=reason or state,
        message=message,
        last_transition_time=previous.last_transition_time if previous and unchanged else now,
        observed_generation=generation,
    )
    return InferenceServiceStatus(
        state=state,
        reason=reason,
        message=message,
        ready_replicas=ready,
        observed_generation=generation,
        conditions=[condition],
    )


def _is_ready(pod: Pod) -> bool:
    return pod.status.phase == "Ready"


def _is_leaving(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None


def _age(pod: Pod) -> tuple[str, str]:
    """Order by age, the oldest first; the name settles ties."""
    return pod.metadata.creation_timestamp, pod.metadata.name


class InferenceServiceController:
    """Carries plans out.

    Args:
        store: holds services and pods.
        engines: engine by model format.
    """

    def __init__(self, store: ResourceStore, *, engines: Mapping[str, str] = ENGINES) -> None:
        self._store = store
        self._engines = engines

    def loop(self, *, resync: float = 30.0) -> Loop:
        """Return the loop that runs this controller.

        Args:
            resync: seconds between looks at every service.
        """
        sources = [Source(InferenceService, own_key), Source(Pod, _service_of)]
        return Loop("inference_service", self._store, sources, self.reconcile, resync=resync)

    async def reconcile(self, key: Key) -> None:
        """Look at one service and its replicas, and act. Raises what the store raises."""
        labelled, _ = await self._store.list(
            Pod, namespace=key.namespace, labels={SERVICE_LABEL: key.name}
        )
        try:
            service = await self._store.get(InferenceService, key.name, key.namespace)
        except NotFound:
            await self._delete(key, [pod.metadata.name for pod in labelled if _has_owner(pod)])
            return
        pods = [pod for pod in labelled if _owns(service, pod)]
        await self._relabel(service, pods)
        decision = plan(service, pods, engines=self._engines, now=_now())
        await self._report(service, decision.status)
        for spec in decision.create:
            await self._store.create(_make_pod(service, spec))
            _log.info("replica_wanted", service=key.name)
        await self._delete(key, decision.delete)

    async def _relabel(self, service: InferenceService, pods: Iterable[Pod]) -> None:
        """Give replicas the labels that the service has now: pools select by them.

        Labels are no part of the template; a replica goes on serving under new ones. Labels that
        others have put on a replica stay.
        """
        wanted = replica_labels(service)

        def change(pod: Pod) -> None:
            pod.metadata.labels = relabelled(pod.metadata, wanted)
            pod.metadata.annotations[SERVICE_LABELS_ANNOTATION] = _names_of(wanted)

        for pod in pods:
            is_stale = relabelled(pod.metadata, wanted) != pod.metadata.labels
            if is_stale and not _is_leaving(pod):
                with contextlib.suppress(NotFound):
                    await self._store.modify(
                        Pod, pod.metadata.name, change, namespace=pod.metadata.namespace
                    )

    async def _delete(self, key: Key, names: Iterable[str]) -> None:
        """Delete pods; those that are gone already are fine."""
        for name in names:
            try:
                await self._store.delete(Pod, name, key.namespace)
            except NotFound:
                continue
            _log.info("replica_unwanted", service=key.name, pod=name)

    async def _report(self, service: InferenceService, status: InferenceServiceStatus) -> None:
        """Write the status if it is news. Raises Conflict when the service changed meanwhile."""
        if service.status == status:
            return
        service.status = status
        try:
            await self._store.update_status(service)
        except NotFound:  # the event of its deletion brings us back
            return


def _service_of(pod: Pod) -> tuple[Key, ...]:
    """Return the key of the service that a pod belongs to."""
    name = pod.metadata.labels.get(SERVICE_LABEL)
    return (Key(pod.metadata.namespace, name),) if name else ()


def _owns(service: InferenceService, pod: Pod) -> bool:
    """Tell whether a pod was made for this very service, not for one of the same name before."""
    return any(owner.uid == service.metadata.uid for owner in pod.metadata.owner_references)


def _has_owner(pod: Pod) -> bool:
    """Tell whether a pod was made for a service and is not on its way out."""
    kind = InferenceService.KIND.kind
    owners = pod.metadata.owner_references
    return not _is_leaving(pod) and any(owner.kind == kind for owner in owners)


def relabelled(replica: ObjectMeta, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that a replica should have.

    Args:
        replica: as it is; an annotation says which of its labels came from its service.
        wanted: the labels that come from its service now.
    """
    former = replica.annotations.get(SERVICE_LABELS_ANNOTATION, "").split(",")
    others = {name: value for name, value in replica.labels.items() if name not in former}
    return {**others, **wanted}


def _names_of(labels: Iterable[str]) -> str:
    return ",".join(sorted(labels))


def _make_pod(service: InferenceService, spec: PodSpec) -> Pod:
    """Return a new replica of the service, under a random name."""
    metadata = service.metadata
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(_SUFFIX_LENGTH))
    requested = metadata.annotations.get(LOAD_REQUESTED_ANNOTATION)
    labels = replica_labels(service)
    annotations = {SERVICE_LABELS_ANNOTATION: _names_of(labels)}
    if requested is not None:
        annotations[LOAD_REQUESTED_ANNOTATION] = requested
    owner = OwnerReference(
        api_version=service.KIND.api_version,
        kind=service.KIND.kind,
        name=metadata.name,
        uid=metadata.uid,
    )
    return Pod(
        metadata=ObjectMeta(
            name=f"{metadata.name}-{suffix}",
            namespace=metadata.namespace,
            labels=labels,
            annotations=annotations,
            owner_references=[owner],
            finalizers=[RUNTIME_FINALIZER],
        ),
        spec=spec,
    )


def _now() -> str:
    """Return the time as RFC 3339, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
