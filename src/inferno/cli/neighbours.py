"""Servers of the same user on other data folders, for a command that was told of none.

Whoever starts a server on a folder of its own and then types `inferno run` means that server, not
a second one beside it. Processes are asked for their folder, and what they say has to hold: the
folder's `run.json` must name the very process, and it must answer.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from inferno.cli import discovery

FLAG = "--data-dir"


def folders() -> list[Path]:
    """Return the data folders on which servers of this user run, sorted."""
    own = psutil.Process().uids().real
    found: set[Path] = set()
    for process in psutil.process_iter():
        try:
            folder = _folder(process) if process.uids().real == own else None
        except (psutil.Error, OSError):  # it ended meanwhile, or is none of our business
            continue
        if folder is not None and folder not in found and _serves(folder, process.pid):
            found.add(folder)
    return sorted(found)


def _serves(folder: Path, pid: int) -> bool:
    said = discovery.announced(folder)
    return said is not None and said.pid == pid and discovery.find(folder) is not None


def _folder(process: psutil.Process) -> Path | None:
    """Return the data folder of a process that looks like `inferno serve`."""
    line = process.cmdline()
    if "serve" not in line or not any("inferno" in part for part in line[: line.index("serve")]):
        return None
    named = data_dir_in(line[line.index("serve") :])
    if named is None:
        named = process.environ().get("INFERNO_DATA_DIR")
    return None if not named else Path(process.cwd(), Path(named).expanduser())


def data_dir_in(arguments: list[str]) -> str | None:
    """Return what the arguments of `inferno serve` say of its data folder."""
    for place, argument in enumerate(arguments):
        if argument == FLAG:
            return next(iter(arguments[place + 1 :]), None)
        if argument.startswith(f"{FLAG}="):
            return argument.partition("=")[2]
    return None
