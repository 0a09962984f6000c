"""What the platform says of itself: health, metrics, traces."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from inferno.client.calls import Call, delete, get, given, member, post, query, reader, segment


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


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a trace."""

    name: str
    span_id: str
    start_time: str
    duration_ms: float
    parent_span_id: str = ""
    attributes: dict[str, Any] = {}


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """An inference that was traced (seed 001), and its parts."""

    trace_id: str
    span_id: str
    operation_name: str
    start_time: str
    duration_ms: float
    status: str
    model: str = ""
    tenant: str = ""
    request_id: str = ""
    error: Any = None
    attributes: dict[str, Any] = {}
    spans: list[Span] = []


_read_health = reader(Health)
_read_readiness = reader(Readiness)
_read_json = reader(dict[str, Any])
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


def metrics_json() -> Call[dict[str, Any]]:
    """Return the platform's metrics as JSON."""
    return get("/metrics/json", _read_json)


def metrics_snapshot() -> Call[dict[str, Any]]:
    """Return the few figures that a person wants to see first."""
    return get("/metrics/snapshot", _read_json)


def traces(
    *,
    model: str | None = None,
    status: Literal["ok", "error", "cancelled"] | None = None,
    trace_id: str | None = None,
    request_id: str | None = None,
    since: str | None = None,
    limit: int | None = None,
) -> Call[list[Trace]]:
    """Return the latest traces, newest first.

    Args:
        model: of one model.
        status: that ended so.
        trace_id: the one of that id.
        request_id: that of one request.
        since: not before this time, RFC 3339.
        limit: 1 to 1000.
    """
    asked = query(
        model=model,
        status=status,
        trace_id=trace_id,
        request_id=request_id,
        since=since,
        limit=limit,
    )
    return get(f"/traces{asked}", _read_traces)


def custom_metric(
    name: str,
    value: float,
    *,
    type: Literal["counter", "gauge", "histogram"] = "gauge",  # noqa: A002 - the API's name
    labels: Mapping[str, str] | None = None,
) -> Call[dict[str, Any]]:
    """Report a metric of the caller's own.

    Args:
        name: of the metric.
        value: of the gauge; what is added to a counter; what a histogram observes.
        type: of the metric.
        labels: of this value.
    """
    body = given(name=name, value=value, type=type, labels=labels)
    return post("/metrics/custom", _read_json, body)


def delete_custom_metric(name: str) -> Call[dict[str, Any]]:
    """Forget a metric of the caller's own."""
    return delete(f"/metrics/custom/{segment(name)}", _read_json)
