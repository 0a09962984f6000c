"""What a platform's replicas do, asked of the replicas themselves and not of the platform."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
import psutil

from inferno.runtimes.keys import replica_key
from tests.acceptance.platform import Platform, wait_until

STOP_SECONDS = 5.0
"""How long a replica gets to notice that nobody wants an answer; it takes one second at most on
a machine that has nothing else to do."""


@dataclass(frozen=True)
class Replica:
    """One replica as the store has it, and the key that opens it."""

    pod: str
    model: str
    phase: str
    restarts: int
    pid: int
    port: int
    key: str

    def get(self, path: str) -> httpx.Response:
        """Ask the replica."""
        headers = {"Authorization": f"Bearer {self.key}"}
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.get(url, headers=headers, timeout=10).raise_for_status()

    def processing(self) -> int:
        """Return how many requests it generates for."""
        return sum(bool(slot["is_processing"]) for slot in self.get("/slots").json())

    def deferred(self) -> int:
        """Return how many requests wait in it for a slot."""
        for line in self.get("/metrics").text.splitlines():
            if line.startswith("llamacpp:requests_deferred "):
                return int(float(line.split()[1]))
        raise AssertionError("the replica does not say how many requests wait")

    def open_requests(self) -> int:
        """Return how many requests it works on or keeps waiting."""
        return self.processing() + self.deferred()


def pods(platform: Platform) -> list[dict[str, Any]]:
    """Return the pods in the platform's store."""
    database = platform.data_dir / "inferno.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as store:
        rows = store.execute("SELECT document FROM resources WHERE kind = '/pods'").fetchall()
    return [json.loads(document) for (document,) in rows]


def replicas(platform: Platform, model: str) -> list[Replica]:
    """Return the replicas of a model that are in the store."""
    secret = bytes.fromhex((platform.data_dir / "secret.key").read_text())
    return [
        Replica(
            pod=pod["metadata"]["name"],
            model=model,
            phase=pod["status"].get("phase", "Pending"),
            restarts=pod["status"].get("restarts", 0),
            pid=pod["status"].get("pid", 0),
            port=pod["status"].get("port", 0),
            key=replica_key(secret, pod["metadata"]["uid"]),
        )
        for pod in pods(platform)
        if pod["spec"]["service"] == model
    ]


def replica(platform: Platform, model: str) -> Replica:
    """Return the one replica of a model."""
    (only,) = replicas(platform, model)
    return only


def wait_until_open(platform: Platform, model: str, requests: int) -> None:
    """Wait until the model's replica has just so many requests."""
    one = replica(platform, model)
    wait_until(
        lambda: one.open_requests() == requests,
        60,
        f"the replica of {model} never had {requests} requests",
        lambda: f"it has {one.open_requests()}",
    )


def wait_until_idle(platform: Platform, model: str) -> None:
    """Wait until the model's replica has nothing to do, and fail if that takes long.

    Asking the engine what it does starts anew the second after which it looks for clients that
    left, so it is asked only once none of its connections is half closed.
    """
    one = replica(platform, model)
    process = psutil.Process(one.pid)

    def is_idle() -> bool:
        states = {connection.status for connection in process.net_connections("tcp4")}
        return psutil.CONN_CLOSE_WAIT not in states and one.open_requests() == 0

    wait_until(
        is_idle,
        STOP_SECONDS,
        f"the replica of {model} went on working",
        lambda: f"{one.processing()} processing, {one.deferred()} deferred",
    )
