"""`/batch`: seed 001's batches.

A batch comes as one JSON body, or as JSON lines of any length. Lines are `{"id", "prompt", …}`, as
in the JSON body, or OpenAI's `{"custom_id", "method", "url", "body"}`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta

from inferno.batches.desk import Submission, in_chunks
from inferno.batches.ending import usage_of
from inferno.batches.lines import Line, LineFault, LineSplitter, OpenAILines, UniqueIds
from inferno.batches.output import all_results, native_line, openai_line
from inferno.batches.types import MAX_ITEM_BYTES, Batch, Details, Item, Owner, Status, epoch
from inferno.core.errors import InvalidRequest, PermissionDenied
from inferno.core.tenancy import Permission, Principal, Role
from inferno.server.batch_items import HANDLERS, BatchItems
from inferno.server.operation import Services, Visited
from inferno.server.recording import record
from inferno.server.types import ModelName, Sampling, TokenLimit, fields_of
from inferno.tenancy.ledger import in_turns
from inferno.web.exchange import JSON_TYPE, decode_body, invalid_request

JSON_LINES = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines")
NDJSON = (b"content-type", b"application/x-ndjson")

Url = Annotated[str, Meta(min_length=1, max_length=2048)]
SubmissionKey = Annotated[str, Meta(min_length=1, max_length=255)]


class BatchEntry(Sampling, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One request of a batch; what it does not say, the batch does."""

    id: Annotated[str, Meta(min_length=1, max_length=512)]
    prompt: Annotated[str, Meta(min_length=1)]
    model: ModelName | None = None
    max_tokens: TokenLimit | None = None


class BatchRequest(Sampling, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`POST /batch`."""

    requests: Annotated[list[BatchEntry], Meta(min_length=1)]
    model: ModelName | None = None
    max_tokens: TokenLimit | None = None
    webhook_url: Url | None = None
    metadata: dict[str, str] | None = None


class BatchOptions(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Query parameters of `POST /batch` with JSON lines."""

    model: ModelName | None = None
    max_tokens: TokenLimit | None = None
    webhook_url: Url | None = None


class _Kind(msgspec.Struct):
    """What tells the two kinds of lines apart."""

    custom_id: Any = UNSET
    url: Any = UNSET


_requests: msgspec.json.Decoder[BatchRequest] = msgspec.json.Decoder(BatchRequest)
_entries: msgspec.json.Decoder[BatchEntry] = msgspec.json.Decoder(BatchEntry)
_kinds: msgspec.json.Decoder[_Kind] = msgspec.json.Decoder(_Kind)


async def create_batch(exchange: Visited, services: Services) -> None:
    """`POST /batch`: when it is answered, all of it will be, whatever ends the process."""
    if content_type(exchange) in JSON_LINES:
        batch = await _take_lines(exchange, services)
    else:
        batch = await _take_json(exchange, services)
    await record(exchange, services, "batch.create", f"batch:{batch.id}", total=batch.total)
    await exchange.respond_json(
        {
            "batch_id": batch.id,
            "status": shown_status(batch.status),
            "total_requests": batch.total,
            "created": epoch(batch.created_at),
        }
    )


def content_type(exchange: Visited) -> str:
    """Return the media type of the body, without its parameters."""
    given = exchange.header(b"content-type") or b""
    return given.decode("latin-1").partition(";")[0].strip().lower()


async def _take_json(exchange: Visited, services: Services) -> Batch:
    request: BatchRequest = decode_body(_requests, await exchange.body())
    entries = Entries(services, exchange.visit.principal, request)
    entries.check_model(request.model)

    async def items() -> AsyncIterator[Item]:
        async for i, entry in in_turns(enumerate(request.requests)):
            yield entries.item(entry, f"requests[{i}]")

    # All of it is looked at before any of it is stored.
    checked = [chunk async for chunk in in_chunks(items())]

    async def chunks() -> AsyncIterator[list[Item]]:
        while checked:
            yield checked.pop(0)

    details = Details(metadata=request.metadata, webhook_url=request.webhook_url)
    submission = _submission(exchange, "/inference", request.model or "", details)
    return await services.batches.submit(submission, chunks())


async def _take_lines(exchange: Visited, services: Services) -> Batch:
    options: BatchOptions = query_of(exchange, BatchOptions)
    entries = Entries(services, exchange.visit.principal, options)
    entries.check_model(options.model)
    details = Details(webhook_url=options.webhook_url)
    submission = _submission(exchange, "/inference", options.model or "", details)
    return await services.batches.submit(submission, in_chunks(_lines(exchange, entries, services)))


async def _lines(exchange: Visited, entries: Entries, services: Services) -> AsyncIterator[Item]:
    """Yield the requests in a body of JSON lines, as it arrives."""
    splitter = LineSplitter()
    limit = services.batches.bounds.file_bytes
    async for piece in exchange.pieces(max_bytes=limit):
        for line in splitter.feed(piece):
            yield entries.item_of_line(line)
    for line in splitter.end():
        yield entries.item_of_line(line)


class Entries:
    """Makes requests of the entries of one batch.

    Args:
        services: asked for models.
        principal: who hands it in.
        defaults: what is said for all entries.
    """

    def __init__(
        self, services: Services, principal: Principal, defaults: BatchRequest | BatchOptions
    ) -> None:
        self._services = services
        self._principal = principal
        not_for_requests = frozenset({"requests", "webhook_url", "metadata"})
        self._defaults = fields_of(defaults, not_for_requests)
        self._ids = UniqueIds()
        items, tenant = BatchItems(services), principal.tenant
        self._openai = OpenAILines(
            tuple(HANDLERS), lambda name: items.knows_model(name, tenant), self._ids
        )
        self._count = 0

    def check_model(self, model: str | None) -> None:
        """Raise ModelNotFound where a model is named that the caller cannot reach."""
        if model is not None:
            self._services.forwarder.routes.find(model, self._principal.tenant)

    def item_of_line(self, line: Line) -> Item:
        """Return the request in a line. Raises InvalidRequest, which names the line."""
        try:
            return self._item_of_line(line)
        except InvalidRequest as error:
            raise _at_line(line.number, error.message, error.field) from None
        except LineFault as found:
            raise _at_line(line.number, found.error.message, found.error.param) from None

    def _item_of_line(self, line: Line) -> Item:
        kind: _Kind = decode_body(_kinds, line.content, name="line")
        if kind.custom_id is UNSET and kind.url is UNSET:
            return self.item(decode_body(_entries, line.content, name="line"), "")
        item = self._openai.read(line, self._count)
        self._count += 1
        return item

    def item(self, entry: BatchEntry, where: str) -> Item:
        """Return the request of an entry.

        Args:
            entry: as it was handed in.
            where: its place, for errors.

        Raises:
            InvalidRequest: its id is taken, it names no model, or nothing may have it so.
            ModelNotFound: there is no such model.
            PermissionDenied: it has a grammar, which the caller may not send.
        """
        prefix = f"{where}." if where else ""
        if (problem := self._ids.problem_with(entry.id)) is not None:
            raise InvalidRequest(problem[1], field=f"{prefix}id")
        body = {**self._defaults, **fields_of(entry, frozenset({"id"}))}
        model = body.get("model")
        if model is None:
            raise InvalidRequest(
                "Name a 'model', for the batch or for each request.", field=f"{prefix}model"
            )
        self.check_model(entry.model)
        if "grammar" in body and Permission.WRITE_CONFIG not in self._principal.permissions:
            raise PermissionDenied("'grammar' needs the permission 'write_config'.")
        item = Item(self._count, entry.id, "/inference", msgspec.json.encode(body))
        if len(item.body) > MAX_ITEM_BYTES:
            raise InvalidRequest(
                f"One request of a batch may take {MAX_ITEM_BYTES} bytes.", field=where or None
            )
        self._count += 1
        return item


def _at_line(number: int, message: str, field: str | None) -> InvalidRequest:
    return InvalidRequest(f"Line {number}: {message}", field=field, line=number)


def _submission(exchange: Visited, endpoint: str, model: str, details: Details) -> Submission:
    return Submission(
        owner=Owner.of(exchange.visit.principal),
        api="native",
        endpoint=endpoint,
        model=model,
        details=details,
        key=submission_key(exchange),
    )


def submission_key(exchange: Visited) -> str | None:
    """Return the `Idempotency-Key`. Raises InvalidRequest where it cannot be one."""
    given = exchange.header(b"idempotency-key")
    if given is None:
        return None
    key = given.decode("latin-1").strip()
    if not 0 < len(key) <= 255 or not key.isprintable():
        raise InvalidRequest("'Idempotency-Key' has to have between 1 and 255 characters.")
    return key


def query_of(exchange: Visited, wanted: type[Any]) -> Any:
    """Return the query parameters as a type. Raises InvalidRequest."""
    text = exchange.scope["query_string"].decode("latin-1")
    given = dict(parse_qsl(text, keep_blank_values=True))
    try:
        return msgspec.convert(given, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_request(str(error)) from None


class BatchListQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Query parameters of `GET /batch`."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class ResultsQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Query parameters of `GET /batch/{batch_id}/results`."""

    format: Literal["native", "openai"] = "native"
    after: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = -1
    limit: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None


async def list_batches(exchange: Visited, services: Services) -> None:
    """`GET /batch`: the newest first; `after` takes the last id of a page for the next."""
    asked: BatchListQuery = query_of(exchange, BatchListQuery)
    tenant = tenant_of(exchange.visit.principal)
    page, more = await services.batches.records.page(
        tenant, api=None, after=asked.after, limit=asked.limit
    )
    await exchange.respond_json({"batches": [shown(one) for one in page], "has_more": more})


async def get_batch(exchange: Visited, services: Services) -> None:
    """`GET /batch/{batch_id}`."""
    await exchange.respond_json(shown(await visible_batch(exchange, services)))


async def get_results(exchange: Visited, services: Services) -> None:
    """`GET /batch/{batch_id}/results`: in the order of the input; those there are so far.

    Who accepts JSON lines gets one result a line; `format=openai` gives OpenAI's lines.
    """
    asked: ResultsQuery = query_of(exchange, ResultsQuery)
    batch = await visible_batch(exchange, services)
    accepted = (exchange.header(b"accept") or b"").decode("latin-1").lower()
    as_lines = any(kind in accepted for kind in JSON_LINES)
    with exchange.client_present():
        await exchange.start(200, [NDJSON if as_lines else JSON_TYPE])
        async for piece in _written(services, batch, asked, as_lines=as_lines):
            await exchange.write(piece)
        await exchange.finish()


async def _written(
    services: Services, batch: Batch, asked: ResultsQuery, *, as_lines: bool
) -> AsyncIterator[bytes]:
    """Yield results as JSON, a page at a time."""
    between = b"\n" if as_lines else b","
    encode = openai_line if asked.format == "openai" else native_line
    head = {"batch_id": batch.id, "status": shown_status(batch.status)}
    if not as_lines:
        yield msgspec.json.encode(head)[:-1] + b',"results":['
    first = True
    records = services.batches.records
    async for page in all_results(records, batch, after=asked.after, limit=asked.limit):
        joined = between.join(encode(batch, one) for one in page)
        yield joined if first else between + joined
        first = False
    if not as_lines:
        yield b"]}"
    elif not first:
        yield between


async def cancel_batch(exchange: Visited, services: Services) -> None:
    """`POST /batch/{batch_id}/cancel`: what is answered by then stays."""
    await exchange.body()
    batch = await managed_batch(exchange, services)
    batch = await services.batches.cancel(batch)
    await record(exchange, services, "batch.cancel", f"batch:{batch.id}")
    await exchange.respond_json(shown(batch))


async def delete_batch(exchange: Visited, services: Services) -> None:
    """`DELETE /batch/{batch_id}`: its requests and results go with it."""
    await exchange.body()
    batch = await managed_batch(exchange, services)
    await services.batches.delete(batch)
    await record(exchange, services, "batch.delete", f"batch:{batch.id}")
    await exchange.respond_json({"batch_id": batch.id, "status": "deleted"})


def tenant_of(principal: Principal) -> str | None:
    """Return whose batches and files a caller sees; None for everybody's."""
    sees_all = principal.role is Role.ADMIN and Permission.MANAGE_QUEUE in principal.permissions
    return None if sees_all else principal.tenant


async def visible_batch(exchange: Visited, services: Services) -> Batch:
    """Return the batch that a call is about. Raises NotFound, for another tenant's too."""
    batch_id = exchange.path_params["batch_id"]
    return await services.batches.records.get(batch_id, tenant_of(exchange.visit.principal))


async def managed_batch(exchange: Visited, services: Services) -> Batch:
    """Return the batch that a call changes. Raises PermissionDenied where it may not."""
    batch = await visible_batch(exchange, services)
    require_own(exchange.visit.principal, batch.tenant, batch.owner_id)
    return batch


def require_own(principal: Principal, tenant: str, owner_id: str) -> None:
    """Refuse a caller that would manage what is a colleague's. Raises PermissionDenied."""
    own = (principal.tenant, principal.user_id) == (tenant, owner_id)
    if not own and Permission.MANAGE_QUEUE not in principal.permissions:
        raise PermissionDenied(
            "Managing what others handed in needs the permission 'manage_queue'.",
            permission=Permission.MANAGE_QUEUE.value,
        )


def shown_status(status: Status) -> str:
    """Return a state in the native API's words: all that is at work is `processing`."""
    working = (Status.VALIDATING, Status.IN_PROGRESS, Status.FINALIZING)
    return "processing" if status in working else status.value


def shown(batch: Batch) -> dict[str, Any]:
    """Return a batch as the native API shows it."""
    described: dict[str, Any] = {
        "batch_id": batch.id,
        "status": shown_status(batch.status),
        "completed": batch.completed,
        "failed": batch.failed,
        "total": batch.total,
        "results_url": f"/batch/{batch.id}/results",
        "model": batch.model,
        "usage": usage_of(batch),
        "created": epoch(batch.created_at),
        "expires": epoch(batch.expires_at),
    }
    if batch.ended_at is not None:
        described["ended"] = epoch(batch.ended_at)
    if batch.details.metadata is not None:
        described["metadata"] = batch.details.metadata
    if batch.details.errors:
        described["errors"] = batch.details.errors
    return described
