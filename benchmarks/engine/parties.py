"""Who is measured: the platform and its replica, other servers, replicas with other settings."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.engine.load import Party
from benchmarks.startup.processes import clean_environment, platform, process, wait_until
from inferno.core.resources import EngineOptions
from inferno.engines.base import Launch
from inferno.engines.llama_cpp import LlamaCpp
from inferno.gateway.upstream import Address

PARALLEL = 8
CONTEXT = 1024
PLATFORM, DIRECT, LLAMA_CPP_PYTHON = "platform", "replica, direct", "llama-cpp-python"

WAIT_POLICIES: Mapping[str, Mapping[str, str]] = {
    "passive (as shipped)": {},
    "active": {"OMP_WAIT_POLICY": "active"},
    # What OpenMP does where nobody says anything: it spins for a while, then sleeps.
    "OpenMP's default": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "300000"},
}


@contextmanager
def served(folder: Path, model: Path, llama_cpp_python: str | None) -> Iterator[list[Party]]:
    """Run the platform, and llama-cpp-python's server where it is installed."""
    models = folder / "models"
    models.mkdir()
    (models / model.name).hardlink_to(model)
    with ExitStack() as stack:
        started = stack.enter_context(
            platform(
                folder,
                models_dir=models,
                bundled_model="false",
                parallel=PARALLEL,
                context_size=CONTEXT,
            )
        )
        _load(started.address, started.key, model.stem)
        replica = started.replica()
        parties = [
            Party(DIRECT, replica.address, replica.key, model.stem, replica.process),
            Party(PLATFORM, started.address, started.key, model.stem, started.process),
        ]
        if llama_cpp_python is None:
            print("llama-cpp-python is left out; --llama-cpp-python PYTHON names its interpreter.")
        else:
            parties.append(stack.enter_context(_llama_cpp_python(folder, llama_cpp_python, model)))
        yield parties


def _load(address: Address, key: str, model: str) -> None:
    """Have a model loaded."""
    head = (
        f"POST /models/{model}/load HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n"
        f"Authorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection((address.host, address.port), timeout=120) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if b" 200 " not in answer.partition(b"\r\n")[0]:
        raise SystemExit(f"The model was not loaded:\n{answer.decode()}")


@contextmanager
def _llama_cpp_python(folder: Path, python: str, model: Path) -> Iterator[Party]:
    """Run llama-cpp-python's server with the same room for each request."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        python, "-m", "llama_cpp.server", "--model", str(model), "--host", "127.0.0.1",
        "--port", str(port), "--n_ctx", str(CONTEXT), "--interrupt_requests", "false",
    ]  # fmt: skip
    log = folder / "llama-cpp-python.log"
    with process(command, log, environment=clean_environment()) as started:

        def listens() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            return False

        wait_until(listens, started, log)
        one = psutil.Process(started.pid)
        yield Party(LLAMA_CPP_PYTHON, Address("127.0.0.1", port), "none", model.stem, one)


@contextmanager
def wait_policies(folder: Path, model: Path) -> Iterator[list[Party]]:
    """Run a replica for each way in which the engine's threads may wait for each other."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(_replica(folder, model, name, variables))
            for name, variables in WAIT_POLICIES.items()
        ]


@contextmanager
def _replica(folder: Path, model: Path, name: str, variables: Mapping[str, str]) -> Iterator[Party]:
    """Run a replica's program as the platform does."""
    engine = LlamaCpp()
    options = EngineOptions(parallel=PARALLEL, context_size=CONTEXT)
    launch = Launch(f"benchmark-{name}", model.stem, model, "key", options, grace=1.0)
    with process(
        engine.command(launch),
        folder / "replica.log",
        environment={**engine.environment(), **variables},
        piped=True,
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        started.stdin.write(engine.config(launch))
        started.stdin.flush()
        port = json.loads(started.stdout.readline())["port"]
        one = psutil.Process(started.pid)
        one.suspend()  # threads that wait by spinning would take the cores from the others
        try:
            yield Party(name, Address("127.0.0.1", port), "key", model.stem, one, sleeps=True)
        finally:
            one.resume()
