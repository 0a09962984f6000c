"""`ModelServer` as v1alpha1 shows it: as it is stored."""

from __future__ import annotations

from collections.abc import Iterable

from inferno.core import conditions
from inferno.core.kinds import Cause, Column, KindDefinition
from inferno.core.model_servers import READY, ModelServer, violations


def _violations(server: ModelServer) -> Iterable[Cause]:
    return violations(server.spec)


def _ready(server: ModelServer) -> str:
    ready = conditions.find(server.status.conditions, READY)
    return ready.status if ready else "Unknown"


COLUMNS = (
    Column(
        name="Address", value=lambda server: server.spec.address, description="Where the server is."
    ),
    Column(
        name="Port",
        value=lambda server: server.spec.port,
        type="integer",
        description="Where it listens; empty for the port of its pool.",
    ),
    Column(name="Ready", value=_ready, description="Whether requests can be sent to it."),
    Column(
        name="Engine",
        value=lambda server: server.status.engine,
        description="What it runs.",
        priority=1,
    ),
    Column(
        name="Models",
        value=lambda server: ",".join(server.spec.models or server.status.models),
        description="The names that it answers for.",
        priority=1,
    ),
)

SERVERS = KindDefinition.of(
    ModelServer, columns=COLUMNS, validate=_violations, categories=("inferno",)
)
"""Servers of models that somebody else runs."""
