"""Every field of every kind is documented as its type has it, and none that does not exist is."""

from __future__ import annotations

import re

import pytest

from inferno.core.kinds import KindDefinition, ServedVersion
from inferno.core.served.catalogue import DEFINITIONS
from tests.architecture.shapes import rows, title
from tests.architecture.source import ROOT

PAGE = ROOT / "docs" / "reference" / "kinds.md"
SERVED = [(definition, version) for definition in DEFINITIONS for version in definition.versions]


def _section(heading: str) -> str:
    text = PAGE.read_text("utf-8")
    match = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"docs/reference/kinds.md has no heading {heading}"
    return match[1]


@pytest.mark.parametrize(
    ("definition", "version"), SERVED, ids=lambda one: getattr(one, "kind", "")
)
def test_fields_are_documented(definition: KindDefinition, version: ServedVersion) -> None:
    documented = re.findall(r"^\| `.*\|$", _section(title(definition, version)), re.MULTILINE)
    assert documented == [str(row) for row in rows(version.shape)]


def test_nothing_else_is_documented() -> None:
    headings = re.findall(r"^## `.*$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert headings == [title(definition, version) for definition, version in SERVED]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda one: f"{one.kind}-{one.group}")
def test_columns_say_what_they_are(definition: KindDefinition) -> None:
    for version in definition.versions:
        assert all(column.description for column in version.columns)
        assert version.shape.__doc__
        assert all(row.meaning for row in rows(version.shape)), rows(version.shape)
