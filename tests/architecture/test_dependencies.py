"""What is imported is declared, and what is declared is pinned."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT, imported, pyproject, shown, source_files

PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)")


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    matches = [PIN.fullmatch(line) for line in lines]
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def _declared(*, runtime_only: bool = False) -> Iterator[Requirement]:
    project = pyproject()["project"]
    groups = [project["dependencies"]]
    if not runtime_only:
        groups += [*project["optional-dependencies"].values()]
        groups += [pyproject()["build-system"]["requires"]]
    return (Requirement(text) for group in groups for text in group)


def _needed() -> set[str]:
    """Return all distributions that the declared ones need here, themselves included."""
    needed: set[str] = set()
    pending = list(_declared())
    while pending:
        requirement = pending.pop()
        key = f"{canonicalize_name(requirement.name)}[{','.join(sorted(requirement.extras))}]"
        if key in needed:
            continue
        needed.add(key)
        for text in metadata.requires(requirement.name) or ():
            wanted = Requirement(text)
            extras = requirement.extras or {""}
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": e}) for e in extras):
                pending.append(wanted)
    return {key.split("[")[0] for key in needed} - {"inferno"}


def test_pins_are_names_and_versions_only() -> None:
    """No address of any kind: where packages come from is the installer's business."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    assert lines == sorted(lines, key=lambda line: line.lower().split("==")[0])


def test_everything_declared_is_pinned() -> None:
    names = {canonicalize_name(requirement.name) for requirement in _declared()} - {"inferno"}
    assert sorted(names - set(_pins())) == []


def test_everything_those_need_is_pinned() -> None:
    assert sorted(_needed() - set(_pins())) == []


def test_what_is_installed_is_what_is_pinned() -> None:
    installed = {name: metadata.version(name) for name in _needed()}
    pins = _pins()
    assert {n: v for n, v in installed.items() if pins.get(n) != v} == {}


def test_everything_imported_is_declared() -> None:
    """What comes only with another package goes when that package no longer needs it."""
    owners = metadata.packages_distributions()
    project = pyproject()["project"]
    extras = project["optional-dependencies"].items()
    optional = [text for extra, group in extras if extra != "dev" for text in group]
    declared = {
        canonicalize_name(Requirement(text).name) for text in [*project["dependencies"], *optional]
    }
    undeclared = {
        f"{shown(path)}: {name}"
        for path in source_files()
        for name in imported(path)
        if (top := name.split(".")[0]) not in {*sys.stdlib_module_names, "inferno"}
        and not declared & {canonicalize_name(owner) for owner in owners.get(top, ())}
    }
    assert sorted(undeclared) == []
