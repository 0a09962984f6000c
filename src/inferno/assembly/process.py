"""The process: what it refuses, its event loop, its signals."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
from collections.abc import Iterator

import structlog
import uvloop

from inferno import welcome
from inferno.assembly import announcing
from inferno.assembly.listening import certificate
from inferno.assembly.platform import Sockets, platform
from inferno.core.errors import ConfigurationError, InfernoError
from inferno.data_dir import DataDir, write_private
from inferno.identity import passwords
from inferno.settings import Settings
from inferno.telemetry import logs, otlp
from inferno.web.address import is_loopback
from inferno.web.listener import bind, url_of
from inferno.webhooks.guard import Guard

log = structlog.get_logger(__name__)


YOUNG_OBJECTS = 10_000
"""New objects after which the garbage collector looks for cycles among them."""


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, drain, and return the exit code.

    Raises:
        ConfigurationError: the platform cannot start like this; says how to mend it.
    """
    refuse_unsafe(settings)
    certificate(settings)
    Guard.of(settings.webhook_allow)
    Guard.of(settings.registry_probe_allow, setting="registry_probe_allow")
    announcing.check(settings)
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
