"""`/v1/batches`: OpenAI's Batch API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from inferno.batches.desk import Submission
from inferno.batches.types import Batch, Details, Owner, Status, epoch
from inferno.core.errors import InvalidRequest
from inferno.server.batch_items import OPENAI_ENDPOINTS
from inferno.server.batches import (
    managed_batch,
    query_of,
    submission_key,
    tenant_of,
    visible_batch,
)
from inferno.server.files import EXPIRY_SECONDS, listed
from inferno.server.operation import Services, Visited
from inferno.server.recording import record
from inferno.web.exchange import decode_body

Text = Annotated[str, Meta(max_length=512)]


class OutputExpiry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """When the files with the results are deleted."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=EXPIRY_SECONDS[0], le=EXPIRY_SECONDS[1])]


class OpenAIBatchRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/batches`."""

    input_file_id: Annotated[str, Meta(min_length=1, max_length=64)]
    endpoint: str
    completion_window: Literal["24h"]
    metadata: Annotated[dict[Annotated[str, Meta(max_length=64)], Text], Meta(max_length=16)] | (
        None
    ) = None
    output_expires_after: OutputExpiry | None = None


class OpenAIBatchListQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Query parameters of `GET /v1/batches`."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


_requests: msgspec.json.Decoder[OpenAIBatchRequest] = msgspec.json.Decoder(OpenAIBatchRequest)


async def create_batch(exchange: Visited, services: Services) -> None:
    """`POST /v1/batches`: the file is read afterwards; what is wrong in it fails the batch."""
    request: OpenAIBatchRequest = decode_body(_requests, await exchange.body())
    if request.endpoint not in OPENAI_ENDPOINTS:
        raise InvalidRequest(
            f"'endpoint' has to be one of {', '.join(OPENAI_ENDPOINTS)}.", field="endpoint"
        )
    principal = exchange.visit.principal
    file = await services.batches.files.get(request.input_file_id, tenant_of(principal))
    expiry = request.output_expires_after
    details = Details(
        metadata=request.metadata, output_seconds=None if expiry is None else expiry.seconds
    )
    submission = Submission(
        owner=Owner.of(principal),
        api="openai",
        endpoint=request.endpoint,
        details=details,
        key=submission_key(exchange),
    )
    batch = await services.batches.submit_file(submission, file)
    await record(exchange, services, "batch.create", f"batch:{batch.id}", file=file.id)
    await exchange.respond_json(shown(batch))


async def get_batch(exchange: Visited, services: Services) -> None:
    """`GET /v1/batches/{batch_id}`."""
    await exchange.respond_json(shown(await visible_batch(exchange, services)))


async def list_batches(exchange: Visited, services: Services) -> None:
    """`GET /v1/batches`: the newest first."""
    asked: OpenAIBatchListQuery = query_of(exchange, OpenAIBatchListQuery)
    page, more = await services.batches.records.page(
        tenant_of(exchange.visit.principal), api="openai", after=asked.after, limit=asked.limit
    )
    await exchange.respond_json(listed([shown(one) for one in page], has_more=more))


async def cancel_batch(exchange: Visited, services: Services) -> None:
    """`POST /v1/batches/{batch_id}/cancel`."""
    await exchange.body()
    batch = await services.batches.cancel(await managed_batch(exchange, services))
    await record(exchange, services, "batch.cancel", f"batch:{batch.id}")
    await exchange.respond_json(shown(batch))


def shown(batch: Batch) -> dict[str, Any]:
    """Return a batch as OpenAI's API shows it."""
    ended = epoch(batch.ended_at)

    def when(status: Status) -> int | None:
        return ended if batch.status is status else None

    errors = None
    if batch.details.errors:
        errors = {"object": "list", "data": batch.details.errors}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": errors,
        "input_file_id": batch.input_file_id or "",
        "completion_window": "24h",
        "status": batch.status.value,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": epoch(batch.created_at),
        "in_progress_at": epoch(batch.started_at),
        "expires_at": epoch(batch.expires_at),
        "finalizing_at": epoch(batch.finalizing_at),
        "completed_at": when(Status.COMPLETED),
        "failed_at": when(Status.FAILED),
        "expired_at": when(Status.EXPIRED),
        "cancelling_at": epoch(batch.cancelling_at),
        "cancelled_at": when(Status.CANCELLED),
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "usage": {
            "input_tokens": batch.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": batch.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
        },
        "metadata": batch.details.metadata,
    }
