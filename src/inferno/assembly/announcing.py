"""The platform's entry in a registry: what of the settings goes into it, and who keeps it."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import structlog

from inferno.core.errors import ConfigurationError, InvalidRequest
from inferno.core.resources import DEFAULT_NAMESPACE
from inferno.data_dir import DataDir
from inferno.registry import hardware
from inferno.registry.announcement import Profile, announcement, public_models
from inferno.registry.announcing import Announcer
from inferno.registry.entries import METADATA, NAME, TAGS, URL, Document, new_entry
from inferno.registry.remote import RemoteRegistry
from inferno.server.operation import Services
from inferno.settings import Settings
from inferno.version import __version__
from inferno.web.address import is_loopback

SETTINGS = {
    NAME: "register_name",
    METADATA: "register_metadata",
    TAGS: "register_tags",
    URL: "public_url",
}
"""Which setting decides on a field."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def announced(
    settings: Settings, data_dir: DataDir, services: Services, url: str
) -> AsyncIterator[None]:
    """Announce the platform while the block runs, where that is wanted.

    Args:
        settings: say where, and as what.
        data_dir: keeps the entry's id.
        services: know the models.
        url: of the inference API's socket.
    """
    if settings.register is None:
        yield
        return
    _warn(settings, url)
    announcer = Announcer(
        RemoteRegistry(settings.register, lambda: _token(settings)),
        data_dir.registry_id(),
        Description(profile(settings, url), services),
        ttl=settings.register_ttl,
    )
    async with announcer.announcing():
        yield


class Description:
    """Says what the platform's entry should be.

    Args:
        profile: what does not change.
        services: know the models.
    """

    def __init__(self, profile: Profile, services: Services) -> None:
        self._profile = profile
        self._services = services
        self._hardware: Mapping[str, Any] | None = None

    async def __call__(self) -> Document:
        """Return the entry as it should be now."""
        if self._hardware is None:
            self._hardware = await hardware.seen(os.environ)
        directory = self._services.directory
        models = public_models(
            directory.services.values(),
            directory.pods.values(),
            self._services.forwarder.routes.names(DEFAULT_NAMESPACE),
        )
        return announcement(self._profile, self._hardware, models)


def check(settings: Settings) -> None:
    """Refuse what no registry would take.

    Raises:
        ConfigurationError: names the setting.
    """
    if settings.register is None:
        return
    parts = urlsplit(settings.register)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            "register: a registry has a URL like https://registry.example.com."
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(
            "register: the URL of a registry has no user, query or fragment; its key is "
            "INFERNO_REGISTER_TOKEN."
        )
    try:
        _token(settings)
    except OSError as error:
        raise ConfigurationError(f"register_token_file: {error.strerror}.") from None
    try:
        new_entry(announcement(profile(settings, ""), {}, []), datetime.now(UTC))
    except InvalidRequest as error:
        field = str(error.details.get("field", "")).split(".")[0]
        raise ConfigurationError(f"{SETTINGS.get(field, 'register')}: {error.message}") from None


def profile(settings: Settings, url: str) -> Profile:
    """Return what does not change of the entry, by the URL of the inference API's socket."""
    return Profile(
        name=settings.register_name or f"{socket.gethostname()}:{urlsplit(url).port or ''}",
        url=public_url(settings, url),
        ttl=settings.register_ttl,
        version=__version__,
        limits=settings.default_limits,
        tags=settings.register_tags,
        metadata=settings.register_metadata,
    )


def public_url(settings: Settings, url: str) -> str:
    """Return where clients reach the inference API; empty where nobody can know.

    Loopback is where the registry's own readers are, if the registry is there too. Of an address
    that stands for all of them nobody knows which one the others see.
    """
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    host = urlsplit(url).hostname or ""
    if not host or host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return ""
    registry = urlsplit(settings.register or "").hostname or ""
    return url if not is_loopback(host) or is_loopback(registry) else ""


def _warn(settings: Settings, url: str) -> None:
    """Tell the operator of what is announced otherwise than it may seem."""
    if not public_url(settings, url):
        log.warning(
            "announced_without_url",
            reason=f"others cannot reach {url}, or nobody knows how",
            hint="set public_url to where clients reach the inference API",
        )
    registry = urlsplit(settings.register or "")
    has_token = settings.register_token or settings.register_token_file
    if has_token and registry.scheme == "http" and not is_loopback(registry.hostname or ""):
        log.warning("register_token_in_the_clear", hint="register at an https:// address")


def _token(settings: Settings) -> str | None:
    """Return what opens the registry. Raises OSError."""
    if settings.register_token_file is not None:
        return settings.register_token_file.read_text("utf-8").strip() or None
    return settings.register_token
