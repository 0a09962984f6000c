"""Finding a running server and the key to it.

A server writes `DATA_DIR/run.json` once it answers. One that was killed leaves the file behind,
so the process must live and answer too.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferno.cli.client import Client
from inferno.cli.errors import CommandFailed
from inferno.settings import Settings

HEALTH_TIMEOUT = 2.0
"""Seconds in which a server must answer `GET /health` to count as running."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """What a server says of itself in `run.json`."""

    inference_url: str
    management_url: str
    pid: int


def announced(data_dir: Path) -> RunningServer | None:
    """Return what `run.json` says, without looking whether it still holds."""
    content = _json_object(data_dir / "run.json")
    url, management, pid = (
        content.get(name) for name in ("inference_url", "management_url", "pid")
    )
    if not isinstance(url, str) or not isinstance(management, str) or not isinstance(pid, int):
        return None
    return RunningServer(inference_url=url, management_url=management, pid=pid)


def find(data_dir: Path) -> RunningServer | None:
    """Return the server that runs on a data folder, if one does."""
    server = announced(data_dir)
    return server if server and _lives(server.pid) and _answers(server.inference_url) else None


def connect(settings: Settings, url: str | None, api_key: str | None) -> Client | None:
    """Return a client for the server asked for, else for the one that runs here, else None."""
    if url is None:
        server = find(settings.data_dir)
        return local_client(settings, server, api_key) if server else None
    here = announced(settings.data_dir)
    if here and here.inference_url.rstrip("/") == url.rstrip("/"):
        return local_client(settings, here, api_key)
    # The key in the data folder is for the server here; no other server may see it.
    return Client(url, api_key or settings.api_key)


def require(settings: Settings, url: str | None, api_key: str | None) -> Client:
    """Return a client as `connect` does, or fail and say how to start a server."""
    client = connect(settings, url, api_key)
    if client is None:
        raise nobody_serves(settings)
    return client


def nobody_serves(settings: Settings) -> CommandFailed:
    """Return the error for a folder on which no server runs: how to start or to name one."""
    return CommandFailed(
        f"no server runs on {settings.data_dir}; start one with `inferno serve`, or say where one"
        " is: its folder with --data-dir or INFERNO_DATA_DIR, its address with --url"
    )


def local_client(settings: Settings, server: RunningServer, api_key: str | None) -> Client:
    """Return a client for the server on this data folder, with the key that is kept there."""
    return Client(server.inference_url, api_key or settings.api_key or _kept_key(settings.data_dir))


def control_plane(settings: Settings, url: str | None, api_key: str | None) -> Client:
    """Return a client for the control plane asked for, else for the one that runs here.

    Raises:
        CommandFailed: none runs here; says how to start one.
    """
    here = announced(settings.data_dir)
    if url is not None and (here is None or here.management_url.rstrip("/") != url.rstrip("/")):
        # The key in the data folder is for the server here; no other server may see it.
        return Client(url, api_key or settings.api_key)
    server = find(settings.data_dir)
    if server is None:
        raise nobody_serves(settings)
    return Client(server.management_url, key_for(settings, api_key))


def key_for(settings: Settings, api_key: str | None) -> str | None:
    """Return the key for the server on the data folder: what was given, else what is kept."""
    return api_key or settings.api_key or _kept_key(settings.data_dir)


def _kept_key(data_dir: Path) -> str | None:
    key = _json_object(data_dir / "credentials.json").get("api_key")
    return key if isinstance(key, str) else None


def _json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; one that is missing, private to another user or broken is empty."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _answers(url: str) -> bool:
    try:
        Client(url, timeout=HEALTH_TIMEOUT).get("/health")
    except CommandFailed:
        return False
    return True
