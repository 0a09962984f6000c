"""`InferenceService` as KServe's v1beta1 shows it, reduced to what the platform serves."""

from __future__ import annotations

import re
from collections.abc import Iterator

from inferno.core.kinds import Cause, Column, KindDefinition, ScalePaths
from inferno.core.resources import SERVICE_LABEL, InferenceService

_ADAPTER_NAME = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?")


def violations(service: InferenceService) -> Iterator[Cause]:
    """Find what is wrong with a service beyond what its types say."""
    predictor = service.spec.predictor
    path = "spec.predictor"
    if predictor.min_replicas < 0:
        yield Cause(f"{path}.minReplicas", f"Invalid value: {predictor.min_replicas}: must be >= 0")
    if predictor.max_replicas < max(predictor.min_replicas, 1):
        why = "must be at least 1 and at least minReplicas"
        yield Cause(f"{path}.maxReplicas", f"Invalid value: {predictor.max_replicas}: {why}")
    if not 0 <= predictor.replicas <= predictor.max_replicas:
        why = f"must be between 0 and maxReplicas, which is {predictor.max_replicas}"
        yield Cause(f"{path}.replicas", f"Invalid value: {predictor.replicas}: {why}")
    yield from _about_file(predictor.model.storage_uri, f"{path}.model.storageUri")
    yield from _about_adapters(service, f"{path}.model.lora.adapters")


def _about_file(uri: str, path: str) -> Iterator[Cause]:
    if not uri.startswith(("file:///", "/")):
        why = "must be a file that this machine has: file:///PATH"
        yield Cause(path, f'Invalid value: "{uri[:200]}": {why}')


def _about_adapters(service: InferenceService, path: str) -> Iterator[Cause]:
    taken = {service.metadata.name}
    for index, adapter in enumerate(service.spec.predictor.model.lora.adapters):
        name = adapter.name
        if not _ADAPTER_NAME.fullmatch(name):
            why = "must be letters and digits, and between them '-', '_' and '.'"
            yield Cause(f"{path}[{index}].name", f'Invalid value: "{name[:200]}": {why}')
        elif name in taken:
            yield Cause(
                f"{path}[{index}].name", f'Duplicate value: "{name}"', "FieldValueDuplicate"
            )
        taken.add(name)
        yield from _about_file(adapter.uri, f"{path}[{index}].uri")


def selector(service: InferenceService) -> str:
    """Return the label selector of a service's replicas."""
    return f"{SERVICE_LABEL}={service.metadata.name}"


def _ready(service: InferenceService) -> str:
    found = next((one for one in service.status.conditions if one.type == "Ready"), None)
    return found.status if found else "Unknown"


def _replicas(service: InferenceService) -> str:
    return f"{service.status.ready_replicas}/{service.spec.predictor.replicas}"


SERVICES = KindDefinition.of(
    InferenceService,
    short_names=("isvc",),
    categories=("all", "inferno"),
    validate=violations,
    scale=ScalePaths(
        spec_replicas="spec.predictor.replicas",
        status_replicas="status.readyReplicas",
        selector=selector,
    ),
    columns=(
        Column(name="Ready", value=_ready, description="Whether it answers requests."),
        Column(
            name="State",
            value=lambda service: service.status.state,
            description="Where it is between unloaded and ready.",
        ),
        Column(name="Replicas", value=_replicas, description="How many are ready, of how many."),
        Column(
            name="Format",
            value=lambda service: service.spec.predictor.model.model_format.name,
            description="The format of the model's file.",
            priority=1,
        ),
        Column(
            name="Reason",
            value=lambda service: service.status.reason,
            description="Why it is not ready, in one word.",
            priority=1,
        ),
        Column(
            name="Message",
            value=lambda service: service.status.message,
            description="Why it is not ready.",
            priority=1,
        ),
    ),
)
"""Models that the platform serves."""
