"""What the guide of the Python client shows, works."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.platform import Platform, clean_environment
from tests.architecture.source import ROOT

GUIDE = ROOT / "docs" / "guides" / "client.md"


def programs() -> Iterator[tuple[str, str]]:
    """Yield the section and the text of each program."""
    section = "Beginning"
    parts = re.split(r"^(## .*|```python\n(?:.*\n)*?```)$", GUIDE.read_text("utf-8"), flags=re.M)
    for part in parts:
        if part.startswith("## "):
            section = part.removeprefix("## ")
        elif part.startswith("```python"):
            yield section, part.removeprefix("```python\n").removesuffix("```")


PROGRAMS = list(programs())


@pytest.mark.parametrize(("section", "program"), PROGRAMS, ids=[name for name, _ in PROGRAMS])
def test_programs(platform: Platform, tmp_path: Path, section: str, program: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(program)
    environment = {
        "INFERNO_URL": platform.url,
        "INFERNO_REGISTRY_URL": platform.management_url,
        "INFERNO_API_KEY": platform.api_key,
    }
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout or section == "Webhooks"


def test_all_programs_are_found() -> None:
    assert len(PROGRAMS) == GUIDE.read_text("utf-8").count("```python\n") > 5
