"""Models: listing them in both APIs, loading and unloading."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from inferno.core.errors import InvalidRequest
from inferno.core.resources import EngineOptions, InferenceService
from inferno.gateway.directory import Directory
from inferno.gateway.following import place_of
from inferno.server.operation import Services, Visited
from inferno.server.recording import record
from inferno.server.types import LoadRequest
from inferno.web.exchange import decode_body

_loads: msgspec.json.Decoder[LoadRequest | None] = msgspec.json.Decoder(LoadRequest | None)

OWNER = "local"


async def list_models(exchange: Visited, services: Services) -> None:
    """`GET /models`."""
    directory, tenant = services.directory, exchange.visit.principal.tenant
    places = [directory.place(name, tenant) for name in directory.names(tenant)]
    models = [described(directory.services[place], directory) for place in places]
    await exchange.respond_json({"models": models})


async def get_model(exchange: Visited, services: Services) -> None:
    """`GET /models/{model_id}`."""
    directory, name = services.directory, exchange.path_params["model_id"]
    base = directory.place_of_adapter(name, exchange.visit.principal.tenant)
    if base is not None and name not in directory.names(exchange.visit.principal.tenant):
        await exchange.respond_json(_described_adapter(name, base, directory))
        return
    service = directory.service(_place(exchange, services))
    await exchange.respond_json(described(service, directory))


def _place(exchange: Visited, services: Services) -> str:
    """Return which model the path names.

    Raises:
        ModelNotFound: none.
        InvalidRequest: it names a LoRA adapter.
    """
    directory, tenant = services.directory, exchange.visit.principal.tenant
    name = exchange.path_params["model_id"]
    base = directory.place_of_adapter(name, tenant)
    if base is not None and name not in directory.names(tenant):
        model = directory.services[base].metadata.name
        raise InvalidRequest(f"'{name}' is a LoRA adapter: it comes and goes with '{model}'.")
    return directory.place(name, tenant)


def described(service: InferenceService, directory: Directory) -> dict[str, Any]:
    """Return a model as the native API shows it.

    `context_size` is what one request can hold: the replica's figure where one is ready, else
    what is configured, else what the model was trained for.
    """
    name, place = service.metadata.name, place_of(service)
    model = service.spec.predictor.model
    pods = directory.pods_of(place)
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
    failure = directory.load_failure(place)
    if failure is not None:
        shown |= {"status": "failed", "reason": failure.reason, "message": failure.message}
    elif model.info.problem:
        shown |= {"reason": model.info.problem_reason, "message": model.info.problem}
    elif service.status.reason:
        shown |= {"reason": service.status.reason, "message": service.status.message}
    if model.lora.adapters:
        shown["adapters"] = model.adapters
    for key in ("architecture", "quantization", "license", "parameters"):
        if value := getattr(model.info, key):
            shown[key] = value
    if ready:
        shown["memory_usage_bytes"] = sum(pod.status.memory_bytes for pod in ready)
        shown["restarts"] = sum(pod.status.restarts for pod in pods)
    return shown


def _described_adapter(name: str, base: str, directory: Directory) -> dict[str, Any]:
    """Return a LoRA adapter as the native API shows it: its model, and what is its own."""
    service = directory.services[base]
    shown = described(service, directory)
    shown.pop("adapters")
    shown |= {"id": name, "name": name, "parent": service.metadata.name}
    shown["capabilities"] = [one for one in shown["capabilities"] if one != "embeddings"]
    failure = directory.adapter_failure(base, name)
    if failure is not None:
        shown |= {"loaded": False, "status": "failed"}
        shown |= {"reason": failure.reason, "message": failure.message}
    elif shown.get("reason") == "AdapterUnusable":  # another one is
        del shown["reason"], shown["message"]
    return shown


async def list_openai_models(exchange: Visited, services: Services) -> None:
    """`GET /v1/models`."""
    directory, tenant = services.directory, exchange.visit.principal.tenant
    places = {name: directory.place(name, tenant) for name in directory.names(tenant)}
    routes = services.forwarder.routes
    data = [_openai_model(directory.services[place]) for place in places.values()]
    adapters = {
        name: directory.place_of_adapter(name, tenant) or ""
        for name in directory.adapter_names(tenant)
        if name not in places
    }
    data += [_openai_adapter(name, directory.services[base]) for name, base in adapters.items()]
    known = {*places, *adapters}
    data += [_openai_route(name) for name in routes.names(tenant) if name not in known]
    await exchange.respond_json({"object": "list", "data": data})


async def get_openai_model(exchange: Visited, services: Services) -> None:
    """`GET /v1/models/{model_id}`."""
    model = exchange.path_params["model_id"]
    if model in services.forwarder.routes.names(exchange.visit.principal.tenant):
        await exchange.respond_json(_openai_route(model))
        return
    directory, tenant = services.directory, exchange.visit.principal.tenant
    base = directory.place_of_adapter(model, tenant)
    if base is not None and model not in directory.names(tenant):
        await exchange.respond_json(_openai_adapter(model, directory.services[base]))
        return
    service = directory.service(_place(exchange, services))
    await exchange.respond_json(_openai_model(service))


def _openai_adapter(name: str, service: InferenceService) -> dict[str, Any]:
    """Return a LoRA adapter, with its model as vLLM names it."""
    return {**_openai_model(service), "id": name, "parent": service.metadata.name}


def _openai_route(name: str) -> dict[str, Any]:
    """Return a name that an InferenceModel gives to models of a pool."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "pool"}


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
    model, place = exchange.path_params["model_id"], _place(exchange, services)
    body = await exchange.body()
    request: LoadRequest | None = decode_body(_loads, body) if body.strip() else None
    options = EngineOptions(**msgspec.structs.asdict(request)) if request else None
    # No watch for the client here: a load that was asked for is finished, whoever waits.
    check_context(services.directory.service(place), options)
    loaded = await services.residency.load(place, options)
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
    model, place = exchange.path_params["model_id"], _place(exchange, services)
    await exchange.body()
    await services.residency.unload(place)
    await record(exchange, services, "model.unload", f"model:{model}")
    await exchange.respond_json({"status": "unloaded", "model_id": model})
