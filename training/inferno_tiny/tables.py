"""Reads the tables of text that the corpus is made from. Standard library only."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("text")


def text_lines(name: str) -> list[str]:
    """Lines of `text/<name>` without blank lines and comments."""
    lines = (_FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]
