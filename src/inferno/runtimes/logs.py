"""The log of one replica: a bounded file that the replica's process writes itself.

The process holds the file open, so rotating copies and truncates. The platform reads nothing
while all is well, and what a crashing engine wrote last is always there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

_LIMIT = 5 * 1024 * 1024  # bytes
_TAIL = 64 * 1024  # bytes read to explain a failure


class ReplicaLog:
    """One log file and one older one beside it.

    Args:
        path: of the current file.
        limit: size in bytes from which on it is rotated.
    """

    def __init__(self, path: Path, *, limit: int = _LIMIT) -> None:
        self.path = path
        self._older = path.with_name(path.name + ".1")
        self._limit = limit
        self._start = 0

    def open(self) -> BinaryIO:
        """Open the file for a process that starts now; the caller closes its own handle."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.rotate()
        file = self.path.open("ab", buffering=0)
        self._start = file.seek(0, os.SEEK_END)
        return file

    def since_start(self) -> str:
        """Return the end of what was written since the last `open`."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                start = self._start if self._start <= size else 0  # rotated meanwhile
                file.seek(max(start, size - _TAIL))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def rotate(self) -> None:
        """Move the content to the older file when there is too much of it."""
        try:
            if self.path.stat().st_size <= self._limit:
                return
            shutil.copyfile(self.path, self._older)
            os.truncate(self.path, 0)
        except FileNotFoundError:
            return

    def remove(self) -> None:
        """Delete both files."""
        self.path.unlink(missing_ok=True)
        self._older.unlink(missing_ok=True)

    def exists(self) -> bool:
        """Tell whether anything was logged."""
        return self.path.exists()

    def lines(self, tail: int | None) -> tuple[list[str], int]:
        """Return the last `tail` lines (None: all) and the offset to go on reading from."""
        content = b""
        for path in (self._older, self.path):
            try:
                latest = path.read_bytes()
            except FileNotFoundError:
                latest = b""
            content += latest
        complete, _, partial = content.rpartition(b"\n")
        lines = complete.decode(errors="replace").split("\n") if complete else []
        first = 0 if tail is None else max(0, len(lines) - tail)
        return lines[first:], len(latest) - len(partial)

    def more(self, offset: int) -> tuple[list[str], int]:
        """Return the complete lines after `offset` and the offset to go on reading from.

        Raises:
            FileNotFoundError: the log was removed.
        """
        with self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < offset:  # rotated meanwhile
                offset = 0
            file.seek(offset)
            complete, newline, _ = file.read(_LIMIT).rpartition(b"\n")
        if not newline:
            return [], offset
        return complete.decode(errors="replace").split("\n"), offset + len(complete) + 1
