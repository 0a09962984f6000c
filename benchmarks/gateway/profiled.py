"""`inferno serve` as it is, with a profiler that looks what it does at each tick of the CPU.

Run as `python -m benchmarks.gateway.profiled FILE`. SIGUSR1 begins, SIGUSR2 ends and writes what
was seen to the file: how often each function was at work itself. What the kernel and functions
written in C take counts for the function that called them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from inferno import assembly, settings

INTERVAL = 0.001
_ROOTS = sorted({str(Path(entry).resolve()) + "/" for entry in sys.path if entry}, key=len)[::-1]
_SHOWN = 20


def main(file: Path) -> None:
    """Serve, and look when told to."""
    seen: Counter[str] = Counter()

    def look(_: int, frame: FrameType | None) -> None:
        seen[_name(frame)] += 1

    def begin(_: int, frame: FrameType | None) -> None:
        del frame
        seen.clear()
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def end(_: int, frame: FrameType | None) -> None:
        del frame
        signal.setitimer(signal.ITIMER_PROF, 0)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(seen))
        partial.rename(file)

    signal.signal(signal.SIGPROF, look)
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
    sys.exit(assembly.serve(settings.load()))


def _name(frame: FrameType | None) -> str:
    if frame is None:
        return "?"
    path = frame.f_code.co_filename
    root = next((root for root in _ROOTS if path.startswith(root)), "")
    return f"{path.removeprefix(root)} {frame.f_code.co_qualname}"


@contextmanager
def profiling(process: psutil.Process, file: Path) -> Iterator[None]:
    """Have a process that runs `main` look while the block runs; its file is there afterwards."""
    file.unlink(missing_ok=True)
    os.kill(process.pid, signal.SIGUSR1)
    yield
    os.kill(process.pid, signal.SIGUSR2)
    deadline = time.monotonic() + 10
    while not file.exists():
        if time.monotonic() > deadline:
            raise SystemExit("The profiler wrote nothing.")
        time.sleep(0.05)


def show(file: Path, microseconds: float) -> None:
    """Print what was seen, by package and by function.

    Args:
        file: that was written.
        microseconds: that one request, or one event, took.
    """
    seen = Counter(json.loads(file.read_text()))
    packages: Counter[str] = Counter()
    for name, count in seen.items():
        packages["/".join(name.split(" ")[0].split("/")[:2])] += count
    total = max(seen.total(), 1)
    for counts in (packages, seen):
        print()
        for name, count in counts.most_common(_SHOWN):
            share = count / total
            print(f"  {share:6.1%}{share * microseconds:9.1f} µs  {name}")


if __name__ == "__main__":
    from benchmarks.startup.processes import pin

    pin(0)
    main(Path(sys.argv[1]))
