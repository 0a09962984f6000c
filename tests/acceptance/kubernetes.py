"""`kubectl` against a platform, as an operator would use it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.platform import Platform

SECONDS = 60
POOLS = "inferencepools.inference.networking.x-k8s.io"
GROUP = "inference.networking.x-k8s.io"


class Kubectl:
    """Runs `kubectl` with a kubeconfig.

    Args:
        kubeconfig: the file.
        namespace: of its commands.
    """

    def __init__(self, kubeconfig: Path, namespace: str = "default") -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace

    def run(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever becomes of it."""
        return subprocess.run(
            ["kubectl", "--namespace", self.namespace, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=self.environment(),
            check=False,
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that it runs with."""
        # Its cache of discovery is in its home; each platform of a test has another port.
        home = str(self.kubeconfig.parent)
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": home}

    @contextmanager
    def start(
        self, *arguments: str, output: Path | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command beside the block, and end it with the block."""
        with (output or Path(os.devnull)).open("wb") as file:
            process = subprocess.Popen(
                ["kubectl", "--namespace", self.namespace, *arguments],
                stdout=file,
                env=self.environment(),
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def __call__(self, *arguments: str, text: str | None = None) -> str:
        """Run a command that has to succeed, and return what it printed."""
        done = self.run(*arguments, text=text)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, *arguments: str, text: str | None = None) -> str:
        """Run a command that has to fail, and return its error."""
        done = self.run(*arguments, text=text)
        assert done.returncode != 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stderr

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run a command, and return what it printed as JSON."""
        found: dict[str, Any] = json.loads(self(*arguments, "-o", "json"))
        return found


def kubeconfig(platform: Platform, path: Path, *, api_key: str | None = None) -> Path:
    """Write the kubeconfig that `inferno kubeconfig` prints for a platform."""
    from tests.acceptance.commands import inferno

    more = ("--api-key", api_key) if api_key else ()
    path.write_text(inferno("kubeconfig", "--data-dir", str(platform.data_dir), *more))
    return path


def pool(name: str, *, port: int = 8000, **metadata: Any) -> dict[str, Any]:
    """Return an InferencePool."""
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "InferencePool",
        "metadata": {"name": name, **metadata},
        "spec": {"selector": {"app": name}, "targetPortNumber": port},
    }


def manifest(*objects: dict[str, Any]) -> str:
    """Return objects as `kubectl apply -f -` reads them."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
