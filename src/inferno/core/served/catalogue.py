"""All kinds of this package, as the cluster API serves them."""

from __future__ import annotations

from inferno.core.kinds import KindDefinition
from inferno.core.served import (
    inference_models,
    inference_objectives,
    inference_pools,
    model_servers,
    secrets,
)

DEFINITIONS: tuple[KindDefinition, ...] = (
    inference_pools.EXPERIMENTAL,
    inference_pools.STABLE,
    inference_models.MODELS,
    inference_objectives.OBJECTIVES,
    model_servers.SERVERS,
    secrets.SECRETS,
)
