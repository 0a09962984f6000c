"""`GET /traces`: the latest inferences that were traced, with their spans."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

import msgspec

from inferno.core.errors import InvalidRequest
from inferno.server.operation import Services, Visited
from inferno.telemetry.spans import Span, spans_of
from inferno.telemetry.traces import Record, Wanted
from inferno.web.exchange import invalid_request


class TraceQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Query parameters of `GET /traces`."""

    model: str = ""
    status: Literal["", "ok", "error", "cancelled"] = ""
    tenant: str = ""
    trace_id: str = ""
    request_id: str = ""
    min_duration_ms: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    since: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


async def traces(exchange: Visited, services: Services) -> None:
    """`GET /traces`: newest first."""
    given = dict(parse_qsl(exchange.scope["query_string"].decode("latin-1")))
    try:
        asked = msgspec.convert(given, TraceQuery, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_request(str(error)) from None
    wanted = Wanted(
        model=asked.model,
        status=asked.status,
        tenant=asked.tenant,
        trace_id=asked.trace_id.lower(),
        request_id=asked.request_id,
        min_duration_ms=asked.min_duration_ms,
        since=seconds_of(asked.since) if asked.since else 0.0,
        limit=asked.limit,
    )
    found = services.observability.tracer.find(wanted)
    await exchange.respond_json({"traces": [shown(record) for record in found]})


def seconds_of(text: str) -> float:
    """Return a time in seconds since the epoch; without an offset it is UTC.

    Raises:
        InvalidRequest: it is no time.
    """
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(
            "'since' must be a time such as 2026-01-31T12:00:00Z.", field="since"
        ) from None


def shown(record: Record) -> dict[str, Any]:
    """Return a trace as seed 001 shows it, and what else is known of it."""
    root, *children = spans_of(record)
    trace: dict[str, Any] = {
        "trace_id": record.trace.trace_id,
        "span_id": root.span_id,
        "operation_name": f"inference.{record.model}",
        "start_time": time_of(root.start_ns),
        "duration_ms": round(record.duration_ms, 3),
        "status": record.status,
        "model": record.model,
        "tenant": record.tenant,
        "request_id": record.request_id,
        "attributes": root.attributes,
        "events": [
            {"name": e.name, "time": time_of(e.at_ns), "attributes": e.attributes}
            for e in root.events
        ],
        "spans": [shown_span(child) for child in children],
    }
    if record.trace.parent_id:
        trace["parent_span_id"] = record.trace.parent_id
    if record.error:
        trace["error"] = record.error
    return trace


def shown_span(span: Span) -> dict[str, Any]:
    """Return a part of a trace."""
    return {
        "name": span.name,
        "span_id": span.span_id,
        "parent_span_id": span.parent_id,
        "start_time": time_of(span.start_ns),
        "duration_ms": round((span.end_ns - span.start_ns) / 1e6, 3),
        "attributes": span.attributes,
    }


def time_of(ns: int) -> str:
    """Return nanoseconds since the epoch as RFC 3339 with microseconds."""
    moment = datetime.fromtimestamp(ns / 1e9, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
