"""Labels that the replicas of a service carry, so that selectors find them."""

from __future__ import annotations

from inferno.core.resources import SERVICE_LABEL, InferenceService

KSERVE_SERVICE_LABEL = "serving.kserve.io/inferenceservice"
"""KServe's label for the InferenceService that a pod belongs to."""


def replica_labels(service: InferenceService) -> dict[str, str]:
    """Return the labels of a service's replicas: its own, and those that say whose they are.

    A pool's selector that finds these finds the service's replicas; it would find them, too, where
    the service has none loaded at the moment.
    """
    name = service.metadata.name
    return {
        **service.metadata.labels,
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/component": "predictor",
        "app.kubernetes.io/managed-by": "inferno",
        KSERVE_SERVICE_LABEL: name,
        SERVICE_LABEL: name,
    }
