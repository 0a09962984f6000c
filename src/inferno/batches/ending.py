"""How a batch ends: its last state, the files with its results, the word to webhooks."""

from __future__ import annotations

import msgspec

from inferno.batches.output import file_lines
from inferno.batches.records import Records
from inferno.batches.types import (
    Batch,
    Details,
    LineError,
    Part,
    Status,
    StoredFile,
    new_id,
    now_text,
)
from inferno.core.events import Event, EventName

EVENTS = {
    Status.COMPLETED: EventName.BATCH_COMPLETE,
    Status.CANCELLED: EventName.BATCH_CANCELLED,
    Status.EXPIRED: EventName.BATCH_FAILED,
    Status.FAILED: EventName.BATCH_FAILED,
}


async def end(records: Records, batch_id: str, ending: Status | None) -> None:
    """End a batch that nothing more is done about.

    Args:
        records: where it is kept.
        batch_id: the batch.
        ending: what it becomes; None where all of it is answered.
    """
    if ending is None:
        await records.finalize(batch_id)
    batch = await records.get(batch_id, None)
    status = last_status(batch, ending)
    failed = batch.total - batch.completed if ending is Status.EXPIRED else batch.failed
    ended = msgspec.structs.replace(batch, status=status, failed=failed)
    output = await output_files(records, ended) if batch.api == "openai" else []
    await records.end(batch_id, status, event=event_of(ended), output=output, failed=failed)


def last_status(batch: Batch, ending: Status | None) -> Status:
    """Return what a batch becomes.

    Pollers of the native API wait for `completed` and know no other end by themselves, so there a
    batch that ran out of time is complete, with errors for what was not answered.
    """
    if ending is None or (ending is Status.EXPIRED and batch.api == "native"):
        return Status.COMPLETED
    return ending


async def fail(records: Records, batch: Batch, errors: list[LineError]) -> None:
    """End a batch whose input cannot be used."""
    failed = msgspec.structs.replace(batch, status=Status.FAILED)
    details: Details = msgspec.structs.replace(batch.details, errors=errors)
    await records.end(batch.id, Status.FAILED, event=event_of(failed), details=details)


async def output_files(records: Records, batch: Batch) -> list[StoredFile]:
    """Return the files that show a batch's results; they show what is stored, and copy nothing."""
    found = []
    parts: tuple[Part, ...] = ("output", "error")
    for part in parts:
        size = 0
        async for lines in file_lines(records, batch, part):
            size += len(lines)
        if size:
            found.append(_file(batch, part, size))
    return found


def _file(batch: Batch, part: Part, size: int) -> StoredFile:
    seconds = batch.details.output_seconds
    return StoredFile(
        id=new_id("file-"),
        tenant=batch.tenant,
        owner_id=batch.owner_id,
        filename=f"{batch.id}_{part}.jsonl",
        purpose="batch_output",
        bytes=size,
        created_at=now_text(),
        expires_at=None if seconds is None else now_text(seconds),
        batch_id=batch.id,
        batch_part=part,
    )


def event_of(batch: Batch) -> Event:
    """Return what webhooks are told of a batch that has ended."""
    return Event(
        name=EVENTS[batch.status],
        tenant=batch.tenant,
        data={
            "batch_id": batch.id,
            "status": batch.status.value,
            "model": batch.model,
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
            "usage": usage_of(batch),
            "results_url": f"/batch/{batch.id}/results",
        },
    )


def usage_of(batch: Batch) -> dict[str, int]:
    """Return the tokens that a batch's requests took."""
    return {
        "prompt_tokens": batch.prompt_tokens,
        "completion_tokens": batch.completion_tokens,
        "total_tokens": batch.prompt_tokens + batch.completion_tokens,
    }
