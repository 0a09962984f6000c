"""Watches of a registry: the Python client's and the command line's, side by side."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from inferno import Registry
from inferno.client import ClientError
from tests.acceptance.platform import Platform, clean_environment

SECONDS = 30.0

Seen = tuple[str, dict[str, Any]]
"""Type of a change, and the metadata of the entry."""

Wanted = Callable[[str, dict[str, Any]], bool]


class Watchers:
    """Two watches of all changes, from the first one on until one is a removal.

    Args:
        platform: that has the registry; it may be killed and come back meanwhile.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._seen: dict[str, queue.Queue[Seen]] = {
            "client": queue.Queue(),
            "command": queue.Queue(),
        }
        self._registry = Registry(platform.management_url, api_key=platform.api_key)
        command = [sys.executable, "-m", "inferno", "registry", "watch", "--json", "--since", "0"]
        self._process = subprocess.Popen(
            [*command, "--data-dir", str(platform.data_dir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            text=True,
        )
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._watch, self._read)
        ]

    def _watch(self) -> None:
        try:
            for change in self._registry.watch({}, since=0):
                self._seen["client"].put((change.type, change.server.metadata))
                if change.type == "DELETED":
                    return
        except ClientError as error:
            self._seen["client"].put((str(error), {}))

    def _read(self) -> None:
        for line in self._process.stdout or ():
            change = json.loads(line)
            told = (change["type"], change["document"]["inference_server_metadata"])
            self._seen["command"].put(told)

    def wait_for(self, wanted: Wanted) -> None:
        """Wait until both have come to a change, behind those that they came to before."""
        for changes in self._seen.values():
            while not wanted(*changes.get(timeout=SECONDS)):
                pass

    def interrupted(self) -> tuple[int, str]:
        """End the command with Ctrl-C; return its exit code and what it complained of."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(SECONDS)
        return code, self._process.stderr.read() if self._process.stderr else ""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(SECONDS)
        if error is None:
            for thread in self._threads:
                thread.join(SECONDS)
        self._registry.close()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
