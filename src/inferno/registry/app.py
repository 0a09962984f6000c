"""The registry's API (seed 000), below `/inference_server` and `/inference_servers`.

Whoever may read models may read the registry; everybody may, where the operator says so. Entries
are public among those who may read, so a refusal to change another's says that there is one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from inferno.core.errors import AuthenticationFailed, NotFound, PermissionDenied
from inferno.core.tenancy import Permission, Principal
from inferno.registry import calls
from inferno.registry.catalog import Catalog, owner_of
from inferno.registry.entries import EXPIRES, ID, STATE, is_id
from inferno.registry.finding import Finder
from inferno.registry.watching import Watcher
from inferno.telemetry.audit import AuditEvent, AuditTrail
from inferno.tenancy.access import MISSING, Visit, require
from inferno.web.errors import MethodNotAllowed
from inferno.web.exchange import Exchange, header_of

MAX_BODY_BYTES = 2**20

Handler = Callable[[Exchange, str], Awaitable[None]]


class Witness(Protocol):
    """Whoever is told of what was done, and of refusals."""

    audit: AuditTrail

    def note_denial(self, scope: Scope, visit: Visit, error: PermissionDenied) -> None:
        """Record that a caller was refused what it may not do."""


class RegistryApi:
    """The app.

    Args:
        catalog: changes entries.
        finder: finds them.
        watcher: streams their changes.
        access: told of changes and refusals.
        public_reads: whether strangers may read.
    """

    def __init__(
        self,
        catalog: Catalog,
        finder: Finder,
        watcher: Watcher,
        access: Witness,
        *,
        public_reads: bool,
    ) -> None:
        self._watcher = watcher
        self._catalog = catalog
        self._finder = finder
        self._access = access
        self._public_reads = public_reads
        self._one: dict[str, Handler] = {
            "GET": self._get,
            "PUT": self._update,
            "DELETE": self._delete,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises what `errors.ANSWERS` has an answer for."""
        exchange = Exchange(scope, receive, send, max_body_bytes=MAX_BODY_BYTES)
        handler, id_ = self._route(scope)
        try:
            await handler(exchange, id_)
        except PermissionDenied as error:
            visit: Visit | None = scope["state"].get("visit")
            if visit is not None:
                self._access.note_denial(scope, visit, error)
            raise

    def is_public(self, scope: Scope) -> bool:
        """Return whether a request is let in although nobody says who sends it."""
        if not self._public_reads or header_of(scope, b"authorization") is not None:
            return False
        path, method = scope["path"].rstrip("/"), scope["method"]
        if path == calls.ENTRIES:
            return bool(method == "POST")
        found = calls.entry_path(path)
        return bool(method == "GET" and found is not None and not found[1])

    def _route(self, scope: Scope) -> tuple[Handler, str]:
        """Return what a request asks for, and of which entry. Raises NotFound, MethodNotAllowed."""
        method, path = scope["method"], scope["path"].rstrip("/")
        routes: dict[str, Handler]
        id_, operation = "", path
        if path == calls.ENTRY:
            routes = {"POST": self._create}
        elif path == calls.ENTRIES:
            routes = {"POST": self._find}
        elif path == calls.WATCH:
            routes = {"GET": self._watch}
        else:
            id_, action = calls.entry_path(path) or ("", "unknown")
            if action not in ("", "heartbeat"):
                raise NotFound("API endpoint not found")
            routes = {"POST": self._heartbeat} if action else self._one
            operation = f"{calls.ENTRY}/{{id}}" + (f"/{action}" if action else "")
        scope["state"]["operation"] = operation
        if method not in routes:
            raise MethodNotAllowed(method, ", ".join(sorted(routes)))
        if id_ and not is_id(id_):
            return self._missing, id_
        return routes[method], id_

    async def _missing(self, exchange: Exchange, id_: str) -> None:
        """Answer for an id that no entry can have."""
        self._reader(exchange)
        raise NotFound("No document found")

    async def _create(self, exchange: Exchange, _: str) -> None:
        principal = self._writer(exchange)
        given = calls.decode(await exchange.body())
        entry = await self._catalog.create(given, principal)
        self._note(exchange, "registry.create", entry[ID])
        data = {"message": "Inference server created", "id": entry[ID], ID: entry[ID]}
        await _answer(exchange, data, status=201)

    async def _get(self, exchange: Exchange, id_: str) -> None:
        self._reader(exchange)
        await _answer(exchange, await self._catalog.get(id_))

    async def _update(self, exchange: Exchange, id_: str) -> None:
        principal = self._writer(exchange)
        change = calls.change_of(await exchange.body())
        await self._catalog.update(id_, change, principal)
        self._note(exchange, "registry.update", id_)
        await _answer(exchange, {"message": "Inference server updated"})

    async def _delete(self, exchange: Exchange, id_: str) -> None:
        principal = self._writer(exchange)
        await self._catalog.delete(id_, principal)
        self._note(exchange, "registry.delete", id_)
        await _answer(exchange, {"message": "Inference server deleted"})

    async def _heartbeat(self, exchange: Exchange, id_: str) -> None:
        entry = await self._catalog.heartbeat(id_, self._writer(exchange))
        kept = {STATE: entry[STATE], EXPIRES: entry[EXPIRES]}
        await _answer(exchange, {"message": "Heartbeat received", **kept})

    async def _find(self, exchange: Exchange, _: str) -> None:
        principal = self._reader(exchange)
        query = calls.query_of(
            exchange.scope["query_string"],
            await exchange.body(),
            owner=owner_of(principal) if principal is not None else None,
        )
        with exchange.client_present():
            page = await self._finder.find(query)
        more: dict[str, Any] = {}
        if query.count:
            more["count"] = page.total
        if page.next is not None:
            more["next_cursor"] = calls.cursor_of(page.next)
        await _answer(exchange, page.documents, **more)

    async def _watch(self, exchange: Exchange, _: str) -> None:
        self._reader(exchange)
        last = (exchange.header(b"last-event-id") or b"").decode("latin-1")
        filter_, since = calls.watch_of(exchange.scope["query_string"], last)
        await self._watcher.watch(exchange, filter_, since)

    def _reader(self, exchange: Exchange) -> Principal | None:
        """Return who reads; None for a stranger. Raises PermissionDenied."""
        visit: Visit | None = exchange.scope["state"].get("visit")
        if visit is None:
            return None
        if not self._public_reads:
            require(visit.principal, Permission.READ_MODELS)
        return visit.principal

    def _writer(self, exchange: Exchange) -> Principal:
        """Return who writes: anybody who may do more than read.

        Raises:
            AuthenticationFailed: nobody says who it is.
            PermissionDenied: it may only read.
        """
        visit: Visit | None = exchange.scope["state"].get("visit")
        if visit is None:
            raise AuthenticationFailed(MISSING)
        require(visit.principal, Permission.RUN_INFERENCE)
        return visit.principal

    def _note(self, exchange: Exchange, action: str, id_: str) -> None:
        visit: Visit = exchange.scope["state"]["visit"]
        principal = visit.principal
        self._access.audit.note(
            AuditEvent(
                action=action,
                outcome="success",
                actor=principal.username,
                actor_id=principal.user_id,
                tenant=principal.tenant,
                target=id_,
                address=visit.address,
                request_id=exchange.request_id,
            )
        )


async def _answer(exchange: Exchange, data: Any, *, status: int = 200, **more: Any) -> None:
    """Send a success in the original's envelope."""
    await exchange.respond_json({"success": True, "data": data, **more}, status=status)
