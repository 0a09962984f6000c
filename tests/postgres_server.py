"""A Postgres server of the tests' own, on a Unix socket: started, frozen, stopped."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import pytest

START_SECONDS = 30.0
_SETTINGS = {"listen_addresses": "", "fsync": "off", "max_connections": "60"}


class PostgresServer:
    """A server with an empty database `postgres`, whose superuser `postgres` needs no password.

    Args:
        settings: of the server, beside and before those of the tests.
    """

    def __init__(self, **settings: str) -> None:
        self._settings = {**_SETTINGS, **settings}
        self._binaries = _binaries()
        # Not in pytest's folder: a socket's path has to be short, and the server's user owns it.
        self.folder = tempfile.mkdtemp(prefix="inferno-pg-")
        self._account = pwd.getpwuid(os.geteuid())
        if self._account.pw_uid == 0:  # the server refuses to run as root
            self._account = pwd.getpwnam("postgres")
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        self._data = str(Path(self.folder, "data"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of its database."""
        return f"postgresql+asyncpg://postgres@/postgres?host={self.folder}"

    def create(self) -> None:
        """Make the folder that it keeps its data in."""
        initdb = [str(self._binaries / "initdb"), "-D", self._data, "-U", "postgres", "-A", "trust"]
        subprocess.run(
            [*initdb, "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"],
            check=True,
            capture_output=True,
            cwd=self.folder,
            user=self._account.pw_uid,
            group=self._account.pw_gid,
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {**self._settings, "unix_socket_directories": self.folder}
        flags = [f"-c{name}={value}" for name, value in settings.items()]
        with Path(self.folder, "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *flags],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self._account.pw_uid,
                group=self._account.pw_gid,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            ready = [str(self._binaries / "pg_isready"), "-q", "-h", self.folder]
            if subprocess.run(ready, check=False).returncode == 0:
                return
            time.sleep(0.05)
        pytest.fail("Postgres did not start:\n" + Path(self.folder, "log").read_text())

    def stop(self) -> None:
        """Stop it; whoever is connected is cut off."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(START_SECONDS)

    def freeze(self) -> None:
        """Let it neither answer nor hang up, as a machine does that lost its network."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        for process in [server, *server.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def __enter__(self) -> Self:
        self.create()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _binaries() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda path: int(path.parents[1].name),
    )
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path:
        return Path(on_path).parent
    pytest.fail("The Postgres server is missing; install it: apt-get install postgresql")
