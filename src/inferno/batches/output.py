"""Results as callers read them: lines of OpenAI's output files, and the native shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from inferno.batches.records import Records
from inferno.batches.types import Batch, Part, Result, Status

PAGE = 200
"""Results in memory at once."""

UNANSWERED = {
    Status.CANCELLED: ("batch_cancelled", "The batch was cancelled before this was answered."),
    Status.EXPIRED: ("batch_expired", "The batch expired before this was answered."),
}


async def all_results(
    records: Records, batch: Batch, *, after: int = -1, limit: int | None = None
) -> AsyncIterator[list[Result]]:
    """Yield the results of a batch in the order of its input, page by page."""
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = await records.results(batch, after=after, limit=size)
        if not page:
            return
        yield page
        after = page[-1].number
        left = None if left is None else left - len(page)


def unanswered(batch: Batch) -> tuple[str, str]:
    """Return code and message for requests that a batch has ended without."""
    # A native batch that ran out of time is complete all the same: pollers wait for that word.
    return UNANSWERED.get(batch.status, UNANSWERED[Status.EXPIRED])


def openai_line(batch: Batch, result: Result) -> bytes:
    """Return a result as a line of OpenAI's output and error files."""
    response: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    if result.status_code is None:
        code, message = unanswered(batch)
        error = {"code": code, "message": message}
    else:
        response = {
            "status_code": result.status_code,
            "request_id": result.request_id,
            "body": msgspec.Raw(result.body),
        }
    line = {
        "id": f"batch_req_{batch.id.removeprefix('batch_')}_{result.number}",
        "custom_id": result.custom_id,
        "response": response,
        "error": error,
    }
    return msgspec.json.encode(line)


async def file_lines(records: Records, batch: Batch, part: Part) -> AsyncIterator[bytes]:
    """Yield the content of a batch's output or error file, page by page."""
    async for page in all_results(records, batch):
        wanted = [one for one in page if one.is_failed is (part == "error")]
        if wanted:
            yield b"".join(openai_line(batch, result) + b"\n" for result in wanted)


def native_line(batch: Batch, result: Result) -> bytes:
    """Return a result in the native shape: the answer under the request's own id, or the error."""
    shown = {"id": result.custom_id, "status": "failed" if result.is_failed else "completed"}
    if result.status_code is None:
        code, message = unanswered(batch)
        error = {"code": code.upper(), "message": message}
        return msgspec.json.encode(shown | {"error": error})
    body: dict[str, Any] = msgspec.json.decode(result.body)
    if result.is_failed:
        failure = {"error": body.get("error"), "status_code": result.status_code}
        return msgspec.json.encode(shown | failure)
    return msgspec.json.encode({**body, **shown})
