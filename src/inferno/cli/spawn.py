"""A server of our own, for a command that needs one and finds none.

It listens on loopback, on free ports, and never outlives the command: it is stopped at the end,
and the kernel stops it if the command is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from inferno.cli.discovery import RunningServer, announced
from inferno.cli.errors import CommandFailed

START_TIMEOUT = 60.0
"""Seconds in which the server must answer."""

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


@contextmanager
def server(data_dir: Path, *, grace_period: float) -> Iterator[RunningServer]:
    """Start a server on a data folder, yield it once it answers, and stop it at the end.

    Args:
        data_dir: where it keeps its data.
        grace_period: seconds that it may take to stop before it is killed.

    Raises:
        CommandFailed: it ended or did not answer in time; with its own words, where it had any.
    """
    with tempfile.TemporaryFile() as log, _process(data_dir, log) as process:
        try:
            yield _wait(process, data_dir, log)
        finally:
            _stop(process, grace_period)


def _process(data_dir: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    options = ["--host", "127.0.0.1", "--port", "0", "--management-port", "0"]
    return subprocess.Popen(  # noqa: S603 - our own command
        # -P: a file in the current folder must not stand in for a module of ours.
        [sys.executable, "-P", "-m", "inferno", "serve", *options, "--data-dir", str(data_dir)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C stops an answer, not the server
        preexec_fn=_die_with(os.getpid()) if sys.platform == "linux" else None,
    )


def _die_with(parent: int) -> Callable[[], None]:
    """Return what a child runs before exec, so that SIGTERM reaches it when its parent dies."""
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: less can go wrong after it

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # died before the call
            os._exit(1)

    return ask_kernel


def _wait(process: subprocess.Popen[bytes], data_dir: Path, log: IO[bytes]) -> RunningServer:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CommandFailed(f"the server did not start: {_last_words(log)}")
        found = announced(data_dir)
        if found and found.pid == process.pid:
            return found
        time.sleep(0.02)
    raise CommandFailed(f"the server did not answer in {START_TIMEOUT:.0f} s: {_last_words(log)}")


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("inferno: ") if lines else "it printed nothing"


def _stop(process: subprocess.Popen[bytes], grace_period: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.terminate()
        process.wait(grace_period)
        return
    process.kill()
    process.wait()
