"""Every command, option and setting is documented, and nothing that does not exist is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from inferno.cli.main import app
from inferno.settings import ModelSettings, Settings
from tests.architecture.source import ROOT

REFERENCE = ROOT / "docs" / "reference"
SHOWN = {None: "", True: "`true`", False: "`false`"}


def _commands(command: Any = None, path: str = "inferno") -> Iterator[tuple[str, Any]]:
    """Yield (name, command) of the application and of everything under it."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, f"{path} {name}")


def _section(path: str) -> str:
    """Return what docs/reference/cli.md says under a command's heading."""
    text = (REFERENCE / "cli.md").read_text("utf-8")
    match = re.search(rf"^## `{path}`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"docs/reference/cli.md has no heading for `{path}`"
    return match[1]


COMMANDS = dict(_commands())


@pytest.mark.parametrize("path", COMMANDS)
def test_command_has_help(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{path}: {parameter.name} has no help"


@pytest.mark.parametrize("path", COMMANDS)
def test_command_is_documented(path: str) -> None:
    section = _section(path)
    for parameter in COMMANDS[path].params:
        names = parameter.opts if parameter.opts[0].startswith("-") else [parameter.metavar]
        for name in names:
            assert f"`{name}" in section, f"docs/reference/cli.md: `{path}` lacks {name}"


def test_no_other_command_is_documented() -> None:
    text = (REFERENCE / "cli.md").read_text("utf-8")
    assert set(re.findall(r"^## `(inferno.*?)`", text, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_no_other_option_is_documented(path: str) -> None:
    documented = set(re.findall(r"^\| `(--[a-z0-9-]+)", _section(path), re.MULTILINE))
    assert documented <= {name for parameter in COMMANDS[path].params for name in parameter.opts}


def _rows(kind: type[msgspec.Struct]) -> dict[str, list[str]]:
    """Return the cells of each setting's row, by name, in one of the two tables."""
    text = (REFERENCE / "settings.md").read_text("utf-8")
    platform, _, model = text.partition("## Settings of one model")
    table = model if kind is ModelSettings else platform
    rows = re.findall(r"^\| `([a-z_0-9]+)` \|(.*)\|$", table, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is msgspec.NODEFAULT:
        return ""  # a folder, or a list or table, which is empty
    if field.default is None or isinstance(field.default, bool):
        return SHOWN[field.default]
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


@pytest.mark.parametrize("kind", [Settings, ModelSettings])
def test_every_setting_is_documented_with_its_default(kind: type[msgspec.Struct]) -> None:
    rows = _rows(kind)
    fields = msgspec.structs.fields(kind)
    assert list(rows) == [field.name for field in fields]
    for field in fields:
        assert _default(field) in rows[field.name][0], field.name
        assert rows[field.name][1], f"{field.name} is not described"


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in _documents()
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text("utf-8"))
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert broken == []


def _documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
