"""Both planes and all that they stand on."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from inferno.assembly.announcing import announced
from inferno.assembly.data_plane import data_plane
from inferno.assembly.listening import open_doors
from inferno.assembly.replicas import replicas, running
from inferno.assembly.way_in import way_in
from inferno.batches.batching import Batching
from inferno.batches.types import Bounds as BatchBounds
from inferno.cluster import kinds, node
from inferno.cluster.app import ClusterApi
from inferno.cluster.writing import ensure_namespace
from inferno.controllers.registry_pool import RegistryPoolController
from inferno.core.resources import DEFAULT_NAMESPACE
from inferno.data_dir import DataDir
from inferno.gateway.quotas import QuotaBook
from inferno.registry.app import RegistryApi
from inferno.registry.catalog import Catalog, present
from inferno.registry.expiry import Expiry
from inferno.registry.finding import Finder
from inferno.registry.index import ensure_index
from inferno.registry.observing import Observer
from inferno.registry.probing import PAGE as PROBED_AT_ONCE
from inferno.registry.probing import HealthProber
from inferno.registry.quotas import QuotaApi
from inferno.registry.turn import Turn
from inferno.registry.watching import Watcher
from inferno.runtimes.local import LocalRuntime
from inferno.server.operation import Services
from inferno.settings import Settings
from inferno.storage.base import ResourceStore
from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from inferno.storage.sealing import Sealer
from inferno.telemetry.audit import AuditEvent
from inferno.telemetry.metrics_requests import RequestMetrics
from inferno.tenancy.access import Access
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.first_start import FirstCredentials, ensure_admin
from inferno.version import __version__
from inferno.web.listener import url_of
from inferno.webhooks.deliverer import Deliverer, claim
from inferno.webhooks.deliveries import Deliveries
from inferno.webhooks.guard import Guard
from inferno.webhooks.interest import Interest
from inferno.webhooks.model_events import ModelEvents
from inferno.webhooks.outbox import Outbox
from inferno.webhooks.sealing import SecretSealer
from inferno.webhooks.sending import Sender
from inferno.webhooks.service import Webhooks
from inferno.webhooks.subscriptions import Subscriptions


@dataclass(frozen=True, slots=True)
class Sockets:
    """The listening sockets of the two planes."""

    inference: socket.socket
    management: socket.socket

    @property
    def both(self) -> tuple[socket.socket, socket.socket]:
        """The inference API's, then the control plane's."""
        return self.inference, self.management


@asynccontextmanager
async def platform(
    settings: Settings, data_dir: DataDir, sockets: Sockets, stop: asyncio.Event
) -> AsyncIterator[FirstCredentials | None]:
    """Run both planes while the block runs; it begins once both answer.

    Leaving goes backwards: the planes finish their requests, then the controllers stop, then the
    replicas drain, then the database closes.

    Yields:
        The credentials, where this was the first start.
    """
    async with AsyncExitStack() as stack:
        database = await Database.open(settings.database)
        stack.push_async_callback(database.close)
        secret = data_dir.secret()
        store = await SqlResourceStore.open(database, sealer=Sealer(secret))
        stack.push_async_callback(store.close)
        accounts = Accounts.over(database)
        first = await ensure_admin(
            data_dir,
            accounts.users,
            accounts.keys,
            password=settings.admin_password,
            api_key=settings.api_key,
        )
        hooks = await stack.enter_async_context(webhooks(settings, database, store, secret))
        runtime = await stack.enter_async_context(replicas(settings, data_dir, store, secret))
        requests = RequestMetrics()
        doors = await stack.enter_async_context(
            way_in(settings, database, accounts, secret, on_refusal=requests.refused)
        )
        if first is not None:
            made = AuditEvent(action="platform.init", outcome="success", actor="platform")
            await doors.access.audit.append(made)
        batches = Batching.over(
            database,
            batch_bounds(settings),
            holder=f"{socket.gethostname()}:{data_dir.path}",
            outbox=hooks.outbox,
            check_url=hooks.outbox.guard.check_url,
        )
        quotas = QuotaBook()
        services = await stack.enter_async_context(
            data_plane(
                settings, store, secret, accounts, doors, hooks, database, requests, batches, quotas
            )
        )
        cluster = await cluster_api(store, runtime, doors.access, stop)
        servers = await stack.enter_async_context(
            registry(settings, database, store, doors.access, stop)
        )
        async with asyncio.TaskGroup() as tasks:
            listeners = open_doors(
                settings, data_dir, services, cluster, servers, QuotaApi(quotas, doors.access)
            )
            # The control plane stays until the platform is withdrawn from registries: its own, too.
            withdrawn = asyncio.Event()
            ends = (stop, withdrawn)
            for listener, listening, end in zip(listeners, sockets.both, ends, strict=True):
                tasks.create_task(listener.run_on(listening, end))
            tasks.create_task(drain_at(stop, services))
            for listener in listeners:
                await listener.answering.wait()
            inference_url = url_of(sockets.inference, secure=settings.tls_cert is not None)
            try:
                async with announced(settings, data_dir, services, inference_url):
                    yield first
            finally:
                stop.set()
                withdrawn.set()


async def cluster_api(
    store: ResourceStore, runtime: LocalRuntime, access: Access, stop: asyncio.Event
) -> ClusterApi:
    """Return the cluster API, with the namespace and the node that every cluster has."""
    await ensure_namespace(store, DEFAULT_NAMESPACE)
    await node.announce(store, __version__)
    return ClusterApi(
        store,
        kinds.catalog(node.node_name()),
        runtime,
        access,
        version=__version__,
        stopping=stop,
    )


@asynccontextmanager
async def registry(
    settings: Settings,
    database: Database,
    store: ResourceStore,
    access: Access,
    stop: asyncio.Event,
) -> AsyncIterator[RegistryApi]:
    """Wire the registry of inference servers.

    While the block runs, entries live and expire, and pools take their endpoints from it.
    """
    catalog = Catalog(database, most=settings.max_registry_entries)
    public = settings.registry_public_reads
    await ensure_index(database)
    finder = Finder(database)
    pools = RegistryPoolController(store, Observer(database, finder, auth=settings.auth))
    async with (
        Expiry(catalog, retention=settings.registry_retention).watching(),
        health_prober(settings, database, catalog).probing(),
        running(pools.run),
    ):
        watcher = Watcher(database, stop)
        yield RegistryApi(catalog, finder, watcher, access, public_reads=public)


def health_prober(settings: Settings, database: Database, catalog: Catalog) -> HealthProber:
    """Return what looks at the servers that are registered."""
    guard = Guard.of(settings.registry_probe_allow, setting="registry_probe_allow")
    timeout, concurrency = settings.registry_probe_timeout, settings.registry_probe_concurrency
    # Between two takings of the turn lies one page of entries, whose servers may all be slow.
    seconds = 60 + timeout * (1 + PROBED_AT_ONCE / concurrency)
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    return HealthProber(
        database,
        catalog,
        # Its refusals are in the entries; a line in the log for each round would be too many.
        Sender(guard, timeout=timeout, on_refusal=lambda host, address: None),
        Turn(database, "registry-probing", holder, seconds=seconds, clock=present),
        interval=settings.registry_probe_interval,
        concurrency=concurrency,
    )


async def drain_at(stop: asyncio.Event, services: Services) -> None:
    """Wait for the end, and tell those who wait for a model that it will not come."""
    await stop.wait()
    services.batches.drain()
    services.directory.drain()


@asynccontextmanager
async def webhooks(
    settings: Settings, database: Database, store: ResourceStore, secret: bytes
) -> AsyncIterator[Webhooks]:
    """Wire webhooks; take events in, tell of models and deliver while the block runs."""
    sealer, interest = SecretSealer(secret), Interest(database)
    guard = Guard.of(settings.webhook_allow)
    outbox = Outbox(database, guard, sealer, interest)
    most = settings.max_webhooks
    subscriptions = Subscriptions(database, sealer, guard, interest, most=most)
    deliveries = Deliveries(database, claim=claim())
    sender = Sender(guard, timeout=settings.webhook_timeout)
    timeout = settings.webhook_timeout
    deliverer = Deliverer(deliveries, sender, sealer, outbox.due, timeout=timeout)
    models = ModelEvents(store, database, outbox)
    async with deliverer.delivering(), outbox.writing(), models.following():
        yield Webhooks(outbox, subscriptions, deliveries, sealer)


def batch_bounds(settings: Settings) -> BatchBounds:
    """Return what callers may hand in as batches, and how those are worked on."""
    return BatchBounds(
        items=settings.max_batch_items,
        file_bytes=settings.max_file_bytes,
        tenant_bytes=settings.max_tenant_bytes,
        active=settings.max_active_batches,
        in_flight=settings.batch_concurrency,
        attempts=settings.batch_attempts,
        window=settings.batch_window,
        retention=settings.batch_retention,
        grace=settings.grace_period,
    )
