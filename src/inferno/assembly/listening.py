"""The sockets that requests come in by."""

from __future__ import annotations

from starlette.types import ASGIApp

from inferno.cluster.app import ClusterApi
from inferno.cluster.calls import PREFIX as CLUSTER_PREFIX
from inferno.cluster.status import render as cluster_render
from inferno.core.errors import ConfigurationError
from inferno.data_dir import DataDir
from inferno.management import app as management_app
from inferno.registry.app import RegistryApi
from inferno.registry.calls import ENTRIES as REGISTRY_ENTRIES
from inferno.registry.calls import ENTRY as REGISTRY_ENTRY
from inferno.registry.errors import render as registry_render
from inferno.registry.quotas import PREFIX as QUOTA_PREFIX
from inferno.registry.quotas import QuotaApi
from inferno.server import app as inference_app
from inferno.server.deprecations import DEPRECATED
from inferno.server.errors import render as inference_render
from inferno.server.operation import Services
from inferno.server.straight import Straight
from inferno.server.websocket import SocketSettings
from inferno.server.websocket_messages import error_text
from inferno.server.websocket_state import Bounds
from inferno.settings import Settings
from inferno.version import __version__
from inferno.web.address import networks
from inferno.web.certificates import own_certificate
from inferno.web.cors import Cors
from inferno.web.door import Render
from inferno.web.hosts import TrustedHosts
from inferno.web.listener import Certificate, Listener
from inferno.web.places import Places
from inferno.web.protocol import ConnectionLimits
from inferno.web.sockets import SocketLimits


def open_doors(
    settings: Settings,
    data_dir: DataDir,
    services: Services,
    cluster: ClusterApi,
    registry: RegistryApi,
    quotas: QuotaApi,
) -> tuple[Listener, Listener]:
    """Return the listeners of the inference API and of the control plane."""
    set_up = certificate(settings)
    mounts = [
        management_app.Mount(CLUSTER_PREFIX, cluster, cluster_render),
        *(
            management_app.Mount(path, registry, registry_render, registry.is_public)
            for path in (REGISTRY_ENTRY, REGISTRY_ENTRIES)
        ),
        management_app.Mount(QUOTA_PREFIX, quotas, registry_render),
    ]
    door = inference_app.build(
        services, access_log=settings.access_log, sockets=socket_settings(settings)
    )
    apps = (
        (
            door,
            inference_render,
            socket_limits(settings),
            None,
            # A list of hosts is asked about every request, and it stands before the door.
            None if settings.trusted_hosts else Straight(services, door, without=DEPRECATED),
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
            None,
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
            shortcut=shortcut,
        )
        for app, render, sockets, also, shortcut in apps
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
