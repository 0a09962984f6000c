"""`InferenceObjective` as v1alpha2 shows it: as it is stored."""

from __future__ import annotations

from inferno.core.inference_objectives import InferenceObjective
from inferno.core.kinds import Column, KindDefinition
from inferno.core.served.inference_models import accepted

COLUMNS = (
    Column(
        name="Inference Pool",
        value=lambda objective: objective.spec.pool_ref.name,
        description="The pool whose requests may name it.",
    ),
    Column(
        name="Priority",
        value=lambda objective: objective.spec.priority,
        type="integer",
        description="The higher, the more important.",
    ),
    Column(name="Accepted", value=accepted, description="Whether requests may name it."),
)

OBJECTIVES = KindDefinition.of(InferenceObjective, columns=COLUMNS, categories=("inferno",))
"""Priorities that requests can name."""
