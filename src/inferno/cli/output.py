"""Printing: JSON for programs, tables and sizes for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

WIDEST = 100_000
"""Columns of a table that is not printed on a terminal: never wrapped, so that grep works."""

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def print_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print aligned columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: brackets are not markup
    Console(width=None if sys.stdout.isatty() else WIDEST).print(table)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print one `name: value` line for each fact that there is."""
    shown = [(name, value) for name, value in facts if value]
    width = max((len(name) for name, _ in shown), default=0) + 1
    for name, value in shown:
        print(f"{name + ':':<{width}} {printable(value)}")


def human_size(size: float | None) -> str:
    """Return a number of bytes as people read it; empty for none."""
    if size is None:
        return ""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in _UNITS:
        size /= 1024
        if size < 1024 or unit == _UNITS[-1]:
            break
    return f"{size:.1f} {unit}"


def printable(text: str) -> str:
    """Drop control characters, with which a model or a file could take over the terminal."""
    if not sys.stdout.isatty():
        return text
    return "".join(c for c in text if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f"))
