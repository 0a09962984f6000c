"""Metrics of models and replicas as they stand: queues, replicas, loading, the engines' own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from inferno.core.resources import Pod
from inferno.gateway.directory import Directory
from inferno.gateway.endpoints import EndpointTable, Line
from inferno.gateway.scraping import EndpointLoad, Scraper
from inferno.telemetry.metrics import Family, Measured

STALE_AFTER = 30.0
"""Seconds after which what an engine said of itself is no longer repeated."""

BY_MODEL = ("model",)
BY_REPLICA = ("model", "replica")

MODELS = Family("inferno_models", "gauge", "Models that there are, loaded or not.")
LOADED = Family("inferno_loaded_models", "gauge", "Models that a replica can answer for.")
LOADED_COUNT = Family(
    "inferno_loaded_models_count", "unknown", "The same, under the name it had at first."
)
RUNNING = Family(
    "inferno_requests_running", "gauge", "Requests that replicas have been given.", BY_MODEL
)
WAITING = Family(
    "inferno_requests_waiting", "gauge", "Requests that wait here for a replica.", BY_MODEL
)
BACKGROUND_WAITING = Family(
    "inferno_background_requests_waiting", "gauge", "Requests of batches that wait.", BY_MODEL
)
REPLICAS = Family("inferno_replicas", "gauge", "Replicas by phase.", ("model", "phase"))
RESTARTS = Family(
    "inferno_replica_restarts_total",
    "counter",
    "How often a replica's process was started again.",
    BY_REPLICA,
)
LOAD_TIME = Family(
    "inferno_model_load_time_seconds",
    "gauge",
    "How long the newest replica took to load the model.",
    ("model", "backend"),
)
MEMORY = Family(
    "inferno_model_memory_bytes", "gauge", "Memory of a model's replicas once loaded.", BY_MODEL
)
SLOTS = Family(
    "inferno_replica_slots", "gauge", "Requests that a replica works on at once.", BY_REPLICA
)
IN_FLIGHT = Family(
    "inferno_replica_requests_running",
    "gauge",
    "Requests that a replica was given; those beyond its slots wait in it.",
    BY_REPLICA,
)
ENGINE_RUNNING = Family(
    "inferno_engine_requests_running",
    "gauge",
    "Requests that an engine works on, as it says.",
    BY_REPLICA,
)
ENGINE_WAITING = Family(
    "inferno_engine_requests_waiting",
    "gauge",
    "Requests that wait in an engine, as it says.",
    BY_REPLICA,
)
ENGINE_BATCH = Family(
    "inferno_engine_batch_size",
    "gauge",
    "Requests in a step of an engine, on average since its start.",
    BY_REPLICA,
)
ENGINE_CACHE = Family(
    "inferno_engine_kv_cache_usage_ratio",
    "gauge",
    "Share of an engine's cache that running requests take.",
    BY_REPLICA,
)
ENGINE_AGE = Family(
    "inferno_engine_metrics_age_seconds",
    "gauge",
    "How long ago an engine said what the other metrics of engines repeat.",
    BY_REPLICA,
)

FAMILIES = (
    MODELS, LOADED, LOADED_COUNT, RUNNING, WAITING, BACKGROUND_WAITING, REPLICAS, RESTARTS,
    LOAD_TIME, MEMORY, SLOTS, IN_FLIGHT, ENGINE_RUNNING, ENGINE_WAITING, ENGINE_BATCH,
    ENGINE_CACHE, ENGINE_AGE,
)  # fmt: skip


class Gauges:
    """Looks at the gateway's picture when a scraper asks.

    Only models that are in use have series: those with replicas, or with requests that wait.

    Args:
        directory: services and pods.
        endpoints: lines and replicas.
        scraper: asks the engines.
    """

    def __init__(self, directory: Directory, endpoints: EndpointTable, scraper: Scraper) -> None:
        self._directory = directory
        self._endpoints = endpoints
        self._scraper = scraper

    async def measured(self) -> list[Measured]:
        """Return all values; a `LateSource`, since engines are asked."""
        await self._scraper.refresh()
        pods = list(self._directory.pods.values())
        lines = [line for line in self._endpoints.lines() if line.endpoints or line.busy]
        now = time.monotonic()
        fresh = {
            name: load for name, load in self._scraper.loads.items() if now - load.at <= STALE_AFTER
        }
        return [
            *self._models(),
            *of_lines(lines),
            *of_pods(pods),
            *of_engines(lines, fresh, now),
        ]

    def _models(self) -> Iterable[Measured]:
        names = list(self._directory.services)
        loaded = sum(self._directory.is_loaded(name) for name in names)
        yield Measured.one(MODELS, len(names))
        yield Measured.one(LOADED, loaded)
        yield Measured.one(LOADED_COUNT, loaded)


def of_lines(lines: list[Line]) -> Iterable[Measured]:
    """Return what waits and runs."""
    yield Measured(RUNNING, [((line.model,), line.in_flight) for line in lines])
    yield Measured(WAITING, [((line.model,), line.waiting) for line in lines])
    yield Measured(BACKGROUND_WAITING, [((line.model,), line.background_waiting) for line in lines])
    endpoints = [endpoint for line in lines for endpoint in line.endpoints.values()]
    yield Measured(SLOTS, [((one.model, one.name), one.slots) for one in endpoints])
    yield Measured(IN_FLIGHT, [((one.model, one.name), one.in_flight) for one in endpoints])


def of_pods(pods: list[Pod]) -> Iterable[Measured]:
    """Return how replicas are."""
    phases = Counter((pod.spec.service, str(pod.status.phase)) for pod in pods)
    yield Measured(REPLICAS, list(phases.items()))
    yield Measured(
        RESTARTS, [((pod.spec.service, pod.metadata.name), pod.status.restarts) for pod in pods]
    )
    ready = sorted((p for p in pods if p.status.phase == "Ready"), key=lambda p: p.status.ready_at)
    newest = {(pod.spec.service, pod.spec.engine): pod.status.load_time_ms / 1000 for pod in ready}
    yield Measured(LOAD_TIME, list(newest.items()))
    memory: Counter[tuple[str, ...]] = Counter()
    for pod in ready:
        memory[(pod.spec.service,)] += pod.status.memory_bytes
    yield Measured(MEMORY, list(memory.items()))


def of_engines(lines: list[Line], loads: dict[str, EndpointLoad], now: float) -> Iterable[Measured]:
    """Return what engines say of themselves."""
    said = [
        ((line.model, name), loads[name])
        for line in lines
        for name in line.endpoints
        if name in loads
    ]
    yield Measured(ENGINE_RUNNING, [(labels, load.running) for labels, load in said])
    yield Measured(ENGINE_WAITING, [(labels, load.waiting) for labels, load in said])
    yield Measured(
        ENGINE_BATCH,
        [(labels, load.batch_size) for labels, load in said if load.batch_size is not None],
    )
    yield Measured(
        ENGINE_CACHE,
        [(labels, load.kv_cache_usage) for labels, load in said if load.kv_cache_usage is not None],
    )
    yield Measured(ENGINE_AGE, [(labels, now - load.at) for labels, load in said])
