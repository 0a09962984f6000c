"""Servers in processes of their own for the benchmarks: started, found, and always ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from inferno.gateway.upstream import Address
from inferno.runtimes.keys import replica_key

START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.002

SERVE = (sys.executable, "-m", "inferno", "serve")


@dataclass(frozen=True)
class Platform:
    """`inferno serve`, answering.

    Args:
        process: the platform's own process.
        data_dir: its data folder.
        address: of the inference API.
        key: the first API key.
        seconds: from its start until `run.json` said that both planes answer.
    """

    process: psutil.Process
    data_dir: Path
    address: Address
    key: str
    seconds: float

    def replica(self) -> Replica:
        """Return its one replica, once that listens."""
        secret = bytes.fromhex((self.data_dir / "secret.key").read_text())
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for child in self.process.children():
                for connection in child.net_connections("tcp4"):
                    if connection.status == psutil.CONN_LISTEN:
                        uid = child.cmdline()[-1]
                        address = Address("127.0.0.1", connection.laddr[1])
                        return Replica(child, address, replica_key(secret, uid))
            time.sleep(0.05)
        raise SystemExit("The platform started no replica.")


@dataclass(frozen=True)
class Replica:
    """A model server and what opens it."""

    process: psutil.Process
    address: Address
    key: str


@contextmanager
def process(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    piped: bool = False,
    core: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command while the block runs; then ask it to end, and see that it does.

    Args:
        command: program and arguments.
        log: file for what it prints.
        environment: its variables; this process's own where not given.
        piped: standard input and output are pipes to here.
        core: the core that it runs on; all of them where not given.
    """
    with log.open("ab") as output:
        started = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else output,
            stderr=output,
            env=environment,
            preexec_fn=None if core is None else lambda: pin(core),
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        for pipe in (started.stdin, started.stdout):
            if pipe is not None:
                pipe.close()


def wait_until(condition: Callable[[], bool], started: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a process is as it should be. Raises SystemExit with its log if it never is."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if started.poll() is not None or time.monotonic() > deadline:
            name = " ".join(map(str, started.args))  # type: ignore[arg-type]
            raise SystemExit(f"{name} did not start:\n{log.read_text('utf-8', 'replace')[-2000:]}")
        time.sleep(POLL_SECONDS)


@contextmanager
def platform(
    folder: Path,
    *,
    command: Sequence[str] = SERVE,
    environment: Mapping[str, str] | None = None,
    core: int | None = None,
    **settings: object,
) -> Iterator[Platform]:
    """Run the platform while the block runs; it begins when both planes answer.

    Args:
        folder: for its data and its log; with an earlier run's data it is a later start.
        command: the program.
        environment: variables besides the settings.
        core: the core that it runs on; all of them where not given.
        settings: of the platform, by name.
    """
    data_dir, log = folder / "data", folder / "platform.log"
    settings = {"data_dir": data_dir, "port": 0, "management_port": 0, **settings}
    variables = {f"INFERNO_{name.upper()}": str(value) for name, value in settings.items()}
    run_file = data_dir / "run.json"
    begun = time.perf_counter()
    with process(
        command,
        log,
        environment={**clean_environment(), **variables, **(environment or {})},
        core=core,
    ) as started:
        wait_until(run_file.exists, started, log)
        seconds = time.perf_counter() - begun
        url = urlsplit(json.loads(run_file.read_text())["inference_url"])
        assert url.hostname is not None
        assert url.port is not None
        key = json.loads((data_dir / "credentials.json").read_text())["api_key"]
        address = Address(url.hostname, url.port)
        yield Platform(psutil.Process(started.pid), data_dir, address, key, seconds)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without settings of the platform's."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("INFERNO_", "XDG_"))}


def end_on_sigterm() -> None:
    """Leave by an exception on SIGTERM too, so that everything that was started is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def pin(core: int) -> None:
    """Run on one core from now on, where the machine has several."""
    with suppress(AttributeError, OSError):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds that a process has used so far; to the nanosecond on Linux."""
    if sys.platform == "linux":
        # What clock_getcpuclockid(3) returns; threads that have ended count too.
        return time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return float(times.user + times.system)


def load_average() -> str:
    """Return how busy the machine was in the last minute, for a report."""
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
