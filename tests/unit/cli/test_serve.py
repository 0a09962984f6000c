"""`inferno serve`: what its options become."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

import inferno
from inferno.cli.main import main
from inferno.settings import Settings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Settings]:
    """The settings that the platform was asked to start with."""
    asked: list[Settings] = []

    def serve(settings: Settings) -> int:
        asked.append(settings)
        return 3

    assembly: Any = types.ModuleType("inferno.assembly")
    assembly.serve = serve
    monkeypatch.setitem(sys.modules, "inferno.assembly", assembly)
    monkeypatch.setattr(inferno, "assembly", assembly, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("INFERNO_CONFIG", raising=False)
    return asked


def test_every_option_is_a_setting(served: list[Settings], tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("max_queue = 7\nport = 1")
    options = {
        "host": "::1",
        "port": "9000",
        "management-port": "0",
        "data-dir": str(tmp_path / "d"),
        "models-dir": str(tmp_path / "m"),
        "config": str(config),
        "log-level": "debug",
        "log-format": "json",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    assert main(["serve", "--no-auth", *given]) == 3
    assert served == [
        Settings(
            host="::1",
            port=9000,
            management_port=0,
            data_dir=tmp_path / "d",
            models_dir=tmp_path / "m",
            auth=False,
            log_level="debug",
            log_format="json",
            max_queue=7,
        )
    ]


def test_without_options_the_environment_counts(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERNO_PORT", "9001")
    monkeypatch.setenv("INFERNO_AUTH", "false")
    assert main(["serve"]) == 3
    assert (served[0].port, served[0].auth) == (9001, False)


def test_port_out_of_range(served: list[Settings], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "70000"]) == 1
    assert "setting 'port'" in capsys.readouterr().err
    assert served == []
