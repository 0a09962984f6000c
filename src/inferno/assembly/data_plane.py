"""The gateway, what handlers call, and what is counted, measured and traced."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import psutil

from inferno.assembly.way_in import Doors
from inferno.batches.batching import Batching
from inferno.controllers.model_server import set_reachable
from inferno.gateway.directory import Directory
from inferno.gateway.forwarding import Forwarder, Timeouts
from inferno.gateway.gauges import Gauges
from inferno.gateway.lines import LineTable
from inferno.gateway.picking import Picker
from inferno.gateway.pools import Pools
from inferno.gateway.probing import Prober
from inferno.gateway.quotas import QuotaBook
from inferno.gateway.residency import Limits, Residency
from inferno.gateway.routing import Routes
from inferno.gateway.scraper import Scraper
from inferno.gateway.server_clients import ServerClients
from inferno.gateway.suspicions import Suspicions
from inferno.gateway.upstream import UpstreamClient
from inferno.runtimes.keys import replica_key
from inferno.server.batch_items import BatchItems
from inferno.server.inference_events import telling
from inferno.server.operation import Services
from inferno.server.readiness import Readiness
from inferno.settings import Settings
from inferno.storage.base import ResourceStore
from inferno.storage.database import Database
from inferno.storage.probe import DatabaseProbe
from inferno.storage.sealing import Sealer
from inferno.telemetry import otlp
from inferno.telemetry.custom_metrics import CustomMetrics
from inferno.telemetry.exposition import Exposition
from inferno.telemetry.metrics import Source
from inferno.telemetry.metrics_inferences import InferenceMetrics
from inferno.telemetry.metrics_process import ProcessMetrics
from inferno.telemetry.metrics_requests import RequestMetrics
from inferno.telemetry.observability import Observability
from inferno.telemetry.traces import Record, Tracer
from inferno.tenancy.accounts import Accounts
from inferno.version import __version__
from inferno.webhooks.service import Webhooks

MEMORY_SHARE = 0.8
"""Of the machine's memory, what replicas may take unless a setting says otherwise."""


@asynccontextmanager
async def data_plane(
    settings: Settings,
    store: ResourceStore,
    secret: bytes,
    accounts: Accounts,
    doors: Doors,
    hooks: Webhooks,
    database: Database,
    requests: RequestMetrics,
    batches: Batching,
    quotas: QuotaBook,
) -> AsyncIterator[Services]:
    """Wire the gateway and keep its picture of the store fresh while the block runs."""
    lines = LineTable(max_waiting=settings.max_queue, picker=Picker.parse(settings.picker))
    directory = Directory(store, lines, key_of=lambda uid: replica_key(secret, uid))
    residency = Residency(
        store,
        directory,
        lines,
        limits=Limits(
            models=settings.max_loaded_models,
            memory_bytes=settings.max_model_memory_bytes
            or int(psutil.virtual_memory().total * MEMORY_SHARE),
            idle_seconds=settings.idle_unload_after,
        ),
        load_on_demand=settings.load_on_demand,
        load_timeout=settings.load_timeout,
    )
    client, server_clients = UpstreamClient(), ServerClients()
    pools = Pools(store, directory, lines, server_clients, quotas, unsealed=Sealer(secret).value)
    prober = Prober(
        pools,
        client,
        functools.partial(set_reachable, store),
        interval=settings.probe_interval,
    )
    probe = DatabaseProbe(database)
    scraper = Scraper(client, lines)
    suspicions = Suspicions(store)
    routes = Routes(directory, pools.named, pools.objectives)
    async with (
        closing(client),
        closing(server_clients),
        closing(probe),
        directory.following(),
        pools.following(),
        prober.probing(),
        suspicions.reporting(),
        scraper.scraping(settings.scrape_interval),
        observing(
            settings,
            database,
            requests,
            Gauges(directory, lines, scraper),
            lambda model: directory.has_name(model) or pools.has_name(model),
        ) as observability,
    ):
        forwarder = Forwarder(
            routes, residency, client, timeouts(settings), fell_silent=suspicions.note
        )
        async with asyncio.TaskGroup() as tasks:
            idle = tasks.create_task(residency.unload_idle())
            services = Services(
                directory=directory,
                residency=residency,
                forwarder=forwarder,
                access=doors.access,
                sessions=doors.sessions,
                users=accounts.users,
                keys=accounts.keys,
                overrides=accounts.overrides,
                webhooks=hooks,
                batches=batches.desk,
                default_limits=settings.default_limits,
                default_max_tokens=settings.default_max_tokens,
                max_body_bytes=settings.max_body_bytes,
                readiness=Readiness(directory, probe),
                version=__version__,
                observability=observability,
                observers=(
                    observability.inferences,
                    observability.tracer,
                    telling(hooks.outbox),
                ),
                begin_trace=observability.tracer.begin,
            )
            async with batches.runner(BatchItems(services)).working():
                yield services
            idle.cancel()


def timeouts(settings: Settings) -> Timeouts:
    """Return how long a call to a replica may take."""
    return Timeouts(
        queue=settings.queue_timeout,
        load=settings.load_timeout,
        request=settings.request_timeout,
        first_byte=settings.first_byte_timeout,
        idle=settings.stream_idle_timeout,
        hedge_after=settings.hedge_after,
    )


@asynccontextmanager
async def observing(
    settings: Settings,
    database: Database,
    requests: RequestMetrics,
    gauges: Gauges,
    is_known: Callable[[str], bool],
) -> AsyncIterator[Observability]:
    """Wire metrics and traces, and export traces while the block runs, where that is wanted.

    OpenTelemetry's own variables say so; they are read here and by its exporter, nowhere else.
    """
    inferences = InferenceMetrics(is_known, max_names=settings.metrics_max_names)
    process = ProcessMetrics(version=__version__)
    custom = CustomMetrics(database)
    sources: list[Source] = [inferences.measured, requests.measured, process.measured]
    sinks: list[Callable[[Record], None]] = []
    async with AsyncExitStack() as stack:
        if otlp.is_wanted(os.environ):
            exporter = otlp.OtlpExporter(otlp.Batching.of(os.environ), version=__version__)
            await stack.enter_async_context(exporter.exporting())
            sources.append(exporter.measured)
            sinks.append(exporter)
        await stack.enter_async_context(process.watching_the_loop())
        yield Observability(
            inferences=inferences,
            requests=requests,
            process=process,
            custom=custom,
            exposition=Exposition(sources, [gauges.measured, custom.measured]),
            tracer=Tracer(
                otlp.sampling_of(settings.trace_sampling, os.environ),
                ring=settings.trace_ring,
                sinks=sinks,
            ),
        )


@asynccontextmanager
async def closing(thing: UpstreamClient | ServerClients | DatabaseProbe) -> AsyncIterator[None]:
    """Close the thing at the end of the block."""
    try:
        yield
    finally:
        await thing.close()
