"""Who is compared: Inferno with several pickers, and sglang-router with two policies."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.declaring import declare_pool
from benchmarks.peers import Peers
from benchmarks.routing.conversations import Party
from benchmarks.startup.processes import clean_environment, platform, process
from inferno.core.resources import EngineOptions
from inferno.engines.base import Launch
from inferno.engines.llama_cpp import LlamaCpp
from inferno.gateway.upstream import Address

REPLICAS = 3
SLOTS = 4
CONTEXT = 2048

INFERNO, CACHE_AWARE = "inferno", "sglang-router, cache_aware"
PEER = "sglang-router"

PICKERS = {
    INFERNO: "",
    "inferno, prefix+queue+kv": "prefix=3,queue=2,kv-cache=2",
    "inferno, in-flight": "in-flight",
    "inferno, round-robin": "round-robin",
}
"""Pickers by the party's name; the empty one is the default."""

POLICIES = {CACHE_AWARE: "cache_aware", "sglang-router, round_robin": "round_robin"}

_KEY = "benchmark"


@contextmanager
def all_parties(
    folder: Path, model: Path, peers: Peers, pickers: dict[str, str]
) -> Iterator[tuple[list[Party], list[psutil.Process]]]:
    """Run the replicas, and everybody who is installed, while the block runs."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(_replica(folder, model, number)) for number in range(REPLICAS)
        ]
        servers = [address for address, _ in started]
        parties = [
            stack.enter_context(_inferno(folder / f"inferno-{at}", name, picker, model, servers))
            for at, (name, picker) in enumerate(pickers.items())
        ]
        python = peers.program(PEER, "python")
        for name, policy in POLICIES.items() if python is not None else ():
            assert python is not None
            parties.append(stack.enter_context(_sglang(folder, python, name, policy, servers)))
        for party in parties:
            party.process.suspend()
            stack.callback(party.process.resume)
        yield parties, [process for _, process in started]


@contextmanager
def _replica(folder: Path, model: Path, number: int) -> Iterator[tuple[Address, psutil.Process]]:
    """Run a replica's program as the platform does, with one thread."""
    engine = LlamaCpp()
    options = EngineOptions(parallel=SLOTS, context_size=CONTEXT, threads=1)
    launch = Launch(f"benchmark-{number}", model.stem, model, _KEY, options, grace=1.0)
    with process(
        engine.command(launch),
        folder / f"replica-{number}.log",
        environment=engine.environment(),
        piped=True,
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        started.stdin.write(engine.config(launch))
        started.stdin.flush()
        port = json.loads(started.stdout.readline())["port"]
        yield Address("127.0.0.1", port), psutil.Process(started.pid)


@contextmanager
def _inferno(
    folder: Path, name: str, picker: str, model: Path, servers: Sequence[Address]
) -> Iterator[Party]:
    folder.mkdir()
    settings: dict[str, Any] = {"picker": picker} if picker else {}
    with platform(folder, bundled_model="false", **settings) as started:
        declare_pool(started, model.stem, servers, key=_KEY)
        yield Party(name, started.address, started.key, started.process)


@contextmanager
def _sglang(
    folder: Path, python: str, name: str, policy: str, servers: Sequence[Address]
) -> Iterator[Party]:
    port, metrics = _free_port(), _free_port()
    command = [
        python, "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(port),
        "--worker-urls", *(f"http://{server}" for server in servers), "--policy", policy,
        "--prometheus-port", str(metrics), "--log-level", "error", "--api-key", _KEY,
    ]  # fmt: skip
    log = folder / f"{policy}.log"
    with process(command, log, environment=clean_environment()) as started:
        address = Address("127.0.0.1", port)
        _wait_for_workers(address, started, log)
        yield Party(name, address, _KEY, psutil.Process(started.pid))


def _wait_for_workers(address: Address, started: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a router has found all its workers well."""
    deadline = time.monotonic() + 30
    while True:
        try:
            request = urllib.request.Request(
                f"http://{address}/workers", headers={"Authorization": f"Bearer {_KEY}"}
            )
            with urllib.request.urlopen(request, timeout=5) as response:
                workers = json.load(response)["workers"]
            if sum(bool(worker.get("is_healthy")) for worker in workers) == REPLICAS:
                return
        except OSError:
            pass
        if started.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"sglang-router found no workers:\n{log.read_text('utf-8')[-2000:]}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
