"""The tree of errors is drawn where it is defined."""

from __future__ import annotations

import ast
import re

from inferno.core import errors
from tests.architecture.source import source_files, tree

CORE = "core/errors.py"


def _drawn() -> dict[str, str]:
    """Return the parent of each error in the tree that the module's docstring draws."""
    lines = re.findall(r"^([ │├└─]*)([A-Z][A-Za-z]+)(?:  |$)", errors.__doc__ or "", re.MULTILINE)
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = [(-1, "Exception")]
    for indent, name in lines:
        while path[-1][0] >= len(indent):
            path.pop()
        parents[name] = path[-1][1]
        path.append((len(indent), name))
    return parents


def _defined() -> dict[str, tuple[str, bool]]:
    """Return parent, and whether the core defines it, of every error class in the source."""
    bases = {
        node.name: (ast.unparse(node.bases[0]).split(".")[-1], path.as_posix().endswith(CORE))
        for path in source_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and node.bases
    }
    family = {"InfernoError"}
    while grown := {name for name, (parent, _) in bases.items() if parent in family} - family:
        family |= grown
    return {name: bases[name] for name in family}


def test_every_error_is_drawn_under_its_parent() -> None:
    """Those of the core, and every branch of its own; a refinement elsewhere answers as its parent.

    What is not drawn is easily missing in the tables that map errors to answers.
    """
    defined = _defined()
    branches = {
        name: parent
        for name, (parent, of_core) in defined.items()
        if of_core or parent == "InfernoError"
    }
    drawn = _drawn()
    assert {name: drawn.get(name) for name in branches} == branches


def test_nothing_is_drawn_that_does_not_exist() -> None:
    assert set(_drawn()) <= set(_defined())
