"""`/v1/files`: OpenAI's Files API, for the input and the results of batches."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta

from inferno.batches.files import Upload
from inferno.batches.output import file_lines
from inferno.batches.types import StoredFile, epoch, now_text
from inferno.core.errors import InfernoError, InvalidRequest
from inferno.server.batches import query_of, require_own, tenant_of
from inferno.server.operation import Services, Visited
from inferno.server.recording import record
from inferno.server.uploads import Form

FORM_OVERHEAD = 1024 * 1024
"""What a form may have besides its file."""

EXPIRY_SECONDS = (3600, 2_592_000)
"""Shortest and longest life that may be asked for (OpenAI's API reference)."""


class FileListQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Query parameters of `GET /v1/files`."""

    purpose: str | None = None
    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    order: Literal["asc", "desc"] = "desc"


async def create_file(exchange: Visited, services: Services) -> None:
    """`POST /v1/files`: when it is answered, the file is there, whatever ends the process."""
    principal = exchange.visit.principal
    desk = services.batches
    content_type = (exchange.header(b"content-type") or b"").decode("latin-1")
    form = Form("file")
    body = exchange.pieces(max_bytes=desk.bounds.file_bytes + FORM_OVERHEAD)
    upload = await desk.files.begin(principal.tenant, principal.user_id)
    async with discarded_on_error(upload):
        await form.read(content_type, body, upload.write)
        purpose = purpose_of(form.fields.get("purpose"))
        expires_at = expiry_of(form.fields)
        stored = await upload.finish(form.filename or "", purpose, expires_at)
    await record(exchange, services, "file.create", f"file:{stored.id}", bytes=stored.bytes)
    await exchange.respond_json(shown_file(stored))


@asynccontextmanager
async def discarded_on_error(upload: Upload) -> AsyncIterator[None]:
    """Give up an upload that does not come to its end."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(InfernoError):
            await upload.discard()
        raise


def purpose_of(given: str | None) -> str:
    """Return what a file is for. Raises InvalidRequest where nothing here needs such files."""
    if given is None:
        raise InvalidRequest("'purpose' is missing; use 'batch'.", field="purpose")
    if given != "batch":
        raise InvalidRequest("'purpose' has to be 'batch'.", field="purpose")
    return given


def expiry_of(fields: dict[str, str]) -> str | None:
    """Return when a file is to be deleted. Raises InvalidRequest."""
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest(
            "'expires_after[anchor]' has to be 'created_at'.", field="expires_after[anchor]"
        )
    shortest, longest = EXPIRY_SECONDS
    if not (seconds or "").isascii() or not (seconds or "").isdigit():
        raise InvalidRequest(
            "'expires_after[seconds]' has to be a number.", field="expires_after[seconds]"
        )
    if len(seconds or "") > 9 or not shortest <= int(seconds or 0) <= longest:
        raise InvalidRequest(
            f"'expires_after[seconds]' has to be between {shortest} and {longest}.",
            field="expires_after[seconds]",
        )
    return now_text(int(seconds or 0))


async def list_files(exchange: Visited, services: Services) -> None:
    """`GET /v1/files`."""
    asked: FileListQuery = query_of(exchange, FileListQuery)
    page, more = await services.batches.files.page(
        tenant_of(exchange.visit.principal),
        purpose=asked.purpose,
        after=asked.after,
        limit=asked.limit,
        newest_first=asked.order == "desc",
    )
    await exchange.respond_json(listed([shown_file(one) for one in page], has_more=more))


async def get_file(exchange: Visited, services: Services) -> None:
    """`GET /v1/files/{file_id}`."""
    await exchange.respond_json(shown_file(await visible_file(exchange, services)))


async def delete_file(exchange: Visited, services: Services) -> None:
    """`DELETE /v1/files/{file_id}`; a batch that was handed in with it goes on if it was read."""
    await exchange.body()
    file = await visible_file(exchange, services)
    require_own(exchange.visit.principal, file.tenant, file.owner_id)
    await services.batches.delete_file(file)
    await record(exchange, services, "file.delete", f"file:{file.id}")
    await exchange.respond_json({"id": file.id, "object": "file", "deleted": True})


async def get_content(exchange: Visited, services: Services) -> None:
    """`GET /v1/files/{file_id}/content`."""
    file = await visible_file(exchange, services)
    with exchange.client_present():
        pieces = await _content(services, file)
        name = quote(file.filename, safe="").encode("ascii")
        await exchange.start(
            200,
            [
                # Never a type that a browser would run: this is what a caller has sent.
                (b"content-type", b"application/octet-stream"),
                (b"content-disposition", b"attachment; filename*=UTF-8''" + name),
            ],
        )
        async for piece in pieces:
            await exchange.write(piece)
        await exchange.finish()


async def _content(services: Services, file: StoredFile) -> AsyncIterator[bytes]:
    desk = services.batches
    if file.batch_id is None or file.batch_part is None:
        return desk.files.pieces(file.id)
    return file_lines(desk.records, await desk.batch_of(file), file.batch_part)


async def visible_file(exchange: Visited, services: Services) -> StoredFile:
    """Return the file that a call is about. Raises NotFound, for another tenant's too."""
    tenant = tenant_of(exchange.visit.principal)
    return await services.batches.files.get(exchange.path_params["file_id"], tenant)


def listed(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a page as OpenAI's API lists things."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def shown_file(file: StoredFile) -> dict[str, Any]:
    """Return a file as OpenAI's API shows it."""
    shown: dict[str, Any] = {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": epoch(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }
    if file.expires_at is not None:
        shown["expires_at"] = epoch(file.expires_at)
    return shown
