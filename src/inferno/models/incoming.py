"""Files on their way into the models folder: partial files, their notes, locks.

A partial file `NAME.part` lies in the hidden folder `.incoming`, beside a note `NAME.json` that
says which state of which source its bytes are from. Only bytes of that very state may follow.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from inferno.core.errors import Conflict

CHUNK = 1 << 20
"""Bytes read or written at once."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Which bytes a partial file holds.

    Args:
        source: digest of the address; addresses may hold secrets, and are not written down.
        validator: what tells one state of the source from the next: a strong ETag, a date, the
            stamp of a local file. Empty if the source gives none, which rules resuming out.
        size: bytes of the whole file; None while nobody knows.
    """

    source: str
    validator: str
    size: int | None


class Part:
    """A file that is growing. Only the holder of the model's lock may touch it.

    Args:
        folder: where partial files lie.
        stem: the final file's name, without its suffix.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.path = folder / f"{stem}.part"
        self._note = folder / f"{stem}.json"

    @property
    def size(self) -> int:
        """Bytes that are there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def origin(self, source: str) -> Origin | None:
        """What the bytes are from, if they are from this source and can be continued."""
        try:
            origin = msgspec.json.decode(self._note.read_bytes(), type=Origin)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        usable = origin.source == digest(source) and origin.validator
        if not usable or (origin.size is not None and self.size > origin.size):
            return None
        return origin

    def restart(self, source: str, validator: str, size: int | None) -> None:
        """Empties the file and notes what its bytes will be from."""
        with self.path.open("wb"):
            pass
        note = Origin(source=digest(source), validator=validator, size=size)
        # written beside and moved: a torn note must not pass for one
        torn = self._note.with_suffix(".tmp")
        torn.write_bytes(msgspec.json.encode(note))
        torn.replace(self._note)

    @contextmanager
    def open_at(self, position: int) -> Iterator[BinaryIO]:
        """Opens the file to write on from a position; what lay behind it is dropped."""
        with self.path.open("r+b") as file:
            file.truncate(position)
            file.seek(position)
            yield file

    def discard(self) -> None:
        """Removes the file and its note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def publish(self, target: Path) -> None:
        """Makes the complete file durable, and moves it to its final place in one step."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(target)
        self._note.unlink(missing_ok=True)


def digest(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path, on_chunk: Callable[[int], None]) -> str:
    """SHA-256 of a file, in hex.

    Args:
        path: the file.
        on_chunk: called with the number of bytes read so far.
    """
    sha256 = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha256.update(chunk)
            done += len(chunk)
            on_chunk(done)
    return sha256.hexdigest()


def sync_folder(path: Path) -> None:
    """Makes renames and removals in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Keeps every other install and removal of a model out, in this and other processes.

    The lock goes with the process that holds it: one that was killed leaves none behind.

    Args:
        folder: where partial files lie; created if need be.
        name: the model's name.

    Raises:
        Conflict: somebody else works on the model.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.lock"
    descriptor = _lock(path)
    if descriptor is None:
        raise Conflict(
            f"Model '{name}' is being installed or removed already. Wait until that is done.",
            model=name,
        )
    try:
        yield
    finally:
        # removed while still locked, so that nobody can hold a lock on a file that is gone
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the holder before us may have removed the file between our two calls
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
