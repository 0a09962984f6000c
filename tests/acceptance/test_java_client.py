"""Java's own HTTP client, which offers HTTP/2 in the clear unless it is told not to."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.platform import MODEL, Platform

SOURCE = Path(__file__).parent / "examples" / "Ask.java.txt"


@pytest.mark.skipif(shutil.which("java") is None, reason="needs java")
def test_it_is_answered_as_it_comes(platform: Platform, tmp_path: Path) -> None:
    source = tmp_path / "Ask.java"
    source.write_text(SOURCE.read_text())
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    command = ["java", str(source), platform.url, platform.api_key, json.dumps(body)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    for line in ran.stdout.splitlines():
        status, answer = line.split(" ", 1)
        assert status == "200", answer
        assert json.loads(answer)["usage"]["completion_tokens"] > 0
    assert ran.stdout.count("200 ") == 2
