"""`Deployment`: an `InferenceService` in the shape that tools for workloads expect.

`kubectl scale`, `kubectl rollout status` and `kubectl logs deployment/…` work with it. All but
the number of replicas is read only: the service is what is written.
"""

from __future__ import annotations

from typing import Any

import msgspec

from inferno.core.kinds import (
    READING,
    Column,
    InvalidResource,
    KindDefinition,
    ScalePaths,
    ServedVersion,
)
from inferno.core.resources import SERVICE_LABEL, Condition, InferenceService, ObjectMeta
from inferno.core.served.inference_services import selector, violations


class LabelSelector(msgspec.Struct, rename="camel", kw_only=True):
    """Labels that the replicas carry."""

    match_labels: dict[str, str] = {}


class TemplateContainer(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What runs in a replica."""

    name: str
    image: str


class TemplateSpec(msgspec.Struct, rename="camel", kw_only=True):
    """What a replica consists of."""

    containers: list[TemplateContainer] = []


class TemplateMeta(msgspec.Struct, rename="camel", kw_only=True):
    """What every replica carries."""

    labels: dict[str, str] = {}


class Template(msgspec.Struct, rename="camel", kw_only=True):
    """What replicas are made from."""

    metadata: TemplateMeta = msgspec.field(default_factory=TemplateMeta)
    spec: TemplateSpec = msgspec.field(default_factory=TemplateSpec)


class DeploymentSpec(msgspec.Struct, rename="camel", kw_only=True):
    """What is wanted.

    Args:
        replicas: how many.
        selector: labels that they carry.
        template: what they are made from.
    """

    replicas: int = 0
    selector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    template: Template = msgspec.field(default_factory=Template)


class DeploymentCondition(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """One observed fact about a deployment."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    last_update_time: str = ""


class DeploymentStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What there is.

    Args:
        observed_generation: the newest generation that the controller has seen.
        replicas: how many there are.
        updated_replicas: how many are made from the present template.
        ready_replicas: how many answer.
        available_replicas: how many answer.
        unavailable_replicas: how many are still wanted.
        conditions: `Available` and `Progressing`.
    """

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    conditions: list[DeploymentCondition] = []


class DeploymentV1(msgspec.Struct, rename="camel", kw_only=True):
    """An InferenceService in the shape of a Deployment."""

    spec: DeploymentSpec = msgspec.field(default_factory=DeploymentSpec)
    status: DeploymentStatus = msgspec.field(default_factory=DeploymentStatus)


def from_stored(service: InferenceService) -> DeploymentV1:
    """Return a service as a deployment."""
    predictor, status = service.spec.predictor, service.status
    labels = {SERVICE_LABEL: service.metadata.name}
    container = TemplateContainer(name="replica", image=predictor.model.model_format.name)
    ready, wanted = status.ready_replicas, predictor.replicas
    return DeploymentV1(
        spec=DeploymentSpec(
            replicas=wanted,
            selector=LabelSelector(match_labels=labels),
            template=Template(
                metadata=TemplateMeta(labels=labels), spec=TemplateSpec(containers=[container])
            ),
        ),
        status=DeploymentStatus(
            observed_generation=status.observed_generation,
            replicas=ready,
            updated_replicas=ready,
            ready_replicas=ready,
            available_replicas=ready,
            unavailable_replicas=max(0, wanted - ready),
            conditions=_conditions(service),
        ),
    )


def _conditions(service: InferenceService) -> list[DeploymentCondition]:
    ready = next((one for one in service.status.conditions if one.type == "Ready"), None)
    if ready is None:
        return []
    failed = service.status.state == "Failed"
    return [
        _condition("Available", ready, ready.status, ready.reason),
        _condition(
            "Progressing",
            ready,
            "False" if failed else "True",
            "ProgressDeadlineExceeded" if failed else "NewReplicaSetAvailable",
        ),
    ]


def _condition(kind: str, ready: Condition, status: str, reason: str) -> DeploymentCondition:
    return DeploymentCondition(
        type=kind,
        status=status,
        reason=reason,
        message=ready.message,
        last_transition_time=ready.last_transition_time,
        last_update_time=ready.last_transition_time,
    )


def to_stored(shape: DeploymentV1, metadata: ObjectMeta, current: Any) -> InferenceService:
    """Return the service with as many replicas as the deployment wants."""
    service: InferenceService = current
    predictor = msgspec.structs.replace(service.spec.predictor, replicas=shape.spec.replicas)
    spec = msgspec.structs.replace(service.spec, predictor=predictor)
    changed = msgspec.structs.replace(service, metadata=metadata, spec=spec)
    wrong = [one for one in violations(changed) if one.field.endswith("replicas")]
    if wrong:
        raise InvalidResource(wrong)
    return changed


DEPLOYMENTS = KindDefinition(
    stored=InferenceService,
    group="apps",
    kind="Deployment",
    plural="deployments",
    short_names=("deploy",),
    categories=("all",),
    verbs=READING,
    scale=ScalePaths(
        spec_replicas="spec.replicas", status_replicas="status.replicas", selector=selector
    ),
    versions=(
        ServedVersion(
            name="v1",
            shape=DeploymentV1,
            to_stored=to_stored,
            from_stored=from_stored,
            columns=(
                Column(
                    name="Ready",
                    value=lambda s: f"{s.status.ready_replicas}/{s.spec.predictor.replicas}",
                    description="How many are ready, of how many.",
                ),
                Column(
                    name="Up-to-date",
                    value=lambda s: s.status.ready_replicas,
                    type="integer",
                    description="How many are made from the present template.",
                ),
                Column(
                    name="Available",
                    value=lambda s: s.status.ready_replicas,
                    type="integer",
                    description="How many answer.",
                ),
                Column(
                    name="Selector",
                    value=selector,
                    description="Labels that the replicas carry.",
                    priority=1,
                ),
            ),
        ),
    ),
)
"""InferenceServices, for tools that know deployments."""
