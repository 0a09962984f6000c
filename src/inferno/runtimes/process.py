"""One start of a replica's program, as a small state machine.

NEW ──start──▶ STARTING ──ready event──▶ READY ──stop──▶ STOPPING ──▶ EXITED
                   └───────── exit or kill ──┴────────────────────────▲

A process that only starts is killed rather than asked: nothing runs in it yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import signal

import msgspec

from inferno.engines.base import Engine, Failure, Launch, ReadyEvent
from inferno.runtimes.logs import ReplicaLog

_KILL_MARGIN = 1.0  # seconds to exit, once a program has nothing left to do


class State(enum.Enum):
    """Where a process is in its life."""

    NEW = "new"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    EXITED = "exited"


class ReplicaProcess:
    """Owns one child process: whoever calls `start` must see that it ends.

    Args:
        engine: knows the program.
        launch: what to run.
        log: where the program's standard error goes.
    """

    def __init__(self, engine: Engine, launch: Launch, log: ReplicaLog) -> None:
        self.state = State.NEW
        self._engine = engine
        self._launch = launch
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._was_ready = False

    @property
    def pid(self) -> int:
        """Process id; 0 before the start."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start the program and hand it its configuration.

        Raises:
            OSError: it cannot be executed.
        """
        config = await asyncio.to_thread(self._engine.config, self._launch)
        with self._log.open() as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._engine.command(self._launch),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._engine.environment(),
                start_new_session=True,  # Ctrl-C in a terminal is for the platform alone
            )
        self.state = State.STARTING
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        self._process.stdin.write(config)
        with contextlib.suppress(ConnectionError):  # it ended already; its log says why
            await self._process.stdin.drain()

    async def wait_ready(self) -> ReadyEvent | None:
        """Wait until the program serves; None when it ended instead."""
        assert self._process is not None  # noqa: S101 - callers start first
        assert self._process.stdout is not None  # noqa: S101 - asked for in start
        line = await self._process.stdout.readline()
        try:
            event = msgspec.json.decode(line, type=ReadyEvent)
        except msgspec.DecodeError:  # the end of its output, or nothing that we understand
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait_exit(), _KILL_MARGIN)
            self.kill()
            await self.wait_exit()
            return None
        if self.state is State.STARTING:
            self.state = State.READY
            self._was_ready = True
        return event

    async def wait_exit(self) -> int:
        """Wait for the end of the process and return its exit code (negative for a signal)."""
        assert self._process is not None  # noqa: S101 - callers start first
        code = await self._process.wait()
        self.state = State.EXITED
        return code

    async def stop(self, grace: float) -> None:
        """End the process; one that serves gets `grace` seconds to finish its requests."""
        if self._process is None:
            return
        if self.state is State.READY:
            self.state = State.STOPPING
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait_exit(), grace + _KILL_MARGIN)
        self.kill()
        await self.wait_exit()

    def kill(self) -> None:
        """Send SIGKILL, unless the process has ended."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal, not by way of `subprocess`: it may reap the exit code before asyncio."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def diagnose(self) -> Failure:
        """Explain why the process ended; only after its exit."""
        assert self._process is not None  # noqa: S101 - callers start first
        return self._engine.diagnose(
            self._launch,
            self._log.since_start(),
            self._process.returncode or 0,
            was_ready=self._was_ready,
        )
