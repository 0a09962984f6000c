"""Who is compared: the backend alone, Inferno, nginx, sglang-router; each gateway on one core."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.startup.processes import (
    Platform,
    clean_environment,
    platform,
    process,
    wait_until,
)
from inferno.gateway.upstream import Address

_PLENTY = 10**12
"""A limit that counts and never refuses."""

_NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Party:
    """One way to the backend.

    Args:
        name: as it is reported.
        address: where requests go.
        key: what opens it.
        processes: whose CPU time counts.
    """

    name: str
    address: Address
    key: str
    processes: Sequence[psutil.Process]

    def cpu(self) -> float:
        """Return the CPU seconds that it has used so far."""
        times = [one.cpu_times() for one in self.processes]
        return float(sum(one.user + one.system for one in times))


@contextmanager
def all_parties(folder: Path, sglang: str | None) -> Iterator[list[Party]]:
    """Run everybody who is installed while the block runs; the backend alone comes first."""
    with ExitStack() as stack:
        backend = stack.enter_context(_backend(folder))
        port = backend.address.port
        parties = [backend, stack.enter_context(_inferno(folder, port))]
        if (nginx := shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")) is None:
            print("nginx is not installed and left out.")
        else:
            parties.append(stack.enter_context(_nginx(folder, nginx, port)))
        if sglang is None:
            print("sglang-router is left out; --sglang-router PYTHON names an interpreter with it.")
        else:
            parties.append(stack.enter_context(_sglang(folder, sglang, port)))
        yield parties


@contextmanager
def _backend(folder: Path) -> Iterator[Party]:
    command = [sys.executable, "-m", "benchmarks.gateway_overhead.backend"]
    with process(command, folder / "backend.log", piped=True) as started:
        assert started.stdout is not None
        port = int(started.stdout.readline())
        yield _party("backend alone", port, started)


@contextmanager
def _inferno(folder: Path, backend: int) -> Iterator[Party]:
    with platform(
        folder,
        command=[sys.executable, "-m", "benchmarks.gateway_overhead.serve", str(backend)],
        requests_per_minute=_PLENTY,
        requests_per_hour=_PLENTY,
        tokens_per_minute=_PLENTY,
        concurrent_requests=1000,
    ) as started:
        key = _key_with_limits(started)
        yield Party("inferno", started.address, key, [started.process])


def _key_with_limits(started: Platform) -> str:
    """Make a user and a key for it: the first key is an administrator's, whom nothing limits."""
    user = {"username": "benchmark", "password": "a long enough passphrase", "role": "user"}
    _post(started, "/auth/users", user)
    return str(_post(started, "/auth/api-keys", {"name": "load", "user": "benchmark"})["api_key"])


def _post(started: Platform, path: str, content: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://{started.address}{path}",
        data=json.dumps(content).encode(),
        headers={"Authorization": f"Bearer {started.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


@contextmanager
def _nginx(folder: Path, program: str, backend: int) -> Iterator[Party]:
    port = _free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, backend=backend, port=port))
    command = [program, "-p", str(folder), "-c", str(config)]
    with _gateway(command, folder / "nginx.log", port) as started:
        yield _party("nginx", port, started)


@contextmanager
def _sglang(folder: Path, python: str, backend: int) -> Iterator[Party]:
    port, metrics = _free_port(), _free_port()
    command = [
        python, "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(port),
        "--worker-urls", f"http://127.0.0.1:{backend}", "--policy", "round_robin",
        "--prometheus-port", str(metrics), "--log-level", "error",
    ]  # fmt: skip
    with _gateway(command, folder / "sglang-router.log", port) as started:
        _wait_for_success(Address("127.0.0.1", port))
        yield _party("sglang-router", port, started)


@contextmanager
def _gateway(command: list[str], log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a gateway on the core that gateways have, from when it listens."""
    with process(command, log, environment=clean_environment(), core=0) as started:
        wait_until(lambda: _listens(port), started, log)
        yield started


def _party(name: str, port: int, started: subprocess.Popen[bytes]) -> Party:
    parent = psutil.Process(started.pid)
    processes = [parent, *parent.children(recursive=True)]
    return Party(name, Address("127.0.0.1", port), "none", processes)


def _wait_for_success(address: Address) -> None:
    """Wait until a router has found its backend well."""
    body = b'{"model":"inferno-tiny","messages":[{"role":"user","content":"Hello"}]}'
    url = f"http://{address}/v1/chat/completions"
    headers = {"Content-Type": "application/json"}
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=5).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"{address} never answered: {error}") from None
            time.sleep(0.1)
        else:
            return


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
