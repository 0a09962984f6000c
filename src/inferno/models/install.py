"""Installing and removing models.

A model comes into the folder in one step, complete and checked: it is fetched into the hidden
`.incoming`, its digest and header are verified there, it is made durable, and then renamed.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from inferno.core.errors import Conflict, InfernoError, InvalidRequest, ModelNotFound
from inferno.models.folder import ModelFile, ModelsFolder, not_a_model
from inferno.models.gguf import GGUFError, read_header
from inferno.models.incoming import Part, file_digest, locked, sync_folder
from inferno.models.names import require_name, safe_name
from inferno.models.source import Item, resolve
from inferno.models.transfer import InstallFailed, Progress, Transfer, storage_failures

__all__ = ["InstallFailed", "Progress", "install", "remove"]

T = TypeVar("T")

DEFAULT_MAX_BYTES = 50_000_000_000
"""Largest file that is installed, in bytes."""

_CANCEL_SECONDS = 5.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


async def install(
    source: str,
    folder: ModelsFolder,
    *,
    name: str | None = None,
    sha256: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    token: str | None = None,
    hub_endpoint: str | None = None,
    force: bool = False,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> ModelFile:
    """Puts a model into the folder; returns at once if this very model is there already.

    Cancelling stops the transfer and keeps what came; the next install of the same source goes
    on from there, also after the process was killed. Reads any file and address that the
    platform can: who may call this must be decided before.

    Args:
        source: a path, `file://…`, `http(s)://…` or `hf://owner/repo[/file][@revision]`. The
            first file of a split model stands for all of them.
        folder: where to; created if need be.
        name: the model's name; by default made of the file's name.
        sha256: digest that the file must have, in hex; not for split models.
        progress: called on the event loop, at most ten times a second.
        token: bearer token for the server; for the hub, None means the client's own settings.
        hub_endpoint: address of the hub; None means the client's own settings.
        force: replaces a model of this name that has other content.
        max_bytes: the most that one file may have.

    Raises:
        InvalidRequest: the source, name or digest is malformed, the file has another digest
            (field `sha256`) or is no model (field `source`).
        NotFound: the source does not exist.
        Conflict: another model has the name, or it is being installed just now.
        InstallFailed: the network, the server or the disk failed; says which.
    """
    loop = asyncio.get_running_loop()
    report = progress or _ignore
    transfer = Transfer(
        lambda state: _call_soon(loop, lambda: report(state)),
        max_bytes,
    )
    checked_name = require_name(name) if name is not None else None
    digest = _required_digest(sha256)

    def work() -> ModelFile:
        items = resolve(source, token=token, hub_endpoint=hub_endpoint)
        title = checked_name or safe_name(items[0].filename)
        with storage_failures(), locked(folder.incoming, title):
            return _Install(folder, title, items, digest, force, transfer).run()

    return await _in_thread(work, transfer.cancel)


def remove(folder: ModelsFolder, name: str) -> None:
    """Deletes all files of a model, and what a broken-off install of it left. Blocks.

    Of a linked model the link goes, and the file that it leads to stays.

    Raises:
        ModelNotFound: the folder has no such model.
        Conflict: the model is being installed just now.
        InstallFailed: the disk does not let us.
    """
    models = {model.name: model for model in folder.scan()}
    if name not in models:
        raise ModelNotFound(name, sorted(models))
    with storage_failures(), locked(folder.incoming, name):
        for path in models[name].paths:
            path.unlink(missing_ok=True)
            Part(folder.incoming, _stem(name, path.name)).discard()
        sync_folder(folder.path)


@dataclass(frozen=True, slots=True)
class _Install:
    """One install, done by the thread that holds the model's lock."""

    folder: ModelsFolder
    name: str
    items: list[Item]
    sha256: str | None
    force: bool
    transfer: Transfer

    def run(self) -> ModelFile:
        if self.sha256 and len(self.items) > 1:
            raise InvalidRequest(
                "A digest is of one file, and this model has several.", field="sha256"
            )
        existing = self._existing()
        if existing and self._is_known_same(existing):
            return existing
        parts = [Part(self.folder.incoming, stem) for stem in self._stems()]
        done = 0
        for number, (item, part) in enumerate(zip(self.items, parts, strict=True)):
            self._fetch(item, part, done, existing.paths[number] if existing else None)
            done += part.size
        for item, part in zip(self.items, parts, strict=True):
            self._verify(item, part)
        if existing:
            return self._same_or_conflict(existing, parts)
        return self._publish(parts)

    def _existing(self) -> ModelFile | None:
        """The model that must not be replaced by another."""
        existing = self.folder.find(self.name)
        if existing is None or self.force:
            return None
        if existing.error and existing.error.reason == "MissingShards":
            return None  # also what a kill between two renames leaves
        if len(existing.paths) != len(self.items):
            raise self._conflict()
        return existing

    def _is_known_same(self, existing: ModelFile) -> bool:
        """Whether the digests known beforehand say so; without them, only fetching can tell."""
        digests = [self.sha256 or item.sha256 for item in self.items]
        if not all(digests):
            return False
        if all(
            self._digest(path) == digest
            for path, digest in zip(existing.paths, digests, strict=True)
        ):
            return True
        raise self._conflict()

    def _fetch(self, item: Item, part: Part, before: int, existing: Path | None) -> None:
        single = len(self.items) == 1

        def accept_size(size: int) -> None:
            if existing is not None and existing.stat().st_size != size:
                raise self._conflict()

        def report(done: int, total: int | None) -> None:
            self.transfer.report(item.phase, before + done, total if single else None)

        item.fetch(part, self.transfer, accept_size, report)

    def _verify(self, item: Item, part: Part) -> None:
        """Checks digest and header. What fails is useless, and must not be resumed from."""
        try:
            self._verify_digest(item, part)
            self._verify_header(part)
        except InfernoError:
            part.discard()
            raise

    def _verify_digest(self, item: Item, part: Part) -> None:
        if not (self.sha256 or item.sha256):
            return
        actual = self._digest(part.path)
        if self.sha256 and actual != self.sha256:
            raise InvalidRequest(
                f"The file's SHA-256 is {actual}, not the one that was asked for.",
                field="sha256",
                actual=actual,
            )
        if item.sha256 and actual != item.sha256:
            raise InstallFailed(
                "ChecksumMismatch",
                "The file that came is not the one that the hub describes. Install it again.",
            )

    def _verify_header(self, part: Part) -> None:
        try:
            header = read_header(part.path)
        except GGUFError as error:
            raise InvalidRequest(
                f"The source is not a usable model file. {error.message}",
                field="source",
                reason=error.reason,
            ) from error
        if header.split_count > 1 and header.split_count != len(self.items):
            raise InvalidRequest(
                f"The file is one of {header.split_count} of a split model. Give the first one, "
                "under the name that it came with.",
                field="source",
            )
        wrong = not_a_model(header) if len(self.items) == 1 else None
        if wrong:
            raise InvalidRequest(wrong.message, field="source", reason=wrong.reason)

    def _same_or_conflict(self, existing: ModelFile, parts: list[Part]) -> ModelFile:
        same = all(
            self._digest(part.path) == self._digest(path)
            for part, path in zip(parts, existing.paths, strict=True)
        )
        for part in parts:
            part.discard()
        if not same:
            raise self._conflict()
        return existing

    def _publish(self, parts: list[Part]) -> ModelFile:
        replaced = self.folder.find(self.name)
        targets = [self.folder.path / f"{stem}.gguf" for stem in self._stems()]
        if replaced is None and any(os.path.lexists(target) for target in targets):
            raise self._conflict()  # something that is no model file has the name
        self.transfer.check()
        for part, target in zip(parts, targets, strict=True):
            part.publish(target)
        for path in replaced.paths if replaced else ():
            if path not in targets:
                path.unlink(missing_ok=True)
        sync_folder(self.folder.path)
        installed = self.folder.find(self.name)
        if installed is None:
            raise InstallFailed("Failed", "The model was removed while it was being installed.")
        return installed

    def _stems(self) -> list[str]:
        count = len(self.items)
        if count == 1:
            return [self.name]
        return [f"{self.name}-{number:05}-of-{count:05}" for number in range(1, count + 1)]

    def _digest(self, path: Path) -> str:
        size = path.stat().st_size

        def on_chunk(done: int) -> None:
            self.transfer.check()
            self.transfer.report("verifying", done, size)

        return file_digest(path, on_chunk)

    def _conflict(self) -> Conflict:
        return Conflict(
            f"There is another model called '{self.name}'. Choose another name, remove it, or "
            "replace it by force.",
            model=self.name,
        )


def _stem(name: str, filename: str) -> str:
    shard = re.search(r"-\d{5}-of-\d{5}(?=\.gguf$)", filename, re.IGNORECASE)
    return name + (shard[0] if shard else "")


def _required_digest(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    digest = sha256.strip().lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(digest):
        raise InvalidRequest("A SHA-256 has 64 hexadecimal digits.", field="sha256")
    return digest


def _ignore(_: Progress) -> None:
    pass


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(call)


async def _in_thread(work: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Runs long work in a thread of its own.

    The event loop's pool is small, and every file access of the process waits for it; a download
    may take hours. The thread is a daemon: the process need not wait for it to end.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            failure = error
            _call_soon(loop, lambda: future.set_exception(failure))
        else:
            _call_soon(loop, lambda: future.set_result(result))

    threading.Thread(target=run, name="install", daemon=True).start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancel()
        # so that the model's lock is free when the caller goes on
        await asyncio.wait([future], timeout=_CANCEL_SECONDS)
        raise
