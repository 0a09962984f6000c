"""An operation of the inference API: its route, its handler and its documentation in one place."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from inferno.batches.desk import Desk
from inferno.core.errors import PermissionDenied
from inferno.core.inferences import Journey, Observer, TraceContext
from inferno.core.tenancy import LimitPolicy, Permission
from inferno.gateway.directory import Directory, shutting_down
from inferno.gateway.forwarding import Forwarder
from inferno.gateway.residency import Residency
from inferno.server.readiness import Readiness
from inferno.telemetry.observability import Observability
from inferno.tenancy.access import Access, Visit, require
from inferno.tenancy.keys import Keys
from inferno.tenancy.overrides import Overrides
from inferno.tenancy.sessions import Sessions
from inferno.tenancy.users import Users
from inferno.web.deprecation import Deprecation
from inferno.web.door import encoded
from inferno.web.exchange import Exchange, Header
from inferno.webhooks.service import Webhooks

SERVED = b"x-gateway-destination-endpoint-served"
"""Says which endpoint of a pool answered (Gateway API Inference Extension)."""


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers call; protocol work is theirs, decisions are these.

    Args:
        directory: which models there are.
        residency: loads and unloads them.
        forwarder: gets requests answered.
        access: lets callers in.
        sessions: signs users in and out.
        users: the users.
        keys: their keys.
        overrides: limits of roles and tenants.
        webhooks: tells callers' own addresses of events.
        batches: takes batches in, and has uploaded files.
        default_limits: limits where nothing else is said.
        default_max_tokens: generated tokens where a request names no maximum.
        max_body_bytes: largest request body.
        readiness: whether the platform should be sent requests.
        version: the platform's version.
        observability: what is counted, measured and traced.
        observers: told of each inference when it is over.
        begin_trace: says where a request stands in a trace; None where it is not traced.
        started: monotonic time of the start, in seconds.
    """

    directory: Directory
    residency: Residency
    forwarder: Forwarder
    access: Access
    sessions: Sessions
    users: Users
    keys: Keys
    overrides: Overrides
    webhooks: Webhooks
    batches: Desk
    default_limits: LimitPolicy
    default_max_tokens: int
    max_body_bytes: int
    readiness: Readiness
    version: str
    observability: Observability
    observers: Sequence[Observer] = ()
    begin_trace: Callable[[Scope], TraceContext | None] = lambda _: None
    started: float = field(default_factory=time.monotonic)


class Visited(Exchange):
    """A request with its response, and who sent it.

    Args:
        visit: from `Access.enter`; None where the operation is public.
    """

    __slots__ = ("_visit", "routed")

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        max_body_bytes: int,
        visit: Visit | None,
    ) -> None:
        super().__init__(scope, receive, send, max_body_bytes=max_body_bytes)
        self._visit = visit
        self.routed: Journey | None = None
        """The call of a request that went through a pool; the response says who served it."""

    def start(self, status: int, headers: Iterable[Header]) -> Awaitable[None]:
        """Send the head of a response; `write` and `finish` follow."""
        if self.routed is not None:
            headers = [*headers, *served_by(self.routed)]
        return super().start(status, headers)

    @property
    def visit(self) -> Visit:
        """Who sent the request."""
        assert self._visit is not None, "a public operation asked who is calling"  # noqa: S101
        return self._visit

    def require_streaming(self, stream: bool | None) -> None:
        """Raise PermissionDenied where a stream is wanted and the caller may not have one."""
        if stream:
            require(self.visit.principal, Permission.USE_STREAMING)

    def require_grammar(self, grammar: str | None) -> None:
        """Raise PermissionDenied where a grammar is given and the caller may not send any.

        A few hundred bytes of grammar can keep an engine busy for ever. JSON schemas cannot, so
        those are for everybody.
        """
        if grammar is not None:
            require(self.visit.principal, Permission.WRITE_CONFIG)


def served_by(journey: Journey) -> Sequence[Header]:
    """Return the header that says which endpoint of a pool answered, once one has been asked."""
    return _served_by(journey.address)


def served_line(journey: Journey) -> bytes:
    """Return the same as it is sent."""
    return _served_line(journey.address)


@lru_cache(maxsize=1024)
def _served_by(address: str) -> Sequence[Header]:
    return ((SERVED, address.encode("latin-1", "replace")),) if address else ()


@lru_cache(maxsize=1024)
def _served_line(address: str) -> bytes:
    return encoded(_served_by(address))


Handler = Callable[[Visited, Services], Awaitable[None]]

HANDED_OVER = "handed_over"
"""In a scope's state: a request that was served without a task till now."""


class HandedOver(Protocol):
    """A request that was let in, and has come some of its way."""

    @property
    def visit(self) -> Visit:
        """Who sent it."""

    async def go_on(self, exchange: Visited, services: Services) -> None:
        """Serve the rest of it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path.

    Args:
        method: HTTP method.
        path: with `{placeholders}`.
        handler: serves it.
        summary: one line for the documentation.
        request: type of the JSON body, where there is one.
        responses: a description of the answer for the documentation.
        needs: what the caller must be allowed; None where being known is enough.
        public: whether it needs no credentials.
        deprecation: since when and until when, where it will go.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    request: Any = None
    responses: str = "The answer."
    needs: Permission | None = None
    public: bool = False
    deprecation: Deprecation | None = None

    @property
    def documented_path(self) -> str:
        """The path as OpenAPI writes it: without what a placeholder may match."""
        return self.path.replace(":path}", "}")


class Endpoint:
    """ASGI app of one operation: let the caller in, handle, and settle with it.

    Args:
        operation: what to do.
        services: what to do it with.
    """

    def __init__(self, operation: Operation, services: Services) -> None:
        self._operation = operation
        self._services = services
        self._notices = operation.deprecation.headers if operation.deprecation else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Whoever is not let in is told before its body is read."""
        services, operation = self._services, self._operation
        scope["state"]["operation"] = operation.path
        limit = services.max_body_bytes
        if self._notices is not None:
            scope["state"]["notices"] = self._notices
        if operation.public:
            exchange = Visited(scope, receive, send, max_body_bytes=limit, visit=None)
            await operation.handler(exchange, services)
            return
        if services.readiness.draining and HANDED_OVER not in scope["state"]:
            raise shutting_down()
        handler = operation.handler
        handed_over: HandedOver | None = scope["state"].get(HANDED_OVER)
        if handed_over is None:
            visit = await services.access.enter(scope)
        else:
            visit, handler = handed_over.visit, handed_over.go_on
        try:
            if operation.needs is not None:
                require(visit.principal, operation.needs)
            exchange = Visited(scope, receive, send, max_body_bytes=limit, visit=visit)
            await handler(exchange, services)
        except PermissionDenied as error:
            services.access.note_denial(scope, visit, error)
            raise
        finally:
            await services.access.leave(visit)
