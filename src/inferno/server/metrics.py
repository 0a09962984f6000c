"""`/metrics`: what the platform measures, and metrics that others report."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from inferno.gateway.directory import Directory
from inferno.server.operation import Services, Visited
from inferno.server.recording import record
from inferno.telemetry.custom_metrics import Report
from inferno.telemetry.exposition import as_json
from inferno.telemetry.metrics_inferences import InferenceMetrics, ModelSeries
from inferno.web.exchange import decode_body

_reports: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


async def metrics(exchange: Visited, services: Services) -> None:
    """`GET /metrics`: Prometheus' text format, or OpenMetrics for those who accept it."""
    accept = (exchange.header(b"accept") or b"").decode("latin-1")
    page = await services.observability.exposition.page(accept)
    content_type = (b"content-type", page.content_type.encode("latin-1"))
    await exchange.respond(200, page.body, [content_type, (b"vary", b"accept")])


async def metrics_json(exchange: Visited, services: Services) -> None:
    """`GET /metrics/json`: the same as JSON."""
    await exchange.respond_json(as_json(await services.observability.exposition.gather()))


async def snapshot(exchange: Visited, services: Services) -> None:
    """`GET /metrics/snapshot`: the few figures that a person wants to see first."""
    observability = services.observability
    await exchange.respond_json(
        {
            "timestamp": int(time.time()),
            "inference_metrics": inference_metrics(observability.inferences),
            "system_metrics": {
                "memory_usage_bytes": observability.process.memory_bytes,
                "cpu_usage_percent": observability.process.cpu_percent(),
                "uptime_seconds": int(observability.process.uptime),
            },
            "model_metrics": model_metrics(services.directory, observability.inferences),
        }
    )


def inference_metrics(inferences: InferenceMetrics) -> dict[str, Any]:
    """Return what all models did together; times are those of inferences that ended well."""
    models = inferences.models.values()
    successful = sum(one.successful for one in models)
    seconds = inferences.duration().sum
    tokens = sum(one.completion_tokens for one in models)
    return {
        "total_requests": sum(one.requests for one in models),
        "successful_requests": successful,
        "failed_requests": sum(one.failed for one in models),
        "cancelled_requests": sum(one.cancelled for one in models),
        "total_tokens_generated": tokens,
        "total_prompt_tokens": sum(one.prompt_tokens for one in models),
        "total_inference_time_ms": round(seconds * 1000),
        "average_tokens_per_second": round(tokens / seconds, 3) if seconds else 0.0,
        "average_latency_ms": round(seconds * 1000 / successful, 3) if successful else 0.0,
    }


def model_metrics(directory: Directory, inferences: InferenceMetrics) -> dict[str, Any]:
    """Return what loaded models did."""
    loaded = {name: one for name, one in directory.services.items() if directory.is_loaded(name)}
    series = inferences.models
    return {
        "loaded_models": {
            name: {
                "name": name,
                "size_bytes": service.spec.predictor.model.info.size_bytes,
                **_loading(directory, name),
                **_work(series.get(name)),
            }
            for name, service in sorted(loaded.items())
        },
        "total_model_size_bytes": sum(
            service.spec.predictor.model.info.size_bytes for service in loaded.values()
        ),
    }


def _loading(directory: Directory, model: str) -> dict[str, Any]:
    ready = [pod for pod in directory.pods_of(model) if pod.status.phase == "Ready"]
    newest = max(ready, key=lambda pod: pod.status.ready_at)
    return {"load_time_ms": newest.status.load_time_ms, "backend_type": newest.spec.engine}


def _work(series: ModelSeries | None) -> dict[str, int]:
    if series is None:
        return {"inference_count": 0, "total_inference_time_ms": 0}
    return {
        "inference_count": series.requests,
        "total_inference_time_ms": round(series.duration.sum * 1000),
    }


async def report(exchange: Visited, services: Services) -> None:
    """`POST /metrics/custom`: answered once it is written."""
    reported: Report = decode_body(_reports, await exchange.body())
    value = await services.observability.custom.report(reported)
    await exchange.respond_json(
        {
            "status": "recorded",
            "name": reported.shown_name,
            "type": reported.type,
            "labels": reported.labels,
            "value": value,
        }
    )


async def delete(exchange: Visited, services: Services) -> None:
    """`DELETE /metrics/custom/{name}`."""
    name = exchange.path_params["name"]
    await services.observability.custom.delete(name)
    await record(exchange, services, "metric.delete", f"metric:{name}")
    await exchange.respond_json({"status": "deleted", "name": name})
