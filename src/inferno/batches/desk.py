"""The desk: where batches are handed in, asked after, cancelled and fetched."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec

from inferno.batches.base import UrlCheck
from inferno.batches.bell import Bell
from inferno.batches.files import Files, no_room
from inferno.batches.records import Records
from inferno.batches.sweeping import Sweeper
from inferno.batches.types import (
    Api,
    Batch,
    Bounds,
    Details,
    Item,
    Owner,
    Status,
    StoredFile,
    new_id,
    now_text,
)
from inferno.core.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    RateLimitExceeded,
    Unsupported,
)

CHUNK_ITEMS = 500
CHUNK_BYTES = 4 * 2**20
"""Requests that are stored in one transaction."""

ACTIVE_RETRY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Submission:
    """What is handed in.

    Args:
        owner: by whom.
        api: through which API.
        endpoint: what answers its requests, where that is one.
        model: which model, where that is one.
        details: what else there is to know.
        key: the caller's own name for it: handed in again under it, it is still one batch.
    """

    owner: Owner
    api: Api
    endpoint: str
    model: str = ""
    details: Details = field(default_factory=Details)
    key: str | None = None


class Desk:
    """Takes batches in, and says how they stand.

    Args:
        records: where they are kept.
        files: uploaded files.
        bounds: what may be handed in.
        check_url: looks at webhook addresses; None where there are no webhooks.
        bell: rung when there is something new to do.
        sweeper: woken when there is something to clear away.
    """

    def __init__(
        self,
        records: Records,
        files: Files,
        bounds: Bounds,
        *,
        check_url: UrlCheck | None,
        bell: Bell,
        sweeper: Sweeper,
    ) -> None:
        self.records = records
        self.files = files
        self.bounds = bounds
        self._check_url = check_url
        self._bell = bell
        self._sweeper = sweeper
        self._arriving: set[str] = set()

    async def submit(self, submission: Submission, chunks: AsyncIterator[list[Item]]) -> Batch:
        """Take a batch in; when this returns, it will be answered whatever happens.

        Args:
            submission: what is handed in.
            chunks: its requests, a few at a time.

        Raises:
            InvalidRequest: there are no requests or too many, or the tenant has no room left.
            PayloadTooLarge: they are larger than they may be.
            RateLimitExceeded: the tenant has too many batches that are not finished.
            Conflict: it is being handed in twice at this moment.
        """
        known = await self._known(submission)
        if known is not None:
            return known
        self._check_webhook(submission.details)
        room = await self._room(submission.owner.tenant)
        batch = self._new(submission)
        self._arriving.add(batch.id)
        try:
            await self.records.create(batch, submission.key)
            try:
                opened = await self._take_in(batch, submission.model, chunks, room)
            except BaseException:
                await self._forget(batch.id)
                raise
        finally:
            self._arriving.discard(batch.id)
        self._bell.ring()
        return opened

    async def _known(self, submission: Submission) -> Batch | None:
        """Return the batch that was handed in under the same key before."""
        if submission.key is None:
            return None
        owner = submission.owner
        batch = await self.records.submitted(
            owner.tenant, owner.user_id, submission.key, arriving=self._arriving
        )
        if batch is not None and batch.api == "native" and batch.status is Status.VALIDATING:
            raise Conflict("A batch with this Idempotency-Key is being handed in just now.")
        return batch

    async def _take_in(
        self, batch: Batch, model: str, chunks: AsyncIterator[list[Item]], room: int
    ) -> Batch:
        total = size = 0
        async for chunk in chunks:
            model = model or model_of(chunk[0])
            total += len(chunk)
            size += sum(len(item.body) for item in chunk)
            self._check_size(total, size, room)
            await self.records.add_items(batch.id, chunk)
        if total == 0:
            raise InvalidRequest("A batch needs at least one request.", field="requests")
        return await self.records.open(batch.id, model)

    def _check_size(self, total: int, size: int, room: int) -> None:
        if total > self.bounds.items:
            raise InvalidRequest(
                f"A batch may have {self.bounds.items} requests; hand in several.",
                field="requests",
            )
        if size > self.bounds.file_bytes:
            raise PayloadTooLarge(limit=self.bounds.file_bytes)
        if size > room:
            raise no_room(self.bounds)

    async def _forget(self, batch_id: str) -> None:
        """Forget what was not handed in to its end, even if the caller has left."""
        forgetting = asyncio.ensure_future(self.records.delete(batch_id))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(forgetting)
        self._sweeper.wake()

    async def submit_file(self, submission: Submission, file: StoredFile) -> Batch:
        """Take in a batch whose requests are in an uploaded file; they are read later.

        Raises:
            InvalidRequest: the file is not for batches.
            RateLimitExceeded: the tenant has too many batches that are not finished.
        """
        if file.purpose != "batch":
            raise InvalidRequest(
                f"File '{file.id}' has the purpose '{file.purpose}'; it has to be 'batch'.",
                field="input_file_id",
            )
        known = await self._known(submission)
        if known is not None:
            return known
        await self._room(submission.owner.tenant)
        batch = self._new(submission, input_file_id=file.id)
        await self.records.create(batch, submission.key)
        self._bell.ring()
        return batch

    def drain(self) -> None:
        """Have no more requests sent: the platform is to stop."""
        self._bell.drain()

    async def cancel(self, batch: Batch) -> Batch:
        """Ask for a batch to be cancelled, and return it as it is then.

        Raises:
            Conflict: it has ended, or is about to.
        """
        if batch.status in (Status.CANCELLING, Status.CANCELLED):
            return batch
        await self.records.cancel(batch.id)
        batch = await self.records.get(batch.id, None)
        if batch.status is not Status.CANCELLING:
            raise Conflict(f"Batch '{batch.id}' is {batch.status}; it cannot be cancelled.")
        self._bell.ring()
        return batch

    async def delete(self, batch: Batch) -> None:
        """Delete a batch that has ended.

        Raises:
            Conflict: it has not.
        """
        if batch.status.is_active:
            raise Conflict(
                f"Batch '{batch.id}' is still at work; cancel it first: "
                f"POST /batch/{batch.id}/cancel."
            )
        await self.records.delete(batch.id)
        self._sweeper.wake()

    async def delete_file(self, file: StoredFile) -> None:
        """Delete a file; results of a batch stay with the batch."""
        await self.files.delete(file.id)
        self._sweeper.wake()

    async def batch_of(self, file: StoredFile) -> Batch:
        """Return the batch whose results a file shows. Raises NotFound."""
        if file.batch_id is None:
            raise NotFound(f"File '{file.id}' shows no batch.")
        return await self.records.get(file.batch_id, None)

    def _check_webhook(self, details: Details) -> None:
        if details.webhook_url is None:
            return
        if self._check_url is None:
            raise Unsupported("'webhook_url' is not supported here.", field="webhook_url")
        self._check_url(details.webhook_url)

    async def _room(self, tenant: str) -> int:
        """Return the bytes that a tenant has left. Raises where it may hand in no more."""
        active, used = await self.records.standing(tenant)
        if active >= self.bounds.active:
            raise RateLimitExceeded(
                retry_after=ACTIVE_RETRY_SECONDS,
                limit="active_batches",
                maximum=self.bounds.active,
            )
        if used >= self.bounds.tenant_bytes:
            raise no_room(self.bounds)
        return self.bounds.tenant_bytes - used

    def _new(self, submission: Submission, input_file_id: str | None = None) -> Batch:
        owner = submission.owner
        return Batch(
            id=new_id("batch_"),
            tenant=owner.tenant,
            owner_id=owner.user_id,
            owner=owner,
            api=submission.api,
            endpoint=submission.endpoint,
            model="",
            status=Status.VALIDATING,
            details=submission.details,
            input_file_id=input_file_id,
            created_at=now_text(),
            expires_at=now_text(self.bounds.window),
        )


class _ModelOnly(msgspec.Struct):
    model: str = ""


def model_of(item: Item) -> str:
    """Return the model that a request names."""
    return msgspec.json.decode(item.body, type=_ModelOnly).model


async def in_chunks(items: AsyncIterator[Item]) -> AsyncIterator[list[Item]]:
    """Group requests, so that many are stored in one transaction and few are in memory."""
    chunk: list[Item] = []
    size = 0
    async for item in items:
        chunk.append(item)
        size += len(item.body)
        if len(chunk) >= CHUNK_ITEMS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
