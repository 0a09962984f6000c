"""Models: listing them in both APIs, loading and unloading."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from inferno.core.errors import InvalidRequest
from inferno.core.resources import EngineOptions, InferenceService
from inferno.gateway.directory import Directory
from inferno.server.operation import Services, Visited
from inferno.server.recording import record
from inferno.server.types import LoadRequest
from inferno.web.exchange import decode_body

_loads: msgspec.json.Decoder[LoadRequest | None] = msgspec.json.Decoder(LoadRequest | None)

OWNER = "local"


async def list_models(exchange: Visited, services: Services) -> None:
    """`GET /models`."""
    directory = services.directory
    names = sorted(directory.services)
    models = [described(directory.services[name], directory) for name in names]
    await exchange.respond_json({"models": models})


async def get_model(exchange: Visited, services: Services) -> None:
    """`GET /models/{model_id}`."""
    service = services.directory.service(exchange.path_params["model_id"])
    await exchange.respond_json(described(service, services.directory))


def described(service: InferenceService, directory: Directory) -> dict[str, Any]:
    """Return a model as the native API shows it.

    `context_size` is what one request can hold: the replica's figure where one is ready, else
    what is configured, else what the model was trained for.
    """
    name = service.metadata.name
    model = service.spec.predictor.model
    pods = directory.pods_of(name)
    ready = [pod for pod in pods if pod.status.phase == "Ready"]
    # While options change, a replica of the old ones may still be there; the wanted come first.
    ready.sort(key=lambda pod: pod.spec.model != model)
    shown: dict[str, Any] = {
        "id": name,
        "name": model.info.display_name or name,
        "type": model.model_format.name,
        "size_bytes": model.info.size_bytes,
        "loaded": bool(ready),
        "context_size": ready[0].status.context_size
        if ready
        else model.options.context_size or model.info.context_length,
        "capabilities": (ready[0].status.capabilities if ready else model.info.capabilities)
        or ["text-generation"],
        "status": service.status.state.lower(),
        "pinned": service.spec.pinned,
    }
    # The replicas know first; the service's status follows them.
    failure = directory.load_failure(name)
    if failure is not None:
        shown |= {"status": "failed", "reason": failure.reason, "message": failure.message}
    elif model.info.problem:
        shown |= {"reason": model.info.problem_reason, "message": model.info.problem}
    elif service.status.reason:
        shown |= {"reason": service.status.reason, "message": service.status.message}
    for key in ("architecture", "quantization", "license", "parameters"):
        if value := getattr(model.info, key):
            shown[key] = value
    if ready:
        shown["memory_usage_bytes"] = sum(pod.status.memory_bytes for pod in ready)
        shown["restarts"] = sum(pod.status.restarts for pod in pods)
    return shown


async def list_openai_models(exchange: Visited, services: Services) -> None:
    """`GET /v1/models`."""
    known = services.directory.services
    data = [_openai_model(known[name]) for name in sorted(known)]
    await exchange.respond_json({"object": "list", "data": data})


async def get_openai_model(exchange: Visited, services: Services) -> None:
    """`GET /v1/models/{model_id}`."""
    service = services.directory.service(exchange.path_params["model_id"])
    await exchange.respond_json(_openai_model(service))


def _openai_model(service: InferenceService) -> dict[str, Any]:
    created = datetime.fromisoformat(service.metadata.creation_timestamp)
    return {
        "id": service.metadata.name,
        "object": "model",
        "created": int(created.timestamp()),
        "owned_by": OWNER,
    }


async def load_model(exchange: Visited, services: Services) -> None:
    """`POST /models/{model_id}/load`; no body, `null` and `{}` are alike."""
    model = exchange.path_params["model_id"]
    body = await exchange.body()
    request: LoadRequest | None = decode_body(_loads, body) if body.strip() else None
    options = EngineOptions(**msgspec.structs.asdict(request)) if request else None
    # No watch for the client here: a load that was asked for is finished, whoever waits.
    check_context(services.directory.service(model), options)
    loaded = await services.residency.load(model, options)
    await record(exchange, services, "model.load", f"model:{model}")
    await exchange.respond_json(
        {
            "status": "loaded",
            "model_id": model,
            "memory_usage_bytes": loaded.memory_bytes,
            "load_time_ms": loaded.load_time_ms,
            "context_size": loaded.context_size,
        }
    )


def check_context(service: InferenceService, options: EngineOptions | None) -> None:
    """Refuse a context that the model was not made for; the engine would cut it silently.

    Raises:
        InvalidRequest: names the field.
    """
    trained = service.spec.predictor.model.info.context_length
    if options is None or options.context_size is None or not trained:
        return
    if options.context_size > trained:
        raise InvalidRequest(
            f"'context_size' is {options.context_size}, but the model was trained for {trained}.",
            field="context_size",
        )


async def unload_model(exchange: Visited, services: Services) -> None:
    """`POST /models/{model_id}/unload`; running requests finish first."""
    model = exchange.path_params["model_id"]
    await exchange.body()
    await services.residency.unload(model)
    await record(exchange, services, "model.unload", f"model:{model}")
    await exchange.respond_json({"status": "unloaded", "model_id": model})
