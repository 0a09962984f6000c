"""All that counts, measures and traces, as one thing that can be handed around."""

from __future__ import annotations

from dataclasses import dataclass

from inferno.telemetry.custom_metrics import CustomMetrics
from inferno.telemetry.exposition import Exposition
from inferno.telemetry.metrics_inferences import InferenceMetrics
from inferno.telemetry.metrics_process import ProcessMetrics
from inferno.telemetry.metrics_requests import RequestMetrics
from inferno.telemetry.traces import Tracer


@dataclass(frozen=True, slots=True)
class Observability:
    """What is known of how the platform does.

    Args:
        inferences: counts inferences.
        requests: counts HTTP requests and refusals.
        process: measures this process.
        custom: metrics that others report.
        exposition: all of these, and the gateway's, as a page.
        tracer: begins traces and keeps the latest.
    """

    inferences: InferenceMetrics
    requests: RequestMetrics
    process: ProcessMetrics
    custom: CustomMetrics
    exposition: Exposition
    tracer: Tracer
