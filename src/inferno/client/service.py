"""What the platform says of itself: health, metrics, traces."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from inferno.client.calls import Call, get, given, member, post, reader


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`/health`: `healthy`, or `degraded`."""

    status: str
    version: str
    uptime_seconds: int
    models_loaded: int


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """`/health/ready`: `ready`, or `not_ready` and by which checks."""

    status: str
    checks: dict[str, str]

    @property
    def is_ready(self) -> bool:
        """Whether the platform wants requests."""
        return self.status == "ready"


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A span of a trace (seed 001); what else the platform tells of it is left out."""

    trace_id: str
    span_id: str
    operation_name: str
    start_time: str
    duration_ms: float
    status: str


_read_health = reader(Health)
_read_readiness = reader(Readiness)
_read_traces = member("traces", list[Trace])


def health() -> Call[Health]:
    """Return how the platform is; needs no key."""
    return get("/health", _read_health)


def live() -> Call[None]:
    """Return if the platform lives; needs no key."""
    return get("/health/live", lambda _: None)


def ready() -> Call[Readiness]:
    """Return whether the platform wants requests, and what speaks against it; needs no key."""
    return dataclasses.replace(get("/health/ready", _read_readiness), answers=frozenset({503}))


def metrics() -> Call[str]:
    """Return the platform's metrics in the Prometheus text format."""
    return get("/metrics", bytes.decode)


def traces() -> Call[list[Trace]]:
    """Return the latest traces."""
    return get("/traces", _read_traces)


def custom_metric(
    name: str,
    value: float,
    *,
    type: Literal["counter", "gauge", "histogram"] = "gauge",  # noqa: A002 - the API's name
    labels: Mapping[str, str] | None = None,
) -> Call[Any]:
    """Report a metric of the caller's own.

    Args:
        name: of the metric.
        value: of the gauge; what is added to a counter; what a histogram observes.
        type: of the metric.
        labels: of this value.
    """
    body = given(name=name, value=value, type=type, labels=labels)
    return post("/metrics/custom", msgspec.json.decode, body)
