"""The composition root: `Settings` in, a running platform out. Read this first.

serve          the process: checks, event loop, signals
Platform       both planes and all that they stand on, wired by constructor
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import ipaddress
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import msgspec
import psutil
import structlog
import uvloop
from starlette.types import ASGIApp

from inferno import welcome
from inferno.batches.batching import Batching
from inferno.batches.types import Bounds as BatchBounds
from inferno.cluster import kinds, node
from inferno.cluster.app import ClusterApi
from inferno.cluster.calls import PREFIX as CLUSTER_PREFIX
from inferno.cluster.status import render as cluster_render
from inferno.cluster.writing import ensure_namespace
from inferno.controllers.events import EventController
from inferno.controllers.inference_model import InferenceModelController
from inferno.controllers.inference_objective import InferenceObjectiveController
from inferno.controllers.inference_pool import InferencePoolController
from inferno.controllers.inference_service import InferenceServiceController
from inferno.controllers.model_server import ModelServerController, set_reachable
from inferno.controllers.models_folder import ModelsFolderController
from inferno.controllers.namespace import NamespaceController
from inferno.core.errors import ConfigurationError, InfernoError
from inferno.core.resources import DEFAULT_NAMESPACE
from inferno.data_dir import DataDir, write_private
from inferno.engines import bundled, engine
from inferno.gateway.directory import Directory
from inferno.gateway.forwarding import Forwarder, Timeouts
from inferno.gateway.gauges import Gauges
from inferno.gateway.lines import LineTable
from inferno.gateway.picking import Picker
from inferno.gateway.pools import Pools
from inferno.gateway.probing import Prober
from inferno.gateway.residency import Limits, Residency
from inferno.gateway.routing import Routes
from inferno.gateway.scraper import Scraper
from inferno.gateway.server_clients import ServerClients
from inferno.gateway.upstream import UpstreamClient
from inferno.identity import passwords
from inferno.identity.issuer_settings import IssuerSettings
from inferno.identity.slowdown import LoginSlowdown
from inferno.identity.tokens import TokenIssuer
from inferno.limits.base import Limiter
from inferno.limits.memory import MemoryLimiter
from inferno.management import app as management_app
from inferno.models.folder import ModelsFolder
from inferno.runtimes.keys import replica_key
from inferno.runtimes.local import LocalRuntime
from inferno.runtimes.replica import Timings
from inferno.server import app as inference_app
from inferno.server.batch_items import BatchItems
from inferno.server.errors import render as inference_render
from inferno.server.inference_events import telling
from inferno.server.operation import Services
from inferno.server.readiness import Readiness
from inferno.server.websocket import SocketSettings
from inferno.server.websocket_messages import error_text
from inferno.server.websocket_state import Bounds
from inferno.settings import Settings
from inferno.storage.base import ResourceStore
from inferno.storage.database import Database
from inferno.storage.probe import DatabaseProbe
from inferno.storage.resources import SqlResourceStore
from inferno.storage.sealing import Sealer
from inferno.telemetry import logs, otlp
from inferno.telemetry.audit import AuditEvent, AuditTrail
from inferno.telemetry.custom_metrics import CustomMetrics
from inferno.telemetry.exposition import Exposition
from inferno.telemetry.metrics import Source
from inferno.telemetry.metrics_inferences import InferenceMetrics
from inferno.telemetry.metrics_process import ProcessMetrics
from inferno.telemetry.metrics_requests import RequestMetrics
from inferno.telemetry.observability import Observability
from inferno.telemetry.traces import Record, Tracer
from inferno.tenancy.access import Access, TokenVerifier
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.first_start import FirstCredentials, ensure_admin
from inferno.tenancy.roster import Roster
from inferno.tenancy.sessions import Sessions, signing_secret
from inferno.version import __version__
from inferno.web.address import networks
from inferno.web.certificates import own_certificate
from inferno.web.cors import Cors
from inferno.web.door import Render
from inferno.web.hosts import TrustedHosts
from inferno.web.listener import Certificate, Listener, bind, url_of
from inferno.web.places import Places
from inferno.web.protocol import ConnectionLimits
from inferno.web.sockets import SocketLimits
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

MEMORY_SHARE = 0.8
"""Of the machine's memory, what replicas may take unless a setting says otherwise."""

YOUNG_OBJECTS = 10_000
"""New objects after which the garbage collector looks for cycles among them."""

log = structlog.get_logger(__name__)


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, drain, and return the exit code.

    Raises:
        ConfigurationError: the platform cannot start like this; says how to mend it.
    """
    refuse_unsafe(settings)
    certificate(settings)
    Guard.of(settings.webhook_allow)
    otlp.sampling_of(settings.trace_sampling, os.environ)
    otlp.is_wanted(os.environ)
    logs.configure(format=settings.log_format, level=settings.log_level)
    with (
        DataDir(settings.data_dir) as data_dir,
        bind(settings.host, settings.port) as inference,
        bind(settings.host, settings.management_port, option="--management-port") as management,
    ):
        sockets = Sockets(inference, management)
        try:
            uvloop.run(run(settings, data_dir, sockets))
        except BaseExceptionGroup as errors:
            raise what_went_wrong(errors) from errors
    return 0


def what_went_wrong(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error to tell of: one of ours if there is one, for it says what to do."""
    ours = errors.subgroup(InfernoError)
    found: BaseException = ours or errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def refuse_unsafe(settings: Settings) -> None:
    """Refuse settings that would open the platform to strangers.

    Raises:
        ConfigurationError: says how to do it right.
    """
    if is_loopback(settings.host):
        return
    if not settings.auth:
        raise ConfigurationError(
            f"--no-auth on {settings.host} would let everybody in. Keep authentication on, or "
            "listen on a loopback address (--host 127.0.0.1)."
        )
    if settings.admin_password is not None and passwords.is_weak(settings.admin_password):
        raise ConfigurationError(
            f"INFERNO_ADMIN_PASSWORD is too easy to guess to listen on {settings.host}. Use at "
            f"least {passwords.MIN_LENGTH} characters that are no well-known password, or leave "
            "it unset: one is generated."
        )
    if settings.api_key is not None and len(settings.api_key) < MIN_KEY_LENGTH:
        raise ConfigurationError(
            f"INFERNO_API_KEY is too easy to guess to listen on {settings.host}. Use at least "
            f"{MIN_KEY_LENGTH} characters, or leave it unset: one is generated."
        )


MIN_KEY_LENGTH = 24


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Sockets:
    """The listening sockets of the two planes."""

    inference: socket.socket
    management: socket.socket

    @property
    def both(self) -> tuple[socket.socket, socket.socket]:
        """The inference API's, then the control plane's."""
        return self.inference, self.management


async def run(settings: Settings, data_dir: DataDir, sockets: Sockets) -> None:
    """Run the platform until a signal asks it to stop, and drain it."""
    stop = asyncio.Event()
    with stopping_on_signals(stop):
        async with platform(settings, data_dir, sockets, stop) as first:
            secure = settings.tls_cert is not None
            inference, management = (url_of(one, secure=secure) for one in sockets.both)
            content = {"inference_url": inference, "management_url": management, "pid": os.getpid()}
            write_private(data_dir.run_file, json.dumps(content))
            print(welcome.text(settings, data_dir, (inference, management), first), flush=True)  # noqa: T201
            spare_the_collector()
            await stop.wait()
            log.info("draining", grace_seconds=settings.grace_period)
            data_dir.run_file.unlink(missing_ok=True)
    log.info("stopped")


def spare_the_collector() -> None:
    """Take all that the start has made out of the garbage collector's sight, and let it rest more.

    What is here now stays until the end. Looking through it again and again took a fifth of the
    time of every request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


@contextlib.contextmanager
def stopping_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` on SIGTERM and SIGINT while the block runs."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


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
        services = await stack.enter_async_context(
            data_plane(settings, store, secret, accounts, doors, hooks, database, requests, batches)
        )
        cluster = await cluster_api(store, runtime, doors.access, stop)
        async with asyncio.TaskGroup() as tasks:
            listeners = open_doors(settings, data_dir, services, cluster)
            for listener, listening in zip(listeners, sockets.both, strict=True):
                tasks.create_task(listener.run_on(listening, stop))
            tasks.create_task(drain_at(stop, services))
            for listener in listeners:
                await listener.answering.wait()
            try:
                yield first
            finally:
                stop.set()


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


async def drain_at(stop: asyncio.Event, services: Services) -> None:
    """Wait for the end, and tell those who wait for a model that it will not come."""
    await stop.wait()
    services.batches.drain()
    services.directory.drain()


@dataclass(frozen=True, slots=True)
class Doors:
    """Who is let in, and how users sign in."""

    access: Access
    sessions: Sessions


@asynccontextmanager
async def way_in(
    settings: Settings,
    database: Database,
    accounts: Accounts,
    secret: bytes,
    *,
    on_refusal: Callable[[str], None],
) -> AsyncIterator[Doors]:
    """Wire identity, limits and audit, and keep the roster fresh while the block runs."""
    defaults = settings.default_limits
    tokens = TokenIssuer(
        signing_secret(settings.jwt_secret, secret),
        lifetime_seconds=settings.token_lifetime,
        refresh_lifetime_seconds=settings.refresh_token_lifetime,
    )
    roster = Roster(
        accounts.ledger,
        accounts.users,
        accounts.keys,
        accounts.overrides,
        accounts.revocations,
        defaults=defaults,
        tokens=tokens.revocations,
    )
    limiter = create_limiter(settings)
    audit = AuditTrail(database)
    access = Access(
        roster,
        tokens,
        outside_issuers(settings, roster),
        limiter,
        audit,
        strangers=defaults,
        proxies=networks(settings.trusted_proxies),
        origins=settings.cors_origins,
        enabled=settings.auth,
        on_refusal=on_refusal,
    )
    sessions = Sessions(
        accounts.users,
        accounts.revocations,
        tokens,
        LoginSlowdown(),
        refresh_lifetime=max(settings.token_lifetime, settings.refresh_token_lifetime),
    )
    try:
        async with audit.writing(), roster.following():
            yield Doors(access, sessions)
    finally:
        await limiter.close()


def create_limiter(settings: Settings) -> Limiter:
    """Return the limiter of this process, or the one that processes share in Redis."""
    if settings.redis_url is None:
        return MemoryLimiter()
    from inferno.limits.redis import RedisLimiter

    return RedisLimiter(
        settings.redis_url,
        on_failure=settings.redis_failure,
        # A process that was killed cannot give its places back; they end with the longest request.
        lease_seconds=settings.request_timeout + settings.load_timeout + settings.queue_timeout,
    )


def outside_issuers(settings: Settings, roster: Roster) -> TokenVerifier | None:
    """Return the outside issuers that are trusted, or None.

    Raises:
        ConfigurationError: an `[[issuers]]` table is wrong; names what.
    """
    if not settings.issuers:
        return None
    from inferno.identity.issuers import OutsideIssuers  # loads cryptography

    try:
        wanted = msgspec.convert(settings.issuers, list[IssuerSettings])
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"issuers: {error}") from None
    return OutsideIssuers(wanted, limits=lambda tenant, role, _: roster.limits_of(role, tenant))


def open_doors(
    settings: Settings, data_dir: DataDir, services: Services, cluster: ClusterApi
) -> tuple[Listener, Listener]:
    """Return the listeners of the inference API and of the control plane."""
    set_up = certificate(settings)
    mounts = [management_app.Mount(CLUSTER_PREFIX, cluster, cluster_render)]
    apps = (
        (
            inference_app.build(
                services, access_log=settings.access_log, sockets=socket_settings(settings)
            ),
            inference_render,
            socket_limits(settings),
            None,
        ),
        (
            management_app.build(
                access=services.access,
                version=__version__,
                access_log=settings.access_log,
                mounts=mounts,
                on_answer=services.observability.requests.answering("management"),
            ),
            management_app.renderer(mounts),
            None,
            # kubectl sends credentials over HTTPS alone.
            None if set_up else own_certificate(data_dir.certificates, settings.host),
        ),
    )
    limits = ConnectionLimits(
        header_bytes=settings.max_header_bytes,
        header_seconds=settings.header_timeout,
        body_seconds=settings.body_timeout,
    )
    inference, management = (
        Listener(
            guarded(app, settings, render),
            grace=settings.grace_period,
            limits=limits,
            render=render,
            certificate=set_up,
            also=also,
            sockets=sockets,
            places=Places(settings.max_connections_per_address, networks(settings.trusted_proxies)),
        )
        for app, render, sockets, also in apps
    )
    return inference, management


def socket_settings(settings: Settings) -> SocketSettings:
    """Return how WebSockets of the inference API are served."""
    bounds = Bounds(
        streams=settings.max_streams_per_connection,
        auth_seconds=settings.auth_timeout,
        idle_seconds=settings.websocket_idle_timeout,
    )
    return SocketSettings(bounds, settings.cors_origins, settings.access_log)


def socket_limits(settings: Settings) -> SocketLimits:
    """Return what their clients may take."""
    return SocketLimits(
        message_bytes=settings.max_body_bytes,
        # Nobody knows yet who sends it; it has room for any token.
        first_message_bytes=min(
            settings.max_body_bytes,
            settings.max_header_bytes if settings.auth else settings.max_body_bytes,
        ),
        ping_seconds=settings.websocket_ping_interval,
        send_seconds=settings.websocket_send_timeout,
        explain=error_text,
    )


def guarded(app: ASGIApp, settings: Settings, render: Render) -> ASGIApp:
    """Put an app behind the list of hosts and of web origins, where there are such lists."""
    if settings.cors_origins:
        app = Cors(app, settings.cors_origins)
    if settings.trusted_hosts or not settings.auth:
        # Without authentication the operator's own browser is the way in: its pages reach
        # loopback, and only the name that they ask for tells them apart from us.
        app = TrustedHosts(app, settings.trusted_hosts, render)
    return app


def certificate(settings: Settings) -> Certificate | None:
    """Return what HTTPS needs, or None for HTTP.

    Raises:
        ConfigurationError: only one half of it is set.
    """
    if settings.tls_cert is None and settings.tls_key is None:
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        raise ConfigurationError("HTTPS needs both --tls-cert and --tls-key.")
    return Certificate(settings.tls_cert, settings.tls_key)


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


@asynccontextmanager
async def replicas(
    settings: Settings, data_dir: DataDir, store: ResourceStore, secret: bytes
) -> AsyncIterator[LocalRuntime]:
    """Run the controllers and the local runtime while the block runs; then drain all replicas."""
    folder = ModelsFolderController(
        store,
        ModelsFolder(settings.models_path),
        bundled=bundled.model_path() if settings.bundled_model else None,
        options_of=settings.engine_options,
        is_pinned=settings.pinned,
    )
    settings.models_path.mkdir(parents=True, exist_ok=True)
    await folder.reconcile(first=True)
    controllers = (
        InferenceServiceController(store),
        InferencePoolController(store),
        InferenceModelController(store),
        InferenceObjectiveController(store),
        ModelServerController(store),
        NamespaceController(store, list(kinds.catalog(node.node_name()).stored_kinds())),
        EventController(store),
    )
    runtime = LocalRuntime(
        store,
        engine=engine,
        secret=secret,
        data_dir=data_dir.path,
        timings=Timings(grace=settings.grace_period),
    )
    async with AsyncExitStack() as loops:
        await loops.enter_async_context(running(runtime.run))
        for controller in controllers:
            await loops.enter_async_context(running(controller.loop().run))
        await loops.enter_async_context(running(folder.run))
        yield runtime


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
    pools = Pools(store, directory, lines, server_clients, unsealed=Sealer(secret).value)
    prober = Prober(
        pools,
        client,
        functools.partial(set_reachable, store),
        interval=settings.probe_interval,
    )
    probe = DatabaseProbe(database)
    scraper = Scraper(client, lines)
    routes = Routes(directory, pools.named, pools.objectives)
    async with (
        closing(client),
        closing(server_clients),
        closing(probe),
        directory.following(),
        pools.following(),
        prober.probing(),
        scraper.scraping(settings.scrape_interval),
        observing(
            settings,
            database,
            requests,
            Gauges(directory, lines, scraper),
            lambda model: model in directory.services or pools.has_name(model),
        ) as observability,
    ):
        forwarder = Forwarder(routes, residency, client, timeouts(settings))
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


@asynccontextmanager
async def running(
    loop: Callable[[asyncio.Event], Coroutine[None, None, None]],
) -> AsyncIterator[None]:
    """Run a loop that takes a stop event while the block runs; then stop it and wait for it."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(loop(stop))
        try:
            yield
        finally:
            stop.set()
