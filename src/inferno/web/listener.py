"""Serving an ASGI app on a socket with uvicorn, started and stopped by its owner."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from inferno.core.errors import ConfigurationError
from inferno.web.door import Render
from inferno.web.mixed import MixedServer
from inferno.web.places import Places
from inferno.web.protocol import ConnectionLimits, GuardedProtocol, Shortcut
from inferno.web.sockets import SocketLimits, SocketProtocol

BACKLOG = 2048
TICK_SECONDS = 1.0
DRAIN_TICK_SECONDS = 0.1


def bind(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """Return a listening socket.

    Args:
        host: name or IP address.
        port: 0 for any free one.
        option: names the port in the error.

    Raises:
        ConfigurationError: the address is not ours, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. "
            f"Choose another {option}, or 0 for any free one."
        ) from None
    listening.setblocking(False)
    return listening


def url_of(listening: socket.socket, *, secure: bool = False) -> str:
    """Return the URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What HTTPS needs: PEM files with the certificate chain and with its key."""

    chain: Path
    key: Path


def _context(certificate: Certificate) -> ssl.SSLContext:
    """Return what speaks TLS. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate.chain, certificate.key)
    return context


class Listener(uvicorn.Server):
    """One app on one socket; signals are its owner's affair.

    Args:
        app: what to serve.
        grace: seconds that running requests get when it stops.
        limits: what a client may take before it has sent a request.
        render: the API's error envelope, for what is refused before the app.
        certificate: serves HTTPS; None for HTTP.
        also: serves HTTPS beside HTTP, on the same socket; None for HTTP alone.
        sockets: what clients of WebSockets may take; None where the app has none.
        places: how many connections an address may have; any number where not given.
        shortcut: serves requests without a task, where it can.

    Raises:
        ConfigurationError: the certificate cannot be used.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        grace: float,
        limits: ConnectionLimits,
        render: Render,
        certificate: Certificate | None = None,
        also: Certificate | None = None,
        sockets: SocketLimits | None = None,
        places: Places | None = None,
        shortcut: Shortcut | None = None,
    ) -> None:
        places = Places() if places is None else places
        protocol = functools.partial(
            GuardedProtocol, limits=limits, places=places, render=render, shortcut=shortcut
        )
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",  # uvicorn takes methods for something older
                http=protocol,  # type: ignore[arg-type]  # uvicorn only ever calls it
                ssl_certfile=certificate.chain if certificate else None,
                ssl_keyfile=certificate.key if certificate else None,
                ws=functools.partial(SocketProtocol, limits=sockets, places=places)  # type: ignore[arg-type]
                if sockets
                else "none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                # uvicorn would believe `X-Forwarded-For` from loopback; see `web.address`.
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(grace)),
            )
        )
        self.answering = asyncio.Event()
        self._stopping = asyncio.Event()
        self._seconds = limits.header_seconds
        try:
            self.config.load()
            self._context = None if also is None else _context(also)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"tls_cert and tls_key cannot be used: {error}. Both have to be PEM files that "
                "belong together."
            ) from None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, and say so."""
        if self._context is None:
            await super().startup(sockets)
        else:
            await super().startup([])
            for listening in sockets or []:
                server = MixedServer(
                    listening, self._protocol, self._context, seconds=self._seconds
                )
                server.start()
                self.servers.append(server)  # type: ignore[arg-type]  # uvicorn only closes it
        self.answering.set()

    def _protocol(self) -> asyncio.Protocol:
        """Return what speaks HTTP on one connection."""
        protocol: asyncio.Protocol = self.config.http_protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )  # type: ignore[call-arg]  # uvicorn's own default is not in the type
        return protocol

    async def main_loop(self) -> None:
        """Tick once a second until told to stop.

        uvicorn wakes up ten times as often to see whether it should stop. Two idle planes that do
        so take a noticeable share of a core that an engine is using.
        """
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._stopping.wait()

    async def on_tick(self, counter: int) -> bool:
        """Close connections whose clients are too slow."""
        now = time.monotonic()
        for connection in list(self.server_state.connections):
            if isinstance(connection, GuardedProtocol | SocketProtocol):
                connection.expire(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting connections, and end those there are once nothing is being answered.

        Till then those that are open and idle stay open: whoever watches the platform's health
        over one of them is told what goes on. That they ask for nothing else is the app's affair.
        """
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        grace = self.config.timeout_graceful_shutdown or 0
        end = time.monotonic() + grace
        while self._is_answering() and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_TICK_SECONDS)
        for connection in list(self.server_state.connections):
            if isinstance(connection, GuardedProtocol):
                connection.hand_over()  # uvicorn cuts off tasks, and nothing else
        self.config.timeout_graceful_shutdown = max(0, round(end - time.monotonic()))
        await super().shutdown(sockets)

    def _is_answering(self) -> bool:
        """Whether something is being answered anywhere; WebSockets are asked to come to an end."""
        answering = False
        for connection in list(self.server_state.connections):
            if isinstance(connection, SocketProtocol):
                connection.shutdown()
                answering = True
            elif isinstance(connection, GuardedProtocol):
                answering |= connection.is_answering
        return answering

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def run_on(self, listening: socket.socket, stop: asyncio.Event) -> None:
        """Serve until told to stop, and then until running requests have finished."""
        serving = asyncio.ensure_future(self.serve([listening]))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self.should_exit = True
            self._stopping.set()
            await serving
        finally:
            stopping.cancel()
            serving.cancel()
