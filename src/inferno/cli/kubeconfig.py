"""The kubeconfig with which Kubernetes clients reach the cluster API."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

from inferno.cli import discovery
from inferno.cli.client import Client
from inferno.cli.errors import CommandFailed
from inferno.settings import Settings

NAME = "inferno"
PREFIX = "/k8s"


def text(settings: Settings, url: str | None, api_key: str | None, namespace: str) -> str:
    """Return a kubeconfig as YAML.

    Args:
        settings: say where the data folder is.
        url: of the control plane; None for the one that runs on the data folder.
        api_key: for it; None for the one that is kept there.
        namespace: that commands are about unless they name another.

    Raises:
        CommandFailed: no server runs here, or there is no key for it.
    """
    here = discovery.find(settings.data_dir)
    if url is None and here is None:
        raise discovery.nobody_serves(settings)
    is_here = here is not None and url in (None, here.management_url)
    address = url or (here.management_url if here else "")
    key = discovery.key_for(settings, api_key) if is_here else api_key or settings.api_key
    if not key and not _is_open(address):
        raise CommandFailed("there is no key for the server; give one with INFERNO_API_KEY")
    secure, authority = _secure(address), _authority(settings) if is_here else None
    server = {"server": f"{secure}{PREFIX}"}
    if authority is not None:
        server["certificate-authority-data"] = base64.b64encode(authority.read_bytes()).decode()
    lines = [
        "apiVersion: v1",
        "kind: Config",
        f"current-context: {NAME}",
        "clusters:",
        *_item("cluster", server),
        "contexts:",
        *_item("context", {"cluster": NAME, "user": NAME, "namespace": namespace}),
        "users:",
        *_item("user", {"token": key} if key else {}),
    ]
    return "\n".join(lines) + "\n"


def keep(text: str, file: Path) -> None:
    """Write a kubeconfig into a file that nobody else can read, also where it was there before.

    Raises:
        CommandFailed: the file cannot be written; says why.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as kept:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.fchmod(descriptor, 0o600)
            kept.write(text)
    except OSError as error:
        raise CommandFailed(f"{file}: {error.strerror}") from None


def _item(kind: str, values: dict[str, str]) -> list[str]:
    if not values:
        return [f"- name: {NAME}", f"  {kind}: {{}}"]
    # JSON strings are YAML strings, whatever is in them.
    inner = [f"    {key}: {json.dumps(value)}" for key, value in values.items()]
    return [f"- name: {NAME}", f"  {kind}:", *inner]


def _secure(address: str) -> str:
    """Return an address for HTTPS: clients send credentials over nothing else."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandFailed(f"'{address}' is not a URL like http://127.0.0.1:8085", exit_code=2)
    return f"https://{parts.netloc}{parts.path.rstrip('/')}"


def _authority(settings: Settings) -> Path | None:
    """Return the certificate that clients have to trust, where it is not a public one's."""
    if settings.tls_cert is not None:
        return settings.tls_cert
    made = sorted((settings.data_dir / "tls").glob("*.crt"), key=lambda one: one.stat().st_mtime)
    return made[-1] if made else None


def _is_open(address: str) -> bool:
    """Return whether a server asks for no credentials."""
    try:
        Client(address, timeout=discovery.HEALTH_TIMEOUT).get(f"{PREFIX}/version")
    except CommandFailed:
        return False
    return True
