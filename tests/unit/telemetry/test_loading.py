"""Libraries for metrics and traces are loaded by those who use them."""

from __future__ import annotations

import subprocess
import sys


def test_the_platform_starts_without_libraries_for_metrics_and_traces() -> None:
    """They would take 15 MB and a tenth of a second (FastAPI brings OpenTelemetry's API itself)."""
    code = (
        "import sys, inferno.assembly; "
        "print([m for m in ('prometheus_client', 'opentelemetry.sdk') if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "[]\n"
