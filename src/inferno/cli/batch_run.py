"""`inferno batch run`: from a file to a file, however often either side is interrupted.

Beside the results lies a file with the key under which the batch is handed in, and its id as soon
as there is one. A batch that comes again under its key is the same to the server, so there is no
moment at which an interruption loses it or makes two of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from inferno.cli import discovery
from inferno.cli.client import Client
from inferno.cli.errors import INTERRUPTED, CommandFailed, Refused, Unreachable
from inferno.data_dir import write_private
from inferno.settings import Settings

JSON_LINES = "application/x-ndjson"

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 120.0
"""How long a server may be away before the command gives up; the batch does not."""

BUSY = (409, 429, 502, 503, 504)
"""Statuses that pass; 409 while an upload that broke off is still being noticed."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which server to use; one that was started again may listen elsewhere."""

    settings: Settings
    url: str | None
    api_key: str | None

    def client(self) -> Client:
        """Return a client for the server as it can be reached now. Raises CommandFailed."""
        return discovery.require(self.settings, self.url, self.api_key)


@dataclass(slots=True)
class State:
    """What is remembered between two runs of the command.

    Args:
        key: under which the batch is handed in.
        input: SHA-256 of the file and the options.
        openai: whether its lines are OpenAI's.
        batch_id: once it is known.
    """

    key: str
    input: str
    openai: bool
    batch_id: str | None = None


class BatchRun:
    """One file of requests on its way to a file of results.

    Args:
        source: the requests.
        output: the results.
        options: for lines that do not say otherwise.
        where: the server.
    """

    def __init__(self, source: Path, output: Path, options: dict[str, str], where: Where) -> None:
        self._source = source
        self._output = output
        self._options = options
        self._where = where
        self._state_path = output.with_name(f"{output.name}.batch")
        self._part = output.with_name(f"{output.name}.part")

    def run(self, *, force: bool) -> int:
        """Run it, or go on with it; return the exit code."""
        try:
            with progress_bar() as show:
                return self._run(show, force=force)
        except KeyboardInterrupt:
            raise CommandFailed(
                "interrupted; the batch goes on at the server, and the same command goes on with "
                "it (`inferno batch cancel` ends it)",
                exit_code=INTERRUPTED,
            ) from None

    def _run(self, show: Callable[[dict[str, Any]], None], *, force: bool) -> int:
        state = self._state(force=force)
        if state.batch_id is None:
            state.batch_id = self._handed_in(state)
            self._keep(state)
        stands = self._wait(state.batch_id, show)
        if stands["status"] in ("failed", "cancelled"):
            self._state_path.unlink()
            raise CommandFailed(f"batch {state.batch_id} was {stands['status']}")
        batch_id = state.batch_id
        self._patiently(lambda client: self._fetch(client, batch_id, state), under_way=True)
        self._part.replace(self._output)
        self._state_path.unlink()
        return report(stands, self._output)

    def _state(self, *, force: bool) -> State:
        """Return what an earlier run left, or begin anew."""
        digest, openai = self._look_at_input()
        try:
            kept = State(**json.loads(self._state_path.read_text("utf-8")))
        except FileNotFoundError:
            kept = None
        except (ValueError, TypeError):
            raise CommandFailed(f"{self._state_path} is damaged; remove it") from None
        if kept is not None:
            if kept.input != digest:
                raise CommandFailed(
                    f"{self._state_path} belongs to a batch with other requests or options; "
                    "finish that, or remove it"
                )
            return kept
        if self._output.exists() and not force:
            raise CommandFailed(f"{self._output} exists; --force replaces it")
        self._part.unlink(missing_ok=True)
        state = State(secrets.token_hex(16), digest, openai)
        self._keep(state)
        return state

    def _look_at_input(self) -> tuple[str, bool]:
        """Return what tells this input from others, and whether its lines are OpenAI's."""
        digest = hashlib.sha256(json.dumps(sorted(self._options.items())).encode())
        first = b""
        with self._source.open("rb") as file:
            for line in file:
                first = first or line.strip()
                digest.update(line)
        return digest.hexdigest(), b'"custom_id"' in first

    def _keep(self, state: State) -> None:
        fields = {name: getattr(state, name) for name in ("key", "input", "openai", "batch_id")}
        write_private(self._state_path, json.dumps(fields))

    def _handed_in(self, state: State) -> str:
        """Hand the batch in, and return its id."""
        try:
            batch_id: str = self._patiently(lambda client: self._hand_in(client, state))
        except Unreachable:
            raise  # it may have got there
        except CommandFailed:
            self._state_path.unlink(missing_ok=True)  # there is nothing to go on with
            raise
        return batch_id

    def _hand_in(self, client: Client, state: State) -> str:
        query = f"?{urlencode(self._options)}" if self._options else ""
        headers = {"Content-Type": JSON_LINES, "Idempotency-Key": state.key}
        size = self._source.stat().st_size
        with self._source.open("rb") as file:
            answer = client.upload(f"/batch{query}", file, size, headers)
        return str(answer["batch_id"])

    def _wait(self, batch_id: str, show: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Wait for the end of the batch, and return how it stands then."""
        while True:
            stands: dict[str, Any] = self._patiently(
                lambda client: self._ask(client, batch_id), under_way=True
            )
            show(stands)
            if stands["status"] not in ("processing", "cancelling"):
                return stands
            time.sleep(POLL_SECONDS)

    def _ask(self, client: Client, batch_id: str) -> Any:
        try:
            return client.get(f"/batch/{quote(batch_id, safe='')}")
        except Refused as error:
            if error.status == 404:
                raise CommandFailed(
                    f"the server has no batch {batch_id} any more; remove {self._state_path} to "
                    "hand it in anew"
                ) from None
            raise

    def _fetch(self, client: Client, batch_id: str, state: State) -> None:
        """Fetch the results that are not here yet."""
        with self._part.open("a+b") as file:
            have = whole_lines(file)
            query = {"format": "openai" if state.openai else "native", "after": have - 1}
            path = f"/batch/{quote(batch_id, safe='')}/results?{urlencode(query)}"
            with client.download(path, JSON_LINES) as response:
                while piece := response.read(1 << 20):
                    file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    def _patiently(self, act: Callable[[Client], Any], *, under_way: bool = False) -> Any:
        """Do something at the server, again and again while it is away or busy.

        Args:
            act: what to do.
            under_way: the server has the batch; where none runs, it is being started again.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return act(self._where.client())
            except CommandFailed as error:
                busy = isinstance(error, Refused) and error.status in BUSY
                away = isinstance(error, Unreachable) or (under_way and self._is_absent())
                if not (busy or away) or time.monotonic() > deadline:
                    raise
            time.sleep(POLL_SECONDS)

    def _is_absent(self) -> bool:
        """Whether no server runs on the data folder just now."""
        return self._where.url is None and discovery.find(self._where.settings.data_dir) is None


def whole_lines(file: Any) -> int:
    """Cut off a line that an interruption left incomplete; return how many lines there are."""
    file.seek(0)
    count = end = 0
    for line in file:
        if line.endswith(b"\n"):
            count += 1
            end += len(line)
    file.truncate(end)
    file.seek(end)
    return count


def report(stands: dict[str, Any], output: Path) -> int:
    """Say how it went, and return the exit code: not 0 where requests have failed."""
    failed = stands["failed"]
    print(f"Wrote {stands['total']} results to {output}.")
    if failed:
        print(f"inferno: {failed} of {stands['total']} requests failed", file=sys.stderr)
    return 1 if failed else 0


@contextmanager
def progress_bar() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show a bar where somebody watches; yield what moves it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("batch", total=None)

        def move(stands: dict[str, Any]) -> None:
            done = stands["completed"] + stands["failed"]
            failed = f" ({stands['failed']} failed)" if stands["failed"] else ""
            shown.update(
                task, description=f"batch{failed}", completed=done, total=stands["total"] or None
            )

        yield move
