"""Who is compared: the backend alone, Inferno, and other gateways; each gateway on one core."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.declaring import declare_pool
from benchmarks.peers import Peers
from benchmarks.startup.processes import (
    SERVE,
    Platform,
    clean_environment,
    cpu_seconds,
    platform,
    process,
    wait_until,
)
from inferno.gateway.upstream import Address

BACKEND, INFERNO, ENVOY, SGLANG, LITELLM = (
    "backend alone",
    "inferno",
    "envoy",
    "sglang-router",
    "litellm",
)
PEERS = ("envoy", "sglang-router", "vllm-router", "litellm")
MODEL = "inferno-tiny"

_PLENTY = 10**12
"""A limit that counts and never refuses."""

_NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_buffer_size 256k;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000; }}
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


class NotStarted(Exception):
    """A gateway of others does not run; the others are compared without it."""


@dataclass(frozen=True)
class Party:
    """One way to the backend.

    Args:
        name: as it is reported.
        address: where requests go.
        key: what opens it.
        processes: whose CPU time counts.
        slow: whether it is spared the highest load, and measured in one round only.
    """

    name: str
    address: Address
    key: str
    processes: Sequence[psutil.Process]
    slow: bool = False

    def cpu(self) -> float:
        """Return the CPU seconds that it has used so far."""
        return sum(cpu_seconds(one) for one in self.processes)

    def memory(self) -> float:
        """Return the MiB of memory that it has resident."""
        return float(sum(one.memory_info().rss for one in self.processes)) / 2**20


@contextmanager
def all_parties(folder: Path, peers: Peers) -> Iterator[list[Party]]:
    """Run everybody who is installed while the block runs; the backend alone comes first."""
    with ExitStack() as stack:
        backend = stack.enter_context(_backend(folder))
        port = backend.address.port
        parties = [
            backend,
            stack.enter_context(_inferno(folder, port)),
            stack.enter_context(_inferno_replica(folder, port)),
        ]
        if (nginx := shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")) is None:
            print("nginx is not installed and left out.")
        else:
            parties.append(stack.enter_context(_nginx(folder, nginx, port)))
        for name, program, run in (
            ("envoy", "envoy", _envoy),
            ("sglang-router", "python", _sglang),
            ("vllm-router", "vllm-router", _vllm),
            ("litellm", "litellm", _litellm),
        ):
            path = peers.program(name, program)
            if path is None:
                continue
            try:
                parties.append(stack.enter_context(run(folder, path, port)))
            except NotStarted as error:
                print(f"{name} is left out: {error}")
        yield parties


@contextmanager
def _backend(folder: Path) -> Iterator[Party]:
    command = [sys.executable, "-m", "benchmarks.gateway.backend"]
    with process(command, folder / "backend.log", piped=True) as started:
        assert started.stdout is not None
        port = int(started.stdout.readline())
        yield _party(BACKEND, port, started)


@contextmanager
def profiled_inferno(folder: Path, file: Path) -> Iterator[Party]:
    """Run a backend, and the platform before it with a profiler that writes to a file."""
    command = [sys.executable, "-m", "benchmarks.gateway.profiled", str(file)]
    with _backend(folder) as backend, _inferno(folder, backend.address.port, command) as party:
        yield party


_LIMITS: dict[str, Any] = {
    "requests_per_minute": _PLENTY,
    "requests_per_hour": _PLENTY,
    "tokens_per_minute": _PLENTY,
    "concurrent_requests": 1000,
    "trace_sampling": 0.01,
}


@contextmanager
def _inferno(folder: Path, backend: int, command: Sequence[str] = SERVE) -> Iterator[Party]:
    """Run the platform as a gateway: the backend is a server of others, in a pool."""
    own = folder / "inferno"
    own.mkdir()
    with platform(own, command=command, core=0, bundled_model="false", **_LIMITS) as started:
        declare_pool(started, MODEL, [Address("127.0.0.1", backend)])
        key = _key_with_limits(started)
        yield Party(INFERNO, started.address, key, [started.process])


@contextmanager
def _inferno_replica(folder: Path, backend: int) -> Iterator[Party]:
    """Run the platform with the backend in place of a replica of its own."""
    own = folder / "inferno-replica"
    own.mkdir()
    command = [sys.executable, "-m", "benchmarks.gateway.serve", str(backend)]
    with platform(own, command=command, **_LIMITS) as started:
        key = _key_with_limits(started)
        yield Party("inferno, a replica of ours", started.address, key, [started.process])


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
        yield _party(SGLANG, port, started)


@contextmanager
def _vllm(folder: Path, program: str, backend: int) -> Iterator[Party]:
    port, metrics = _free_port(), _free_port()
    command = [
        program, "--host", "127.0.0.1", "--port", str(port),
        "--worker-urls", f"http://127.0.0.1:{backend}", "--policy", "round_robin",
        "--prometheus-port", str(metrics), "--log-level", "error",
    ]  # fmt: skip
    with _gateway(command, folder / "vllm-router.log", port) as started:
        _wait_for_success(Address("127.0.0.1", port))
        yield _party("vllm-router", port, started)


@contextmanager
def _envoy(folder: Path, program: str, backend: int) -> Iterator[Party]:
    port = _free_port()
    config = folder / "envoy.json"
    config.write_text(json.dumps(_envoy_config(port, backend)))
    command = [program, "--config-path", str(config), "--concurrency", "1", "--log-level", "error"]
    command += ["--disable-hot-restart"]
    with _gateway(command, folder / "envoy.log", port) as started:
        _wait_for_success(Address("127.0.0.1", port))
        yield _party(ENVOY, port, started)


def _envoy_config(port: int, backend: int) -> dict[str, Any]:
    """Return a configuration that passes everything on, with no logs and no time limits."""

    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    types = "type.googleapis.com/envoy.extensions"
    router = {"@type": f"{types}.filters.http.router.v3.Router"}
    connections = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "benchmark",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "backend", "timeout": "0s"},
                        }
                    ],
                }
            ]
        },
    }
    chain = {"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}
    endpoint = {"endpoint": {"address": address(backend)}}
    return {
        "static_resources": {
            "listeners": [{"address": address(port), "filter_chains": [{"filters": [chain]}]}],
            "clusters": [
                {
                    "name": "backend",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "backend",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                }
            ],
        }
    }


@contextmanager
def _litellm(folder: Path, program: str, backend: int) -> Iterator[Party]:
    port = _free_port()
    config = folder / "litellm.yaml"
    served = {
        "model": f"openai/{MODEL}",
        "api_base": f"http://127.0.0.1:{backend}/v1",
        "api_key": "none",
    }
    models = [{"model_name": MODEL, "litellm_params": served}]
    key = f"sk-{secrets.token_hex(32)}"
    content = {"model_list": models, "general_settings": {"master_key": key}}
    config.write_text(json.dumps(content))  # JSON is YAML
    command = [
        program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port),
        "--num_workers", "1", "--telemetry", "False",
    ]  # fmt: skip
    # Its prices would come from the network.
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with _gateway(command, folder / "litellm.log", port, environment) as started:
        _wait_for_success(Address("127.0.0.1", port), key)
        yield replace(_party(LITELLM, port, started), key=key, slow=True)


@contextmanager
def _gateway(
    command: list[str], log: Path, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a gateway on the core that gateways have, from when it listens."""
    variables = {**clean_environment(), **(environment or {})}
    with process(command, log, environment=variables, core=0) as started:
        try:
            wait_until(lambda: _listens(port), started, log)
        except SystemExit as error:
            raise NotStarted(str(error)) from None
        yield started


def _party(name: str, port: int, started: subprocess.Popen[bytes]) -> Party:
    parent = psutil.Process(started.pid)
    processes = [parent, *parent.children(recursive=True)]
    return Party(name, Address("127.0.0.1", port), "none", processes)


def _wait_for_success(address: Address, key: str = "none") -> None:
    """Wait until a router has found its backend well."""
    body = b'{"model":"inferno-tiny","seed":0,"messages":[{"role":"user","content":"Hello"}]}'
    url = f"http://{address}/v1/chat/completions"
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=5).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise NotStarted(f"it never answered: {error}") from None
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
