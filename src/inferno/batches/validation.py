"""Reading an input file: all its lines become requests, or the batch fails and says why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from inferno.batches.desk import in_chunks
from inferno.batches.ending import fail
from inferno.batches.files import Files
from inferno.batches.lines import (
    Line,
    LineFault,
    LineSplitter,
    LineTooLong,
    OpenAILines,
    UniqueIds,
)
from inferno.batches.records import Records
from inferno.batches.types import Batch, Bounds, Item, LineError, StoredFile
from inferno.core.errors import NotFound

MAX_ERRORS = 100
"""Wrong lines that are listed."""


async def validate(
    batch: Batch,
    records: Records,
    files: Files,
    bounds: Bounds,
    knows_model: Callable[[str, str], bool],
) -> Batch | None:
    """Read the input of a batch, and return the batch in progress; None where it has failed.

    What an earlier process had read before it was killed is read again from the start.
    """
    await records.clear_items(batch.id)

    def known(model: str) -> bool:
        return knows_model(model, batch.tenant)

    lines = OpenAILines((batch.endpoint,), known, UniqueIds())
    errors: list[LineError] = []
    total = 0
    try:
        file = await files.get(batch.input_file_id or "", batch.tenant)
        async for chunk in in_chunks(_items(files, file, lines, errors)):
            total += len(chunk)
            if total > bounds.items:
                message = f"A batch may have {bounds.items} requests."
                errors.append(LineError(code="too_many_requests", message=message))
                break
            if not errors:
                await records.add_items(batch.id, chunk)
    except NotFound as error:
        if (await records.get(batch.id, None)).status is not batch.status:
            raise  # it was cancelled, or is somebody else's now
        errors.append(LineError(code="file_not_found", message=error.message))
    if total == 0 and not errors:
        errors.append(LineError(code="empty_file", message="The input file has no requests."))
    if errors:
        await fail(records, batch, errors)
        return None
    return await records.open(batch.id, lines.model, keep=True)


async def _items(
    files: Files, file: StoredFile, lines: OpenAILines, errors: list[LineError]
) -> AsyncIterator[Item]:
    """Yield the requests of a file; what is wrong is added to the errors."""
    place = 0
    try:
        async for line in _lines(files, file):
            try:
                yield lines.read(line, place)
                place += 1
            except LineFault as found:
                errors.append(found.error)
                if len(errors) == MAX_ERRORS:
                    return
    except LineTooLong as error:
        number = error.details["line"]
        errors.append(LineError(code="line_too_long", message=error.message, line=number))


async def _lines(files: Files, file: StoredFile) -> AsyncIterator[Line]:
    splitter = LineSplitter()
    size = 0
    async for piece in files.pieces(file.id):
        size += len(piece)
        for line in splitter.feed(piece):
            yield line
    if size != file.bytes:
        raise NotFound(f"File '{file.id}' was deleted while it was read.")
    for line in splitter.end():
        yield line
