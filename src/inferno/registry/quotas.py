"""The quota calls of the registry's original, below `/quota`: what sessions had, beginning anew.

A session is looked for in the caller's tenant; admins may name another with `?tenant=`. Whoever may
read models may look; only those who may manage the queue, and admins, may reset. Counts are those
of this process, which also gives requests to servers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from inferno.core.errors import AuthenticationFailed, InvalidRequest, NotFound, PermissionDenied
from inferno.core.quotas import NAMES
from inferno.core.tenancy import Permission, Principal
from inferno.gateway.quotas import QuotaBook, is_idle
from inferno.registry import calls
from inferno.registry.app import Witness
from inferno.registry.catalog import is_admin
from inferno.telemetry.audit import AuditEvent
from inferno.tenancy.access import MISSING, Visit, require
from inferno.web.errors import MethodNotAllowed
from inferno.web.exchange import Exchange

PREFIX = "/quota"
RESET, EXISTS, COMMAND = f"{PREFIX}/reset/", f"{PREFIX}/exists/", f"{PREFIX}/mgmt"
MAX_BODY_BYTES = 64 * 1024
MAX_NAME = 4096

Handler = Callable[[Exchange, str], Awaitable[Any]]


class QuotaApi:
    """The app.

    Args:
        book: what is counted.
        access: told of changes and refusals.
    """

    def __init__(self, book: QuotaBook, access: Witness) -> None:
        self._book = book
        self._access = access
        self._commands: dict[str, Callable[[Exchange, dict[str, Any]], dict[str, Any]]] = {
            "check": self._check,
            "blocks": self._blocks,
            "reset_block": self._reset_block,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises what `errors.ANSWERS` has an answer for."""
        exchange = Exchange(scope, receive, send, max_body_bytes=MAX_BODY_BYTES)
        handler, session = self._route(scope)
        try:
            data = await handler(exchange, session)
        except PermissionDenied as error:
            visit: Visit | None = scope["state"].get("visit")
            if visit is not None:
                self._access.note_denial(scope, visit, error)
            raise
        await exchange.respond_json({"success": True, "data": data})

    def _route(self, scope: Scope) -> tuple[Handler, str]:
        """Return what a request asks for, and of which session. Raises NotFound, MethodNotAllowed.

        A session may be called `mgmt`, or `reset/1`: the method tells what is meant.
        """
        method, path = scope["method"], scope["path"]
        session = path.removeprefix(f"{PREFIX}/")
        if session == path or not session or len(session) > MAX_NAME:
            raise NotFound("API endpoint not found")
        if method == "POST":
            if path == COMMAND:
                return self._at(scope, COMMAND, self._command), ""
            if path.startswith(RESET) and path != RESET:
                return self._at(scope, f"{RESET}{{id}}", self._reset), path.removeprefix(RESET)
        elif method == "GET" and path.startswith(EXISTS) and path != EXISTS:
            return self._at(scope, f"{EXISTS}{{id}}", self._exists), path.removeprefix(EXISTS)
        elif method in ("GET", "DELETE"):
            handler = self._look if method == "GET" else self._forget
            return self._at(scope, f"{PREFIX}/{{id}}", handler), session
        raise MethodNotAllowed(method, "DELETE, GET")

    @staticmethod
    def _at(scope: Scope, operation: str, handler: Handler) -> Handler:
        scope["state"]["operation"] = operation
        return handler

    async def _look(self, exchange: Exchange, name: str) -> dict[str, Any]:
        """Show what a session had; one that nobody knows had nothing."""
        session = self._book.session(_tenant(exchange), name)
        now = self._book.clock()
        counts = [] if session is None else list(session.counts.items())
        there = [(server, one) for server, one in counts if not is_idle(one.seen, now)]
        return {
            "session_id": name,
            "quota": sum(one.number for _, one in there),
            "servers": [
                {
                    "server": server,
                    "requests": one.number,
                    "requests_in_last_second": one.in_last_second(now),
                }
                for server, one in there
            ],
        }

    async def _exists(self, exchange: Exchange, name: str) -> dict[str, Any]:
        exists = self._book.session(_tenant(exchange), name) is not None
        return {"session_id": name, "exists": exists}

    async def _reset(self, exchange: Exchange, name: str) -> dict[str, Any]:
        self._book.reset(_tenant(exchange, changes=True), name)
        self._note(exchange, "quota.reset", name)
        return {"message": f"Quota reset for session {name}"}

    async def _forget(self, exchange: Exchange, name: str) -> dict[str, Any]:
        self._book.forget(_tenant(exchange, changes=True), name)
        self._note(exchange, "quota.delete", name)
        return {"message": f"Quota removed for session {name}"}

    async def _command(self, exchange: Exchange, _: str) -> dict[str, Any]:
        """Do what `mgmt_action` says. Raises InvalidRequest."""
        _principal(exchange)
        given = calls.decode(await exchange.body())
        action = given.get("mgmt_action") if isinstance(given, dict) else None
        command = self._commands.get(action) if isinstance(action, str) else None
        if command is None:
            listed = ", ".join(sorted(self._commands))
            raise InvalidRequest(f"'mgmt_action' must be one of {listed}.", field="mgmt_action")
        data = given.get("mgmt_data")
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise InvalidRequest("'mgmt_data' must be an object.", field="mgmt_data")
        return command(exchange, data)

    def _check(self, exchange: Exchange, data: dict[str, Any]) -> dict[str, Any]:
        """Say whether a server that had requests of a session would take one more now.

        One that nobody knows is allowed what it has not asked for yet.
        """
        tenant, name = _tenant(exchange), _text(data, "session_id")
        claim = _Claim(tenant, name, _text(data, "block_id", needed=False))
        session = self._book.session(tenant, name)
        mine = [] if session is None else [
            one for one in self._book.servers() if one.server in session.counts
        ]  # fmt: skip
        found = {one.server: one.used_up(claim) for one in mine}
        return {
            "allowed": not found or None in found.values(),
            "used_up": [
                {"server": server, "quota": one.quota, "limit": one.limit}
                for server, one in found.items()
                if one is not None
            ],
        }

    def _blocks(self, exchange: Exchange, _: dict[str, Any]) -> dict[str, Any]:
        """Show the quotas of all servers, and what was counted for each of their models."""
        _require_admin(exchange)
        now = self._book.clock()
        return {
            "servers": [
                {
                    "server": one.server,
                    "quota_management_data": {
                        name: limit for name in NAMES if (limit := getattr(one.limits, name))
                    },
                    "blocks": {
                        block: count.number
                        for block, count in one.blocks.items()
                        if not is_idle(count.seen, now)
                    },
                }
                for one in self._book.servers()
            ]
        }

    def _reset_block(self, exchange: Exchange, data: dict[str, Any]) -> dict[str, Any]:
        """Let a block begin anew, at one server or at all of them."""
        _require_admin(exchange)
        block, server = _text(data, "block_id"), _text(data, "server", needed=False)
        number = 0
        for one in self._book.servers():
            if server in ("", one.server) and one.blocks.pop(block, None) is not None:
                number += 1
        self._note(exchange, "quota.reset_block", block)
        return {"message": f"Quota reset for block {block}", "servers": number}

    def _note(self, exchange: Exchange, action: str, name: str) -> None:
        visit: Visit = exchange.scope["state"]["visit"]
        principal = visit.principal
        self._access.audit.note(
            AuditEvent(
                action=action,
                outcome="success",
                actor=principal.username,
                actor_id=principal.user_id,
                tenant=principal.tenant,
                target=name[:128],
                address=visit.address,
                request_id=exchange.request_id,
            )
        )


class _Claim:
    """A request that somebody asks about."""

    def __init__(self, tenant: str, session: str, block: str) -> None:
        self.tenant = tenant
        self.session = session
        self.block = block


def _principal(exchange: Exchange) -> Principal:
    """Return who asks. Raises AuthenticationFailed, PermissionDenied."""
    visit: Visit | None = exchange.scope["state"].get("visit")
    if visit is None:
        raise AuthenticationFailed(MISSING)
    require(visit.principal, Permission.READ_MODELS)
    return visit.principal


def _tenant(exchange: Exchange, *, changes: bool = False) -> str:
    """Return whose sessions are meant.

    Args:
        exchange: the request.
        changes: whether something is to be reset.

    Raises:
        AuthenticationFailed: nobody says who it is.
        PermissionDenied: it may not do that, or not with another tenant's.
        InvalidRequest: the URL has other parameters.
    """
    principal = _principal(exchange)
    if changes:
        require(principal, Permission.MANAGE_QUEUE)
    given = parse_qsl(exchange.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if any(name != "tenant" for name, _ in given):
        raise InvalidRequest("The only parameter is 'tenant'.", field=given[0][0][:50])
    tenant = given[-1][1] if given else principal.tenant
    if tenant != principal.tenant and not is_admin(principal):
        raise PermissionDenied("Only admins may name another tenant.")
    return tenant


def _require_admin(exchange: Exchange) -> None:
    """Refuse others: what goes to a server's models concerns all tenants."""
    require(_principal(exchange), Permission.MANAGE_USERS)


def _text(data: dict[str, Any], name: str, *, needed: bool = True) -> str:
    """Return a text in a command's data. Raises InvalidRequest."""
    value = data.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_NAME or (needed and not value):
        raise InvalidRequest(
            f"'mgmt_data.{name}' must be text of at most {MAX_NAME} characters.",
            field=f"mgmt_data.{name}",
        )
    return value
