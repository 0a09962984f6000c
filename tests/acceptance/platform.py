"""A real platform in a process of its own, for tests: started, asked, signalled, killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
from openai import AsyncOpenAI, OpenAI

START_SECONDS = 60.0
MODEL = "inferno-tiny"


class Platform:
    """`inferno serve` on free ports.

    Args:
        data_dir: its data folder.
        arguments: more flags of `inferno serve`.
        environment: more variables.
    """

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self._arguments = arguments
        self._environment = dict(environment or {})
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until it serves."""
        command = [
            sys.executable, "-m", "inferno", "serve", "--port", "0", "--management-port", "0",
            "--data-dir", str(self.data_dir), "--log-format", "json", *self._arguments,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean_environment(), **self._environment},
            )
        wait_until(self._is_up, START_SECONDS, "the platform did not start", self.log_text)
        return self

    def _is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"exit code {self.process.returncode}:\n{self.log_text()}")
        return (self.data_dir / "run.json").exists()

    def log_text(self) -> str:
        """Return what it printed and logged."""
        return self.log.read_text("utf-8", "replace")

    @property
    def run_file(self) -> dict[str, Any]:
        """What it says of itself."""
        content: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        return content

    @property
    def url(self) -> str:
        """URL of the inference API."""
        return str(self.run_file["inference_url"])

    @property
    def management_url(self) -> str:
        """URL of the control plane."""
        return str(self.run_file["management_url"])

    @property
    def api_key(self) -> str:
        """The first API key."""
        return str(json.loads((self.data_dir / "credentials.json").read_text())["api_key"])

    @property
    def pid(self) -> int:
        """The platform's process id."""
        assert self.process is not None
        return self.process.pid

    def http(self, **options: Any) -> httpx.Client:
        """Return a client with credentials."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, **options)

    def async_http(self, **options: Any) -> httpx.AsyncClient:
        """Return an asynchronous client with credentials."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60, **options)

    def openai(self) -> OpenAI:
        """Return the official SDK, pointed here."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.api_key, max_retries=0)

    def async_openai(self) -> AsyncOpenAI:
        """Return the official asynchronous SDK, pointed here."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.api_key, max_retries=0)

    def models(self) -> dict[str, dict[str, Any]]:
        """Return what `GET /models` lists, by id."""
        with self.http() as client:
            listed = client.get("/models").raise_for_status().json()["models"]
        return {model["id"]: model for model in listed}

    def replicas(self) -> list[psutil.Process]:
        """Return the processes of its replicas."""
        try:
            children = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if is_alive(child)]

    def stop(self, *, timeout: float = 40.0) -> int:
        """Ask it to stop with SIGTERM and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not stop:\n{self.log_text()}") from None

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            if error is None:
                self.stop()
            else:
                self.kill()


def free_port() -> int:
    """Return a port that nobody listens on, for a platform that has to come back to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def clean_environment() -> dict[str, str]:
    """Return this process's environment without settings of the platform's."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("INFERNO_", "XDG_", "OTEL_"))}


def wait_until(
    condition: Callable[[], object],
    seconds: float,
    complaint: str,
    more: Callable[[], str] = str,
) -> None:
    """Wait until a condition holds, or fail with a complaint."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{complaint} within {seconds:g} s\n{more()}")
        time.sleep(0.02)
