"""`/audit`: the audit trail, for those who may see it."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import parse_qsl

import msgspec

from inferno.core.errors import InvalidRequest
from inferno.server.operation import Services, Visited
from inferno.telemetry.audit import Filter, moment
from inferno.web.exchange import invalid_request

NDJSON = (b"content-type", b"application/x-ndjson")


class AuditQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Query parameters of `GET /audit`."""

    user: str = ""
    action: str = ""
    outcome: Literal["", "success", "refused", "failed"] = ""
    failures_only: bool = False
    since: str = ""
    until: str = ""
    before: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50


async def query(exchange: Visited, services: Services) -> None:
    """`GET /audit`: newest first; `before` takes the last `seq` of a page for the next."""
    given = dict(parse_qsl(exchange.scope["query_string"].decode("latin-1")))
    try:
        asked = msgspec.convert(given, AuditQuery, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_request(str(error)) from None
    await services.access.audit.flush()
    events = await services.access.audit.query(
        Filter(
            actor=asked.user,
            action=asked.action,
            outcome=asked.outcome,
            failures_only=asked.failures_only,
            since=time_of(asked.since, "since"),
            until=time_of(asked.until, "until"),
            before=asked.before,
            limit=asked.limit,
        )
    )
    await exchange.respond_json({"events": events})


def time_of(text: str, field: str) -> str:
    """Return a time in the form that events have; no text is no bound.

    Raises:
        InvalidRequest: it is no time.
    """
    try:
        return moment(text) if text else ""
    except ValueError:
        raise InvalidRequest(
            f"'{field}' must be a time such as 2026-01-31T12:00:00Z.", field=field
        ) from None


async def export(exchange: Visited, services: Services) -> None:
    """`GET /audit/export`: all events as JSON lines, oldest first."""
    audit = services.access.audit
    await audit.flush()
    with exchange.client_present():
        await exchange.start(200, [NDJSON])
        lines = bytearray()
        async for event in audit.export():
            lines += msgspec.json.encode(event) + b"\n"
            if len(lines) > 64 * 1024:
                await exchange.write(bytes(lines))
                lines.clear()
        await exchange.write(bytes(lines))
        await exchange.finish()


async def verify(exchange: Visited, services: Services) -> None:
    """`GET /audit/verify`: whether the chain of events holds."""
    await services.access.audit.flush()
    verdict = await services.access.audit.verify()
    await exchange.respond_json(
        {
            "intact": verdict.broken_at is None,
            "events": verdict.events,
            "last_hash": verdict.last_hash,
            "broken_at": verdict.broken_at,
        }
    )
