"""The `inferno` command in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from tests.acceptance.platform import clean_environment

SECONDS = 60


def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command, whatever becomes of it."""
    return subprocess.run(
        [sys.executable, "-m", "inferno", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=clean_environment(),
        check=False,
    )


def inferno(*arguments: str, text: str | None = None) -> str:
    """Run a command that has to succeed, and return what it printed."""
    done = run(*arguments, text=text)
    assert done.returncode == 0, done.stderr
    return done.stdout
