"""Traces to an OpenTelemetry collector, where its standard environment variables say so.

The SDK's exporter speaks the protocol and reads its own variables (endpoint, headers, timeout,
compression, certificates). Which traces it gets, and when, is ours: requests append to a bounded
queue, and a task hands batches to a thread. No global provider is set, and nothing of
OpenTelemetry is loaded unless traces are exported.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import structlog

from inferno.core.errors import ConfigurationError
from inferno.telemetry.metrics import Family, Measured
from inferno.telemetry.spans import Span, spans_of
from inferno.telemetry.traces import Record, Sampling

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SAMPLERS = {
    "always_on": Sampling(1.0, follow=False),
    "always_off": Sampling(0.0, follow=False),
    "traceidratio": Sampling(1.0, follow=False),
    "parentbased_always_on": Sampling(1.0, follow=True),
    "parentbased_always_off": Sampling(0.0, follow=True),
    "parentbased_traceidratio": Sampling(1.0, follow=True),
}
FLUSH_SECONDS = 5.0
"""How long the last traces may take to be handed over when the platform stops."""

EXPORTED = Family("inferno_traces_exported_total", "counter", "Traces that a collector has taken.")
DROPPED = Family(
    "inferno_traces_dropped_total",
    "counter",
    "Traces that no collector took: it did not answer, or not fast enough.",
)
FAMILIES = (EXPORTED, DROPPED)

log = structlog.get_logger(__name__)


def sampling_of(ratio: float | None, environment: Mapping[str, str]) -> Sampling:
    """Return which inferences are traced.

    Args:
        ratio: the setting; 0 switches tracing off. None leaves it to OpenTelemetry's variables.
        environment: with `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`, perhaps.

    Raises:
        ConfigurationError: there is no such sampler, or its argument is no share.
    """
    if ratio is not None:
        return Sampling(ratio, follow=ratio > 0)
    name = environment.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
    sampling = SAMPLERS.get(name.lower())
    if sampling is None:
        raise ConfigurationError(
            f"OTEL_TRACES_SAMPLER: '{name}' is not known; choose one of {', '.join(SAMPLERS)}."
        )
    if not name.lower().endswith("traceidratio"):
        return sampling
    argument = environment.get("OTEL_TRACES_SAMPLER_ARG") or "1.0"
    try:
        share = float(argument)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigurationError("OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1.")
    return Sampling(share, follow=sampling.follow)


@dataclass(frozen=True, slots=True)
class Batching:
    """How traces are handed over, in the terms of OpenTelemetry's batch span processor.

    Args:
        delay: seconds between two batches.
        queue: traces that may wait; more are dropped.
        batch: traces in a batch, at most.
    """

    delay: float = 5.0
    queue: int = 2048
    batch: int = 512

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read the `OTEL_BSP_…` variables.

        Raises:
            ConfigurationError: one is no positive number.
        """
        queue = _positive(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        return cls(
            delay=_positive(environment, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
            queue=queue,
            batch=min(queue, _positive(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)),
        )


def _positive(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 10**9:
        raise ConfigurationError(f"{name} must be a whole number above 0.")
    return int(text)


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Return whether OpenTelemetry's variables ask for traces to be exported.

    Raises:
        ConfigurationError: they ask for what is not there.
    """
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").lower()
    if exporter not in ("", "otlp", "none"):
        raise ConfigurationError(
            f"OTEL_TRACES_EXPORTER: '{exporter}' is not known; choose otlp or none."
        )
    endpoint = next((name for name in ENDPOINTS if environment.get(name)), None)
    if exporter == "none" or (exporter == "" and endpoint is None):
        return False
    protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), "")
    if protocol not in ("", "http/protobuf"):
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL: '{protocol}' is not spoken here; use http/protobuf."
        )
    if endpoint is not None:
        _check_url(endpoint, environment[endpoint])
    return True


def _check_url(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname is not None
    except ValueError:
        fits = False
    if not fits:
        raise ConfigurationError(f"{name} must be a URL such as http://localhost:4318.")


class OtlpExporter:
    """Hands traces to a collector; it is a sink of the tracer's.

    Args:
        batching: how many, how often.
        version: the platform's.
    """

    def __init__(self, batching: Batching, *, version: str) -> None:
        self._batching = batching
        self._version = version
        self._waiting: deque[Record] = deque()
        self._enough = asyncio.Event()
        self._exported = 0
        self._dropped = 0

    def __call__(self, record: Record) -> None:
        """Leave a trace to be exported soon; never waits."""
        if len(self._waiting) >= self._batching.queue:
            self._dropped += 1
            return
        self._waiting.append(record)
        if len(self._waiting) >= self._batching.batch:
            self._enough.set()

    def measured(self) -> Iterator[Measured]:
        """Return what became of traces; a `Source`."""
        yield Measured.one(EXPORTED, self._exported)
        yield Measured.one(DROPPED, self._dropped)

    @asynccontextmanager
    async def exporting(self) -> AsyncIterator[None]:
        """Export while the block runs, and what is left at its end."""
        exporter, resource = await asyncio.to_thread(_open, self._version)
        try:
            async with asyncio.TaskGroup() as tasks:
                worker = tasks.create_task(self._work(exporter, resource))
                try:
                    yield
                finally:
                    worker.cancel()
            try:
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._flush(exporter, resource)
            except TimeoutError:
                log.warning("traces_not_exported", traces=len(self._waiting))
        finally:
            exporter.shutdown()  # type: ignore[no-untyped-call]

    async def _work(self, exporter: OTLPSpanExporter, resource: Resource) -> None:
        while True:
            try:
                async with asyncio.timeout(self._batching.delay):
                    await self._enough.wait()
            except TimeoutError:
                pass
            await self._flush(exporter, resource)

    async def _flush(self, exporter: OTLPSpanExporter, resource: Resource) -> None:
        """Export all that waits. What a collector does not take is lost, and counted."""
        self._enough.clear()
        while self._waiting:
            size = min(len(self._waiting), self._batching.batch)
            batch = [self._waiting.popleft() for _ in range(size)]
            taken = False
            try:
                taken = await asyncio.to_thread(_export, exporter, resource, batch)
            finally:
                if taken:
                    self._exported += len(batch)
                else:
                    self._dropped += len(batch)
            if not taken:
                log.warning("traces_not_exported", traces=len(batch))


def _open(version: str) -> tuple[OTLPSpanExporter, Resource]:
    """Return the SDK's exporter and what it says of who we are; both read the environment."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource

    ours = Resource({SERVICE_NAME: "inferno", SERVICE_VERSION: version})
    theirs = Resource.create()  # OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME
    named = not str(theirs.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
    resource = ours.merge(theirs) if named else theirs.merge(ours)
    return OTLPSpanExporter(), resource


def _export(exporter: OTLPSpanExporter, resource: Resource, records: Sequence[Record]) -> bool:
    """Send traces; returns whether the collector took them."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    spans = [
        readable(record, span, resource, first=place == 0)
        for record in records
        for place, span in enumerate(spans_of(record))
    ]
    return exporter.export(spans) is SpanExportResult.SUCCESS


def readable(record: Record, span: Span, resource: Resource, *, first: bool) -> ReadableSpan:
    """Return a span as the SDK has it.

    Args:
        record: the inference.
        span: one of its spans.
        resource: who we are.
        first: whether its parent, if any, is a caller's.
    """
    from opentelemetry.sdk.trace import Event as SdkEvent
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
    from opentelemetry.trace.span import TraceState

    def context(span_id: str, *, remote: bool) -> SpanContext:
        state = TraceState.from_header([record.trace.state]) if record.trace.state else None
        ids = int(record.trace.trace_id, 16), int(span_id, 16)
        return SpanContext(*ids, remote, TraceFlags(TraceFlags.SAMPLED), state)

    failed = span.status == "error"
    return ReadableSpan(
        name=span.name,
        context=context(span.span_id, remote=False),
        parent=context(span.parent_id, remote=first) if span.parent_id else None,
        resource=resource,
        attributes=dict(span.attributes),
        events=[SdkEvent(e.name, dict(e.attributes), e.at_ns) for e in span.events],
        kind=SpanKind[span.kind.upper()],
        status=Status(StatusCode.ERROR, record.error) if failed else Status(StatusCode.UNSET),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=InstrumentationScope("inferno"),
    )
