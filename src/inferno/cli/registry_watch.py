"""`inferno registry watch`: changes of inference servers, over as many connections as it takes."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from inferno.cli.errors import INTERRUPTED, CommandFailed, Refused, Unreachable
from inferno.cli.output import printable

if TYPE_CHECKING:
    from inferno.cli.client import Client

WATCH = "/inference_servers/watch"
SILENCE = 60.0
"""Seconds without a sign of life, which a registry gives every 15, until it is asked again."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Between attempts to reach a registry that is gone, in seconds; they double."""

WIDTHS = (8, 8, 36, 20, 20)
"""Of all columns but the last: the lines above one are printed before it is known."""


class _SeenEnough(Exception):
    """Whoever reads what is printed has gone; not an OSError, which means the registry."""


class Watch:
    """A watch, and how far it has come.

    Args:
        client: of the control plane.
        wanted: the filter; None for all.
        since: version of the last change that is known; None begins now.
        as_json: whether to print each change as a line of JSON.
    """

    def __init__(
        self, client: Client, wanted: Any | None, since: int | None, *, as_json: bool
    ) -> None:
        self._client = client.within(SILENCE)
        query = {} if wanted is None else {"filter": json.dumps(wanted)}
        self._path = f"{WATCH}?{urlencode(query)}" if query else WATCH
        self._position = None if since is None else str(since)
        self._as_json = as_json
        self._begun = False
        self._failures = 0

    def run(self) -> int:
        """Print changes until Ctrl-C, and return the exit code.

        Raises:
            CommandFailed: the registry refuses, or was not reached to begin with.
        """
        try:
            while True:
                try:
                    self._follow()
                except (Unreachable, Refused) as error:
                    self._wait_after(error)
                else:
                    time.sleep(FIRST_PAUSE)  # the registry ends each watch after a while
        except KeyboardInterrupt:
            return INTERRUPTED
        except _SeenEnough:
            # Python would complain at the end that it cannot write what is left.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    def _follow(self) -> None:
        """Print what one connection brings."""
        last = {} if self._position is None else {"Last-Event-ID": self._position}
        with self._client.stream(self._path, last) as events:
            for id_, data in events:
                if self._failures:
                    print("inferno: watching again", file=sys.stderr)
                elif not self._begun and not self._as_json:
                    self._print_line(("VERSION", "CHANGE", "ID", "NAME", "STATE", "URL"))
                self._begun, self._failures = True, 0
                self._position = id_ or self._position
                if data:
                    self._print(data)

    def _wait_after(self, error: Unreachable | Refused) -> None:
        """Wait until it makes sense to try again. Raises the error where it never does."""
        busy = isinstance(error, Unreachable) or error.status in (429, 503)
        if not busy or not self._begun:
            raise error
        if self._failures == 0:
            print(f"inferno: {error.message}; trying again", file=sys.stderr)
        pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 10), LONGEST_PAUSE)
        self._failures += 1
        time.sleep(pause)

    def _print(self, data: str) -> None:
        try:
            change = json.loads(data)
            one = change["document"]
            cells = (str(change["version"]), change["type"], *row(one))
        except (ValueError, KeyError, TypeError):
            raise CommandFailed("the registry sent an event that is no change") from None
        if self._as_json:
            self._write(json.dumps(change, ensure_ascii=False))
        else:
            self._print_line(cells)

    def _print_line(self, cells: tuple[str, ...]) -> None:
        padded = [f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=False)]
        line = "  ".join([*padded, *cells[len(WIDTHS) :]])
        self._write(printable(" ".join(line.splitlines())).rstrip())

    def _write(self, line: str) -> None:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            raise _SeenEnough from None


def row(one: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return id, name, state and URL of an entry, for a line."""
    return (
        one["inference_server_id"],
        one["inference_server_name"],
        state_of(one),
        one["inference_server_public_url"],
    )


def state_of(one: dict[str, Any]) -> str:
    """Return the state of an entry, with its health where somebody looked: `active, healthy`."""
    health = one.get("health")
    return f"{one['state']}, {health['state']}" if isinstance(health, dict) else str(one["state"])
