"""What every source file keeps to."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, ROOT, imported, shown, source_files, tree

NAMELESS = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


@pytest.mark.parametrize("path", source_files(), ids=shown)
def test_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path)), f"{shown(path)} has no module docstring"


def test_every_folder_is_a_package() -> None:
    """A folder without `__init__.py` has no docstring, and other checks pass it by."""
    # Alembic finds migrations by their path; they are not imported by name.
    folders = {path.parent for path in source_files()} - {PACKAGE / "storage/migrations/versions"}
    assert [shown(f) for f in sorted(folders) if not (f / "__init__.py").is_file()] == []


def test_names_say_something() -> None:
    """What is called utils or helpers collects what has no place; find the place instead."""
    bad = [
        shown(path)
        for path in source_files()
        if NAMELESS & {part.strip("_") for part in path.relative_to(PACKAGE).with_suffix("").parts}
    ]
    assert bad == []


def test_core_imports_the_standard_library_and_msgspec_only() -> None:
    # RE2 is to regular expressions what msgspec is to types: pure, and better than one's own.
    allowed = {*sys.stdlib_module_names, "msgspec", "re2"}
    foreign = [
        f"{shown(path)}: {name}"
        for path in sorted((PACKAGE / "core").rglob("*.py"))
        for name in imported(path)
        if name.split(".")[0] not in allowed and not f"{name}.".startswith("inferno.core.")
    ]
    assert foreign == []


def test_no_task_is_started_and_forgotten() -> None:
    """The event loop keeps weak references only: a task that nobody holds can vanish."""
    forgotten = [
        f"{shown(path)}:{line}" for path in source_files() for line in _forgotten_tasks(tree(path))
    ]
    assert forgotten == []


def _forgotten_tasks(module: ast.Module) -> Iterator[int]:
    for node in ast.walk(module):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = ast.unparse(node.value.func)
            # A TaskGroup holds its tasks, and fails when they do.
            owned = called.removesuffix(".create_task").endswith(("group", "tasks", "tg"))
            if called.split(".")[-1] in ("create_task", "ensure_future") and not owned:
                yield node.lineno


def test_the_check_for_forgotten_tasks_finds_them() -> None:
    text = (
        "asyncio.create_task(f())\nensure_future(f())\ngroup.create_task(f())\nt = create_task(f)"
    )
    assert list(_forgotten_tasks(ast.parse(text))) == [1, 2]


def test_only_the_command_line_prints() -> None:
    """Everything else logs, or returns what it has to say."""
    printing = [
        f"{shown(path)}:{node.lineno}"
        for path in source_files()
        if not path.is_relative_to(PACKAGE / "cli")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
        if shown(path)
        != "src/inferno/assembly/process.py"  # which greets, on behalf of `inferno serve`
    ]
    assert printing == []


def test_the_readme_begins_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "make serve" in readme
    assert "make test" in readme
