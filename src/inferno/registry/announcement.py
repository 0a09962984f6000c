"""What a platform says of itself in a registry. Pure.

A registry is public, so only what everybody may know is said: models that are for everybody, by
name; nothing of tenants' own, no files, no internal addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from inferno.core.resources import DEFAULT_NAMESPACE, InferenceService, Pod
from inferno.core.tenancy import LimitPolicy
from inferno.registry.entries import METADATA, NAME, TAGS, TTL, URL, URLS, Document

MAX_MODELS = 128
"""Models that are listed; an entry has room for 2000 values."""

MAX_CAPABILITIES = 8


@dataclass(frozen=True, slots=True)
class Profile:
    """What does not change while a platform runs.

    Args:
        name: of the entry.
        url: base of the inference API as clients reach it; empty where nobody knows.
        ttl: seconds that the entry lives without a heartbeat.
        version: the platform's.
        limits: of callers of whom nothing else is said.
        tags: the operator's.
        metadata: the operator's; it wins over what the platform says of itself.
    """

    name: str
    url: str
    ttl: int
    version: str
    limits: LimitPolicy
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def announcement(
    profile: Profile, hardware: Mapping[str, Any], models: Sequence[Mapping[str, Any]]
) -> Document:
    """Return the entry of a platform, but for its id.

    Args:
        profile: what does not change.
        hardware: what the machine has.
        models: as `public_models` lists them.
    """
    limits = {
        name: limit
        for name, limit in msgspec.structs.asdict(profile.limits).items()
        if limit is not None
    }
    return {
        NAME: profile.name,
        METADATA: {
            "engine": "inferno",
            "version": profile.version,
            "models": list(models[:MAX_MODELS]),
            "model_count": len(models),
            "hardware": dict(hardware),
            # Seed 000's example asks for it here.
            "gpu_available": bool(hardware.get("gpus")),
            "limits": limits,
            **profile.metadata,
        },
        TAGS: list(profile.tags),
        URL: profile.url,
        URLS: urls_of(profile.url),
        TTL: profile.ttl,
    }


def urls_of(url: str) -> dict[str, str]:
    """Return where each protocol of the inference API is spoken, by its base."""
    if not url:
        return {}
    scheme, _, rest = url.rstrip("/").partition("://")
    secure = "s" if scheme == "https" else ""
    base = f"{scheme}://{rest}"
    return {
        scheme: base,
        "rest": base,
        "openai": f"{base}/v1",
        f"ws{secure}": f"ws{secure}://{rest}/ws",
    }


def public_models(
    services: Iterable[InferenceService], pods: Iterable[Pod], published: Iterable[str]
) -> list[dict[str, Any]]:
    """Return the models that are for everybody, by name.

    Args:
        services: models that are served, those of tenants among them.
        pods: their replicas.
        published: names that models of pools have in the namespace for everybody.
    """
    ready: dict[str, Pod] = {}
    for pod in pods:
        if pod.status.phase == "Ready" and pod.metadata.namespace == DEFAULT_NAMESPACE:
            ready.setdefault(pod.spec.service, pod)
    found = {
        service.metadata.name: _described(service, ready.get(service.metadata.name))
        for service in services
        if service.metadata.namespace == DEFAULT_NAMESPACE
        and not service.spec.predictor.model.info.problem
    }
    for name in published:
        found.setdefault(name, {"id": name, "type": "pool"})
    return [found[name] for name in sorted(found)]


def _described(service: InferenceService, pod: Pod | None) -> dict[str, Any]:
    model = service.spec.predictor.model
    context = pod.status.context_size if pod else 0
    capabilities = (pod.status.capabilities if pod else ()) or model.info.capabilities
    shown: dict[str, Any] = {
        "id": service.metadata.name,
        "type": model.model_format.name,
        "loaded": pod is not None,
        "context_size": context or model.options.context_size or model.info.context_length,
        "capabilities": list(capabilities)[:MAX_CAPABILITIES] or ["text-generation"],
    }
    for key in ("architecture", "quantization", "parameters"):
        if value := getattr(model.info, key):
            shown[key] = value
    return shown
