"""Metrics of models and replicas as they stand: queues, replicas, loading, the engines' own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from inferno.core.resources import Pod
from inferno.gateway.directory import Directory
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.lines import Line, LineTable
from inferno.gateway.pools import LINE_PREFIX
from inferno.gateway.scraper import Scraper
from inferno.gateway.scraping import EndpointLoad
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

POOL_WAITING = Family(
    "inferno_pool_requests_waiting", "gauge", "Requests that wait here for a pool.", ("pool",)
)
POOL_READY = Family("inference_pool_ready_pods", "gauge", "A pool's ready endpoints.", ("name",))
POOL_QUEUE = Family(
    "inference_pool_average_queue_size",
    "gauge",
    "Requests that wait inside a pool's endpoints, on average.",
    ("name",),
)
POOL_CACHE = Family(
    "inference_pool_average_kv_cache_utilization",
    "gauge",
    "Share of their caches that is in use in a pool's endpoints, on average.",
    ("name",),
)

FAMILIES = (
    MODELS, LOADED, LOADED_COUNT, RUNNING, WAITING, BACKGROUND_WAITING, REPLICAS, RESTARTS,
    LOAD_TIME, MEMORY, SLOTS, IN_FLIGHT, ENGINE_RUNNING, ENGINE_WAITING, ENGINE_BATCH,
    ENGINE_CACHE, ENGINE_AGE, POOL_WAITING, POOL_READY, POOL_QUEUE, POOL_CACHE,
)  # fmt: skip


class Gauges:
    """Looks at the gateway's picture when a scraper asks.

    Only models that are in use have series: those with replicas, or with requests that wait.

    Args:
        directory: services and pods.
        lines: of models and pools, with their endpoints.
        scraper: asks the engines.
    """

    def __init__(self, directory: Directory, lines: LineTable, scraper: Scraper) -> None:
        self._directory = directory
        self._lines = lines
        self._scraper = scraper

    async def measured(self) -> list[Measured]:
        """Return all values; a `LateSource`, since engines are asked."""
        await self._scraper.refresh()
        lines = self._lines.lines()
        models = [
            line
            for line in lines
            if not line.model.startswith(LINE_PREFIX) and (line.endpoints or line.busy)
        ]
        return [
            *self._models(),
            *of_lines(models),
            *of_pools([line for line in lines if line.model.startswith(LINE_PREFIX)]),
            *of_pods(list(self._directory.pods.values())),
            *of_endpoints(self._scraper.endpoints(), self._scraper.loads, time.monotonic()),
        ]

    def _models(self) -> Iterable[Measured]:
        names = list(self._directory.services)
        loaded = sum(self._directory.is_loaded(name) for name in names)
        yield Measured.one(MODELS, len(names))
        yield Measured.one(LOADED, loaded)
        yield Measured.one(LOADED_COUNT, loaded)


def of_lines(lines: list[Line]) -> Iterable[Measured]:
    """Return what waits and runs, by model."""
    yield Measured(RUNNING, [((line.model,), line.in_flight) for line in lines])
    yield Measured(WAITING, [((line.model,), line.waiting) for line in lines])
    yield Measured(BACKGROUND_WAITING, [((line.model,), line.background_waiting) for line in lines])


def of_pools(lines: list[Line]) -> Iterable[Measured]:
    """Return how pools are; but for one, the names are the Endpoint Picker's."""
    now = time.monotonic()
    pools = [
        (
            (line.model.removeprefix(LINE_PREFIX),),
            line.waiting,
            [one for one in line.endpoints.values() if one.health.admits(now)],
        )
        for line in lines
    ]
    yield Measured(POOL_WAITING, [(name, waiting) for name, waiting, _ in pools])
    yield Measured(POOL_READY, [(name, len(ready)) for name, _, ready in pools])
    yield Measured(
        POOL_QUEUE,
        [(name, sum(e.waiting for e in ready) / len(ready)) for name, _, ready in pools if ready],
    )
    yield Measured(
        POOL_CACHE,
        [
            (name, sum(e.kv_cache_usage for e in ready) / len(ready))
            for name, _, ready in pools
            if ready
        ],
    )


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


def of_endpoints(
    endpoints: list[Endpoint], loads: Mapping[Endpoint, EndpointLoad], now: float
) -> Iterable[Measured]:
    """Return what endpoints have to do, and what their engines say of themselves.

    A server of others answers for no model of ours, so its label is empty.
    """
    labels = {one: (one.model, one.name) for one in endpoints}
    yield Measured(SLOTS, [(labels[one], one.slots) for one in endpoints])
    yield Measured(IN_FLIGHT, [(labels[one], one.in_flight) for one in endpoints])
    said: list[tuple[tuple[str, ...], EndpointLoad]] = [
        (labels[one], loads[one])
        for one in endpoints
        if one in loads and now - loads[one].at <= STALE_AFTER
    ]
    yield Measured(ENGINE_RUNNING, [(name, load.running) for name, load in said])
    yield Measured(ENGINE_WAITING, [(name, load.waiting) for name, load in said])
    yield Measured(
        ENGINE_BATCH,
        [(name, load.batch_size) for name, load in said if load.batch_size is not None],
    )
    yield Measured(
        ENGINE_CACHE,
        [(name, load.kv_cache_usage) for name, load in said if load.kv_cache_usage is not None],
    )
    yield Measured(ENGINE_AGE, [(name, now - load.at) for name, load in said])
