"""Where a model can be installed from: a path, an address, a repository of the hub.

A source is resolved to one or, for a split model, several items. What an item needs to be
fetched is inside it; who installs it need not know which kind it is.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from inferno.core.errors import InvalidRequest, NotFound
from inferno.models.download import Download, download
from inferno.models.folder import SHARD
from inferno.models.incoming import CHUNK, Part
from inferno.models.transfer import InstallFailed, Phase, Transfer

AcceptSize = Callable[[int], None]
Report = Callable[[int, int | None], None]

_MAX_SHARDS = 1000


class Item(Protocol):
    """One file to install."""

    @property
    def filename(self) -> str:
        """The name that the source gives it; to be trusted with nothing."""
        ...

    @property
    def sha256(self) -> str | None:
        """What the source says its digest is."""
        ...

    @property
    def phase(self) -> Phase:
        """What fetching it is called."""
        ...

    def fetch(
        self, part: Part, transfer: Transfer, accept_size: AcceptSize, report: Report
    ) -> None:
        """Brings the bytes into a partial file, going on where it ends if they still fit.

        Raises:
            InfernoError: the source is gone, refuses or misbehaves.
            OSError: the disk failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class WebItem:
    """A file that HTTP gives.

    Args:
        filename: last part of the address.
        url: http or https.
        headers: for the address's own host: credentials.
        size: in bytes, where it is known beforehand.
        sha256: where it is known beforehand.
    """

    filename: str
    url: str
    headers: dict[str, str]
    size: int | None = None
    sha256: str | None = None
    phase: Phase = "downloading"

    def fetch(
        self, part: Part, transfer: Transfer, accept_size: AcceptSize, report: Report
    ) -> None:
        """Downloads the file."""
        wanted = Download(
            url=self.url,
            headers=self.headers,
            size=self.size,
            accept_size=accept_size,
            report=report,
        )
        download(wanted, part, transfer)


@dataclass(frozen=True, slots=True)
class LocalItem:
    """A file of this machine."""

    path: Path
    sha256: str | None = None
    phase: Phase = "copying"

    @property
    def filename(self) -> str:
        """The file's name."""
        return self.path.name

    def fetch(
        self, part: Part, transfer: Transfer, accept_size: AcceptSize, report: Report
    ) -> None:
        """Copies the file."""
        try:
            source = self.path.open("rb")
        except OSError as error:
            raise InstallFailed(
                "PermissionDenied", f"The source file cannot be read: {error.strerror}."
            ) from error
        with source:
            status = os.fstat(source.fileno())
            if status.st_size > transfer.max_bytes:
                raise InstallFailed(
                    "TooLarge", f"The file is larger than the {transfer.max_bytes} bytes allowed."
                )
            accept_size(status.st_size)
            position = self._position(part, status)
            source.seek(position)
            with part.open_at(position) as target:
                while piece := source.read(CHUNK):
                    transfer.check()
                    target.write(piece)
                    position += len(piece)
                    report(position, status.st_size)

    def _position(self, part: Part, status: os.stat_result) -> int:
        key, validator = f"file:{self.path}", f"{status.st_ino}-{status.st_mtime_ns}"
        origin = part.origin(key)
        if origin and (origin.validator, origin.size) == (validator, status.st_size):
            return part.size
        part.restart(key, validator, status.st_size)
        return 0


def resolve(source: str, *, token: str | None, hub_endpoint: str | None) -> list[Item]:
    """Finds out which files a source stands for. May ask the hub: run it in a thread.

    Args:
        source: a path, `file://…`, `http(s)://…` or `hf://owner/repo[/file][@revision]`.
        token: bearer token for the server; for the hub, None means the one of its own settings.
        hub_endpoint: address of the hub; None means the one of its own settings.

    Raises:
        InvalidRequest: it is none of these.
        NotFound: there is no such file, repository or revision.
        InstallFailed: the hub refused or could not be reached.
    """
    scheme = source.partition("://")[0].lower() if "://" in source else ""
    if not source or "\0" in source:
        raise _invalid("The source is empty or has a NUL in it.")
    if scheme == "hf":
        from inferno.models.hub import find_files  # loads the hub's client

        return list(find_files(source, token=token, endpoint=hub_endpoint))
    if scheme in ("http", "https"):
        return list(_web_items(source, token))
    if scheme == "file":
        return list(_local_items(Path(unquote(urlsplit(source).path))))
    if scheme:
        raise _invalid(
            f"'{scheme[:40]}' is not a source. Give a path, an http or https address, or "
            "hf://owner/repo/file."
        )
    try:
        return list(_local_items(Path(source).expanduser()))
    except RuntimeError as error:
        raise _invalid(
            "The path begins with the home of a user whom this machine lacks."
        ) from error


def shard_names(filename: str) -> list[str]:
    """The names of all files of the split model that a file is part of; else just its own.

    Raises:
        InvalidRequest: the name claims an absurd number of files.
    """
    shard = SHARD.fullmatch(filename)
    if shard is None:
        return [filename]
    count = int(shard["count"])
    if not 1 <= int(shard["number"]) <= count <= _MAX_SHARDS:
        raise _invalid(f"The file's name speaks of {count} files; at most {_MAX_SHARDS} can be.")
    suffix = filename[-len(".gguf") :]
    return [f"{shard['stem']}-{number:05}-of-{count:05}{suffix}" for number in range(1, count + 1)]


def _local_items(path: Path) -> list[LocalItem]:
    items = [LocalItem(path.absolute().with_name(name)) for name in shard_names(path.name)]
    for item in items:
        try:
            if not stat.S_ISREG(item.path.stat().st_mode):
                raise _invalid(f"The source '{item.filename}' is not a regular file.")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"There is no file '{item.filename}' to install from.") from error
        except OSError as error:
            raise InstallFailed(
                "PermissionDenied", f"The source file cannot be read: {error.strerror}."
            ) from error
    return items


def _web_items(url: str, token: str | None) -> list[WebItem]:
    try:
        address = urlsplit(url)
        if not address.hostname or address.port == 0:
            raise ValueError("it names no host")
    except ValueError as error:
        raise _invalid(f"The address is malformed: {error}.") from error
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    path = PurePosixPath(address.path)
    filename = unquote(path.name)
    names = shard_names(filename)
    if len(names) == 1:
        return [WebItem(filename, url, headers)]
    return [
        WebItem(name, urlunsplit(address._replace(path=_sibling(address.path, name))), headers)
        for name in names
    ]


def _sibling(path: str, name: str) -> str:
    """The address's path with the shard's number of another file, escapes left as they are."""
    number = re.search(r"\d{5}-of-\d{5}\.gguf$", name, re.IGNORECASE)
    return path[: -len(number[0])] + number[0] if number else path


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, field="source")
