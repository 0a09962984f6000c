"""Batches of the native API (seed 001): many prompts at once, answered in the background."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import msgspec

from inferno.client.calls import Call, delete, get, given, member, post, query, reader, segment
from inferno.client.inference import Choice, Sampling, Usage

POLL_SECONDS = 1.0

ENDED = frozenset({"completed", "failed", "cancelled", "expired", "deleted"})
"""States that a batch stays in."""

Progress = Callable[["Batch"], object]


class BatchCreated(msgspec.Struct, frozen=True, kw_only=True):
    """That a batch was taken: from here on the platform will not lose it."""

    batch_id: str
    status: str
    total_requests: int
    created: int


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """How far a batch has come; times are seconds since the epoch."""

    batch_id: str
    status: str
    completed: int
    failed: int
    total: int
    results_url: str = ""
    model: str = ""
    usage: Usage = Usage()
    created: int | None = None
    expires: int | None = None
    ended: int | None = None
    metadata: dict[str, str] | None = None
    errors: list[Any] = []

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED

    @property
    def answered(self) -> int:
        """How many of its requests have an answer or an error."""
        return self.completed + self.failed


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one request: an answer, or an `error` with its `code` and `message`."""

    id: str
    status: str
    choices: list[Choice] = []
    usage: Usage = Usage()
    model: str = ""
    error: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The text of the answer's first choice; empty where there is none."""
        return self.choices[0].text if self.choices else ""


_read_created = reader(BatchCreated)
_read_batch = reader(Batch)
_read_batches = member("batches", list[Batch])
_read_results = member("results", list[BatchResult])
_read_json = reader(dict[str, Any])


def create_batch(
    *,
    requests: Sequence[str | Mapping[str, Any]],
    model: str | None = None,
    webhook_url: str | None = None,
    metadata: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
    **sampling: Unpack[Sampling],
) -> Call[BatchCreated]:
    """Hand in a batch.

    Args:
        requests: prompts, or `{"id": …, "prompt": …}` and what else a request of its own may say;
            prompts alone get the ids `req1`, `req2`, ….
        model: that answers, where a request names none.
        webhook_url: told when the batch has ended.
        metadata: the caller's notes.
        idempotency_key: under which the same batch is not taken twice; a new one where not given,
            so that the client may try again.
        sampling: for all requests; see `Sampling`.
    """
    items = [
        {"id": f"req{number}", "prompt": one} if isinstance(one, str) else one
        for number, one in enumerate(requests, 1)
    ]
    more = given(model=model, webhook_url=webhook_url, metadata=metadata)
    headers = {"idempotency-key": idempotency_key or secrets.token_hex(16)}
    body = {"requests": items, **sampling, **more}
    return post("/batch", _read_created, body, repeatable=True, headers=headers)


def get_batch(batch_id: str) -> Call[Batch]:
    """Return how far a batch has come."""
    return get(f"/batch/{segment(batch_id)}", _read_batch)


def batch_results(
    batch_id: str, *, after: int | None = None, limit: int | None = None
) -> Call[list[BatchResult]]:
    """Return what came of a batch's requests so far, in their order.

    Args:
        batch_id: of the batch.
        after: the place of the last result of the page before, counted from 0.
        limit: of results; all of them where not given.
    """
    path = f"/batch/{segment(batch_id)}/results"
    return get(path + query(after=after, limit=limit), _read_results)


def cancel_batch(batch_id: str) -> Call[Batch]:
    """Cancel a batch; what has been answered stays."""
    return post(f"/batch/{segment(batch_id)}/cancel", _read_batch, repeatable=True)


def list_batches(*, after: str | None = None, limit: int | None = None) -> Call[list[Batch]]:
    """Return batches, the newest first.

    Args:
        after: the id of the last batch of the page before.
        limit: 1 to 100.
    """
    return get("/batch" + query(after=after, limit=limit), _read_batches)


def delete_batch(batch_id: str) -> Call[dict[str, Any]]:
    """Delete a batch that has ended, with its results."""
    return delete(f"/batch/{segment(batch_id)}", _read_json)


class Watch:
    """Waits for the end of a batch, without I/O.

    Args:
        batch_id: of the batch.
        progress: called with the batch at first, and whenever it has come further.
        within: seconds to wait in all; None waits for ever.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        batch_id: str,
        progress: Progress | None,
        within: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batch_id = batch_id
        self._progress = progress
        self._clock = clock
        self._end = math.inf if within is None else clock() + within
        self._latest: Batch | None = None

    @property
    def latest(self) -> Batch:
        """The batch as it was last seen."""
        if self._latest is None:
            raise RuntimeError("Nobody has looked at the batch yet.")
        return self._latest

    def look(self, batch: Batch) -> bool:
        """Take what the batch is now, and return whether it has ended."""
        moved, self._latest = batch != self._latest, batch
        if moved and self._progress is not None:
            self._progress(batch)
        return batch.is_ended

    def pause(self, seconds: float) -> float:
        """Return how long to wait before the next look. Raises TimeoutError."""
        left = self._end - self._clock()
        if left <= 0:
            raise TimeoutError(
                f"Batch {self._batch_id} has not ended: {self.latest.answered} of "
                f"{self.latest.total} requests are answered."
            )
        return min(seconds, left)
