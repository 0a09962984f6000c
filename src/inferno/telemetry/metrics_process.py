"""Metrics of the platform's own process: CPU, memory, files, and how late its event loop is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import psutil

from inferno.telemetry.metrics import Family, Histogram, Measured

TICK_SECONDS = 1.0
LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

UPTIME = Family("inferno_uptime_seconds", "gauge", "How long the platform has been running.")
BUILD = Family("inferno_build_info", "gauge", "1, with the platform's version.", ("version",))
LAG = Family(
    "inferno_event_loop_lag_seconds",
    "histogram",
    "How late the event loop woke up, looked at once a second.",
)
CPU = Family("process_cpu_seconds_total", "counter", "CPU time of the platform's own process.")
RESIDENT = Family("process_resident_memory_bytes", "gauge", "Its memory in RAM.")
VIRTUAL = Family("process_virtual_memory_bytes", "gauge", "Its address space.")
OPEN_FILES = Family("process_open_fds", "gauge", "Its open files and sockets.")
MAX_FILES = Family("process_max_fds", "gauge", "How many it may have.")
THREADS = Family("process_threads", "gauge", "Its threads.")
STARTED = Family(
    "process_start_time_seconds", "gauge", "When it started, in seconds since the epoch."
)

FAMILIES = (
    UPTIME, BUILD, LAG, CPU, RESIDENT, VIRTUAL, OPEN_FILES, MAX_FILES, THREADS, STARTED,
)  # fmt: skip


class ProcessMetrics:
    """Measures this process.

    Args:
        version: the platform's.
    """

    def __init__(self, *, version: str) -> None:
        self._version = version
        self._process = psutil.Process()
        self._begun = time.monotonic()
        self._lag = Histogram(LAGS)

    @asynccontextmanager
    async def watching_the_loop(self) -> AsyncIterator[None]:
        """Measure the event loop's lag while the block runs."""
        async with asyncio.TaskGroup() as tasks:
            ticking = tasks.create_task(self._tick())
            try:
                yield
            finally:
                ticking.cancel()

    async def _tick(self) -> None:
        while True:
            due = time.perf_counter() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self._lag.observe(max(0.0, time.perf_counter() - due))

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._begun

    @property
    def memory_bytes(self) -> int:
        """Memory in RAM."""
        return int(self._process.memory_info().rss)

    def cpu_percent(self) -> float:
        """Return CPU use since this was last asked, in percent of one core."""
        return float(self._process.cpu_percent())

    def measured(self) -> Iterator[Measured]:
        """Return all values; a `Source`."""
        process = self._process
        yield Measured.one(UPTIME, self.uptime)
        yield Measured(BUILD, [((self._version,), 1)])
        yield Measured.one(LAG, self._lag.now())
        with process.oneshot():
            cpu, memory = process.cpu_times(), process.memory_info()
            yield Measured.one(CPU, cpu.user + cpu.system)
            yield Measured.one(RESIDENT, memory.rss)
            yield Measured.one(VIRTUAL, memory.vms)
            yield Measured.one(THREADS, process.num_threads())
            yield Measured.one(STARTED, process.create_time())
        with suppress(AttributeError, psutil.AccessDenied):  # not every system counts files
            yield Measured.one(OPEN_FILES, process.num_fds())
            yield Measured.one(MAX_FILES, _max_files())


def _max_files() -> float:
    import resource

    return float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
