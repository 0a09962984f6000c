"""Run with `python -m benchmarks.startup`; takes about a minute and a half.

Help: the wall time of `inferno --help`, beside that of a Python that does nothing. Start: from
the start of the process until `run.json` says that both planes answer, and until the first token
of a streamed answer by the bundled model; on a new data folder and on one that is there already;
beside the bare engine server that loads the same file. Memory: the platform's own process, without
its replica, five seconds after it had answered. The parties take turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

from benchmarks.startup.first_token import wait_for_first_token
from benchmarks.startup.processes import (
    SERVE,
    end_on_sigterm,
    load_average,
    platform,
    process,
)
from inferno.engines.bundled import MODEL_NAME, model_path
from inferno.gateway.upstream import Address

ROUNDS = 7
SECONDS = 100.0
"""After which no further round begins."""

IDLE_SECONDS = 5.0
INFERNO = Path(sys.executable).with_name("inferno")

HELP, NOTHING = "inferno --help", "python -c pass"
SERVING, FIRST = "serving", "first token"
NEW, AGAIN = "new data folder", "later start"
BARE = "bare engine server"
GOALS = {HELP: 0.3, (NEW, FIRST): 3.0, (AGAIN, FIRST): 3.0, "memory": 120.0}


@dataclass
class Figures:
    """What was measured, by what it is: seconds, and megabytes of memory."""

    times: dict[object, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: list[tuple[float, float]] = field(default_factory=list)

    def median(self, what: object) -> float:
        """Return the median of some times."""
        return median(self.times[what])


def measure_commands(figures: Figures) -> None:
    """Time the help, and a Python that does nothing."""
    for name, command in ((HELP, [str(INFERNO), "--help"]), (NOTHING, [sys.executable, "-c", ""])):
        begun = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        figures.times[name].append(time.perf_counter() - begun)


def measure_platform(figures: Figures, folder: Path, kind: str) -> None:
    """Start the platform and ask for a first token; weigh it on a later start."""
    begun = time.perf_counter()
    with platform(folder, command=SERVE) as started:
        wait_for_first_token(started.address, started.key, MODEL_NAME)
        figures.times[kind, FIRST].append(time.perf_counter() - begun)
        figures.times[kind, SERVING].append(started.seconds)
        if kind == AGAIN:
            time.sleep(IDLE_SECONDS)
            figures.memory.append(_weight(started.process))


def _weight(one: psutil.Process) -> tuple[float, float]:
    """Return the resident and the proportional set size, in MB."""
    used = one.memory_full_info()
    return used.rss / 1e6, getattr(used, "pss", used.rss) / 1e6


def measure_bare_server(figures: Figures, folder: Path) -> None:
    """Start the engine's server on its own and ask for a first token."""
    command = [sys.executable, "-m", "benchmarks.startup.bare_server", str(model_path())]
    begun = time.perf_counter()
    with process(command, folder / "bare.log", piped=True) as started:
        assert started.stdout is not None
        port = int(started.stdout.readline())
        figures.times[BARE, SERVING].append(time.perf_counter() - begun)
        wait_for_first_token(Address("127.0.0.1", port), "none", MODEL_NAME)
        figures.times[BARE, FIRST].append(time.perf_counter() - begun)


def measure(rounds: int) -> Figures:
    """Let everything take turns; the first round warms up."""
    figures = Figures()
    end = time.monotonic() + SECONDS
    for number in range(rounds + 1):
        taken = figures if number else Figures()
        with tempfile.TemporaryDirectory(prefix="inferno-benchmark-") as name:
            folder = Path(name)
            for _ in range(3):
                measure_commands(taken)
            measure_platform(taken, folder, NEW)
            measure_bare_server(taken, folder)
            measure_platform(taken, folder, AGAIN)
        if number and time.monotonic() > end:
            break
    return figures


def show(figures: Figures) -> None:
    """Print the medians against the goals and the peers."""
    print(f"{'medians':32}{'seconds':>9}{'goal':>8}{'ratio to peer':>16}")
    for name in (HELP, NOTHING):
        _line(name, figures.median(name), GOALS.get(name), figures.median(NOTHING))
    for what in (SERVING, FIRST):
        for kind in (NEW, AGAIN, BARE):
            peer = figures.median((BARE, what))
            _line(f"{what}, {kind}", figures.median((kind, what)), GOALS.get((kind, what)), peer)
    resident, proportional = (median(column) for column in zip(*figures.memory, strict=True))
    goal = GOALS["memory"]
    print(
        f"\nidle platform process: {resident:.0f} MB resident, {proportional:.0f} MB "
        f"proportional; goal under {goal:.0f} MB resident: {_verdict(resident, goal)}"
    )


def _line(name: str, seconds: float, goal: float | None, peer: float) -> None:
    aim = "" if goal is None else f"< {goal:g}"
    verdict = "" if goal is None else f"  {_verdict(seconds, goal)}"
    print(f"{name:32}{seconds:9.3f}{aim:>8}{seconds / peer:16.2f}{verdict}")


def _verdict(value: float, goal: float) -> str:
    return "met" if value < goal else "missed"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="benchmarks.startup")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="after one that warms up")
    arguments = parser.parse_args()
    end_on_sigterm()
    figures = measure(max(1, arguments.rounds))
    show(figures)
    print(f"{len(figures.memory)} rounds, {load_average()}")


if __name__ == "__main__":
    main()
