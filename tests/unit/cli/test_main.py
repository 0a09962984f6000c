"""The command as a whole: help, version, speed, and how it fails."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from inferno.cli import main as cli
from inferno.version import __version__
from tests.unit.cli.conftest import Inferno, failed


def test_version(inferno: Inferno) -> None:
    result = inferno("--version")
    assert (result.returncode, result.stdout) == (0, f"inferno {__version__}\n")


def test_help_names_the_commands(inferno: Inferno) -> None:
    result = inferno("--help")
    assert result.returncode == 0
    for name in ("serve", "run", "models"):
        assert f"  {name} " in result.stdout


@pytest.mark.parametrize("arguments", [(), ("models",)])
def test_without_a_command_it_helps(inferno: Inferno, arguments: tuple[str, ...]) -> None:
    result = inferno(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("Usage: inferno")


def test_help_loads_nothing_heavy(inferno: Inferno) -> None:
    code = (
        "import sys; from inferno.cli.main import main; main(['--help']); "
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"rich", "msgspec", "asyncio", "http", "ssl", "pydantic", "sqlalchemy", "uvicorn"}
    assert heavy & set(result.stderr.split()) == set()


def test_help_is_quick(inferno: Inferno) -> None:
    """In CPU time, the best of several runs: other work on the machine must not count."""
    durations = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        inferno("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        durations.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(durations) < 0.3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("frobnicate",), "No such command 'frobnicate'"),
        (("serve", "--prot", "1"), "No such option: --prot"),
        (("run",), "Missing argument 'MODEL' (see `inferno run --help`)"),
        (("models", "load"), "Missing argument 'NAME'"),
        (("run", "m", "hi", "--max-tokens", "0"), "--max-tokens"),
        (("serve", "--log-level", "loud"), "--log-level"),
        (("serve", "--port", "http"), "--port"),
    ],
)
def test_wrong_usage(inferno: Inferno, arguments: tuple[str, ...], said: str) -> None:
    assert said in failed(inferno(*arguments), 2)


def test_settings_that_cannot_work(inferno: Inferno) -> None:
    said = failed(inferno("models", "list", INFERNO_PROT="1"))
    assert said == "environment: unknown setting 'INFERNO_PROT'; did you mean 'INFERNO_PORT'?"


def test_unexpected_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", _broken)
    monkeypatch.delenv("INFERNO_LOG_LEVEL", raising=False)
    assert cli.main(["x"]) == 1
    assert capsys.readouterr().err == (
        "inferno: unexpected error: ZeroDivisionError: no such luck "
        "(INFERNO_LOG_LEVEL=debug shows where)\n"
    )


def test_their_traceback_is_for_those_who_ask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", _broken)
    monkeypatch.setenv("INFERNO_LOG_LEVEL", "debug")
    assert cli.main(["x"]) == 1
    assert "in _broken" in capsys.readouterr().err


def _broken(**_: object) -> None:
    raise ZeroDivisionError("no such luck")


def test_system_errors_name_the_file(inferno: Inferno, tmp_path: Path) -> None:
    said = failed(inferno("serve", "--config", str(tmp_path / "none.toml")))
    assert said == f"{tmp_path}/none.toml: No such file or directory"


def test_a_reader_that_leaves_is_no_error_worth_words(inferno: Inferno) -> None:
    read, write = os.pipe()
    os.close(read)
    process = inferno.start("--help", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    _, said = process.communicate(timeout=30)
    assert b"Traceback" not in said


def test_terminals_that_lack_characters(inferno: Inferno) -> None:
    result = inferno("--help", PYTHONIOENCODING="latin-1")
    assert result.returncode == 0
    assert "INFERNO_?" in result.stdout
