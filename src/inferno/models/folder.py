"""The models folder: which model files lie in it, and when that changes.

The folder is flat. Every complete `*.gguf` file directly in it is a model; the shards of a split
model (`NAME-00001-of-00004.gguf`) are one model together. Hidden files, `.part` files and
sub-folders are left alone. A LoRA adapter belongs to the model before the `+` in its name
(`MODEL+ADAPTER.gguf`). A file that is not usable, or not yet, is listed with the reason, so
that nobody has to wonder where it went.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import cast

from inferno.core.errors import ConfigurationError, InvalidRequest
from inferno.models.gguf import GGUFError, GGUFHeader, read_header
from inferno.models.names import hashed_name, safe_name

_SUFFIX = ".gguf"
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
"""File name of one file of a split model; shards are numbered from 1."""

_POLL_SECONDS = 0.4
_DEBOUNCE_MS = 100
_SETTLED_NS = 2_000_000_000  # coarsest clock of a file system that we expect: FAT's two seconds
_NOT_MODELS = ("adapter", "imatrix", "mmproj")


@dataclass(frozen=True, slots=True)
class FileError:
    """Why a file cannot be served.

    Args:
        reason: a CamelCase word for programs: GGUFError's reasons, `MissingShards`,
            `NotAModel`, `Unreadable`.
        message: for a person, without paths.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One model in the folder. Either `header` or `error` is set.

    Args:
        name: the model's name.
        path: the file; the first shard there is, of a split model.
        paths: all files of the model, in the order of their shards.
        size_bytes: of all files.
        mtime_ns: when the latest of the files was written, in nanoseconds since 1970.
        inode: of `path`.
        header: what the file says of itself; of a split model, its first shard's header with
            all shards' parameters and tensors.
        error: why the model cannot be served.
        adapter: what the file says of itself where it is no model but a LoRA adapter.
    """

    name: str
    path: Path
    paths: tuple[Path, ...]
    size_bytes: int
    mtime_ns: int
    inode: int
    header: GGUFHeader | None
    error: FileError | None
    adapter: GGUFHeader | None = None


@dataclass(frozen=True, slots=True)
class _Stamp:
    """Changes whenever the content may have changed."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the folder, and its header or what is wrong with it."""

    path: Path
    stamp: _Stamp
    header: GGUFHeader | None
    error: FileError | None


class ModelsFolder:
    """A flat folder of model files; it may come into being later.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._known: dict[str, _File] = {}
        self._lock = threading.Lock()  # scans may run in several threads

    @property
    def incoming(self) -> Path:
        """Where downloads grow until they are complete; on the same file system."""
        return self.path / ".incoming"

    def scan(self) -> list[ModelFile]:
        """Lists the models, sorted by name; none while the folder does not exist.

        Blocks on the disk: run it in a thread. Headers are read once for each state of a file.

        Raises:
            ConfigurationError: the folder is there and cannot be read.
        """
        stamps = _stamps(self.path)
        with self._lock:
            # a file written this very moment can change again without its stamp changing, so
            # only settled files are remembered
            unsettled_since = time.time_ns() - _SETTLED_NS
            files = {name: self._file(name, stamp) for name, stamp in stamps.items()}
            self._known = {
                name: file
                for name, file in files.items()
                if file.stamp.mtime_ns < unsettled_since and file.stamp.ctime_ns < unsettled_since
            }
        return sorted(_models(files), key=lambda model: model.name)

    def find(self, name: str) -> ModelFile | None:
        """The model of this name, if there is one. Blocks like `scan`.

        Raises:
            ConfigurationError: the folder is there and cannot be read.
        """
        return next((model for model in self.scan() if model.name == name), None)

    async def watch(self, stop: asyncio.Event) -> AsyncGenerator[None, None]:
        """Yields once at the start, and then whenever `scan` may give something new.

        Changes show within half a second, also where the system reports none (network file
        systems), when the folder is created later, and when it is replaced by another one.
        Changes made while the consumer works are yielded afterwards, never lost.

        Args:
            stop: ends the iteration when set.
        """
        seen: object = None
        while not stop.is_set():
            async with aclosing(self._ticks(stop)) as ticks:
                async for reported in ticks:
                    state = await asyncio.to_thread(self._state)
                    changed, replaced = state != seen, _folder(state) != _folder(seen)
                    # the new state is taken before the consumer looks, so it misses nothing
                    seen = state
                    if changed or reported:
                        yield
                    if replaced:  # the system's watch follows the old folder: begin another one
                        break

    async def _ticks(self, stop: asyncio.Event) -> AsyncGenerator[bool, None]:
        """Yields now, at least every `_POLL_SECONDS`, and True when the system saw a change."""
        from watchfiles import awatch  # loads a native library

        yield False
        ended = cast("asyncio.Event", _Ended(stop))
        with suppress(OSError):  # no such folder yet, or the system is out of watches
            async with aclosing(
                awatch(
                    self.path,
                    watch_filter=None,
                    debounce=_DEBOUNCE_MS,
                    stop_event=ended,
                    rust_timeout=int(_POLL_SECONDS * 1000),
                    yield_on_timeout=True,
                    recursive=False,
                )
            ) as watcher:
                async for changes in watcher:
                    yield any(_is_model_file(os.path.basename(path)) for _, path in changes)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _POLL_SECONDS)

    def _state(self) -> tuple[object, object]:
        try:
            status = os.stat(self.path)
            return (status.st_dev, status.st_ino), _stamps(self.path)
        except (OSError, ConfigurationError) as error:
            return None, str(error)

    def _file(self, name: str, stamp: _Stamp) -> _File:
        known = self._known.get(name)
        if known is not None and known.stamp == stamp:
            return known
        header, error = _read(self.path / name)
        return _File(self.path / name, stamp, header, error)


class _Ended:
    """Follows the caller's event, for a watcher that sets its own event when it is cancelled."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set or self._stop.is_set()


def _folder(state: object) -> object:
    return state[0] if isinstance(state, tuple) else None


def _is_model_file(name: str) -> bool:
    return name.lower().endswith(_SUFFIX) and not name.startswith(".")


def _stamps(folder: Path) -> dict[str, _Stamp]:
    """The model files in a folder by name, in the order of their names."""
    stamps = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_model_file(entry.name):
                    # a link is the operator's decision: what counts is the file it leads to
                    with suppress(OSError):  # gone meanwhile, or a link to nowhere
                        status = entry.stat()
                        if stat.S_ISREG(status.st_mode):
                            stamps[entry.name] = _stamp(status)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(
            f"The models folder cannot be read: {error.strerror}. Check that it is a folder and "
            "that the platform's user may read it."
        ) from error
    return dict(sorted(stamps.items()))


def _stamp(status: os.stat_result) -> _Stamp:
    return _Stamp(
        status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
    )


def _read(path: Path) -> tuple[GGUFHeader | None, FileError | None]:
    try:
        return read_header(path), None
    except GGUFError as error:
        return None, FileError(error.reason, error.message)
    except OSError as error:
        return None, FileError("Unreadable", f"The file cannot be read: {error.strerror}.")


@dataclass(frozen=True, slots=True)
class _Group:
    """The files of one model, by the number of their shard."""

    stem: str
    count: int
    shards: dict[int, _File] = field(default_factory=dict)


def _models(files: dict[str, _File]) -> list[ModelFile]:
    groups = _groups(files)
    names = _names({title: group.stem for title, group in groups.items()})
    return [_model(names[title], group) for title, group in groups.items()]


def _groups(files: dict[str, _File]) -> dict[str, _Group]:
    """Puts shards together, under a title that no other model has."""
    groups: dict[str, _Group] = {}
    for name, file in files.items():
        shard = SHARD.fullmatch(name)
        if shard:
            title = f"{shard['stem']}-of-{shard['count']}"
            group = groups.setdefault(title, _Group(shard["stem"], int(shard["count"])))
            group.shards[int(shard["number"])] = file
        else:
            groups[name] = _Group(name[: -len(_SUFFIX)], 1, {1: file})
    return groups


def _names(stems: dict[str, str]) -> dict[str, str]:
    """Gives every title its name: the plain one goes to the file that is called just so.

    Depends on nothing but the file names, so the same folder always gives the same names.
    """
    plain = {title: _plain_name(stem) for title, stem in stems.items()}
    names: dict[str, str] = {}
    for title in sorted(plain, key=lambda title: (stems[title] != plain[title], title)):
        name, salt = plain[title], title
        while name in names.values():
            name, salt = hashed_name(plain[title], salt), f"{salt}+"
        names[title] = name
    return names


def _plain_name(stem: str) -> str:
    try:
        return safe_name(stem)
    except InvalidRequest:  # a file called by no letter that names can have is still a model
        return hashed_name("model", stem)


def _model(name: str, group: _Group) -> ModelFile:
    ordered = [group.shards[number] for number in sorted(group.shards)]
    first = ordered[0]
    error = _incomplete(group) or not_a_model(first.header)
    return ModelFile(
        name=name,
        path=first.path,
        paths=tuple(file.path for file in ordered),
        size_bytes=sum(file.stamp.size for file in ordered),
        mtime_ns=max(file.stamp.mtime_ns for file in ordered),
        inode=first.stamp.inode,
        header=None if error else _joined([file.header for file in ordered if file.header]),
        error=error,
        adapter=first.header if first.header and first.header.type == "adapter" else None,
    )


def _incomplete(group: _Group) -> FileError | None:
    broken = next((file.error for file in group.shards.values() if file.error), None)
    if broken:
        return broken
    declared = max(file.header.split_count for file in group.shards.values() if file.header)
    if declared > 1 and declared != group.count:
        return FileError(
            "MissingShards",
            f"The model has {declared} files; by the file's name it should have {group.count}. "
            "Keep the names that the files came with.",
        )
    if set(group.shards) == set(range(1, group.count + 1)):
        return None
    missing = (number for number in range(1, group.count + 1) if number not in group.shards)
    listed = ", ".join(str(number) for number in islice(missing, 10))
    return FileError(
        "MissingShards", f"Of the model's {group.count} files these are missing: {listed}."
    )


def not_a_model(header: GGUFHeader | None) -> FileError | None:
    """Why a sound GGUF file is nothing that can be served by itself, if so."""
    if header is None or (header.architecture and header.type not in _NOT_MODELS):
        return None
    if header.type == "adapter":
        return FileError(
            "NotAModel",
            "The file is a LoRA adapter. Named MODEL+ADAPTER.gguf, it is served beside MODEL.",
        )
    what = header.type if header.type != "model" else "file without an architecture"
    return FileError("NotAModel", f"The file is no model that can be served: it is a {what}.")


def _joined(headers: list[GGUFHeader]) -> GGUFHeader:
    return replace(
        headers[0],
        parameter_count=sum(header.parameter_count for header in headers),
        tensor_count=sum(header.tensor_count for header in headers),
        size_bytes=sum(header.size_bytes for header in headers),
    )
