"""Answering one request of a batch: by the handler that serves it over HTTP, in memory.

It runs as the one who handed the batch in, who is looked up anew each time: whoever has lost the
right to ask since then gets an error. Limits on requests and tokens are for callers who wait;
batches have limits of their own, at the desk.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from starlette.types import Message, Scope

from inferno.batches.base import Outlook
from inferno.batches.types import Answer, Batch, Item, Owner
from inferno.core.errors import AuthenticationFailed, InfernoError, ModelNotFound, NotFound
from inferno.core.tenancy import ANONYMOUS, UNLIMITED, Permission, Principal
from inferno.limits.base import Admission
from inferno.server import chat, completions, embeddings, inference
from inferno.server.errors import render
from inferno.server.operation import Handler, Services, Visited
from inferno.server.relay import usage_of
from inferno.server.types import Usage
from inferno.tenancy.access import Access, Visit, require
from inferno.web.exchange import JSON_TYPE

HANDLERS: dict[str, Handler] = {
    "/v1/chat/completions": chat.chat_completions,
    "/v1/completions": completions.completions,
    "/v1/embeddings": embeddings.embeddings,
    "/inference": inference.inference,
}
"""What a request of a batch may ask for."""

OPENAI_ENDPOINTS = tuple(path for path in HANDLERS if path.startswith("/v1/"))

OWNER_GONE = "Whoever handed in the batch is not let in any more."

log = structlog.get_logger(__name__)


class BatchItems:
    """Answers requests of batches.

    Args:
        services: what handlers call.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def knows_model(self, model: str, tenant: str) -> bool:
        """Return whether a tenant can reach a model of that name now."""
        try:
            self._services.forwarder.routes.find(model, tenant)
        except ModelNotFound:
            return False
        return True

    def outlook(self, model: str, tenant: str) -> Outlook:
        """Return whether a request for a model would find it there.

        One for a model that does not exist is answered at once: with an error.
        """
        try:
            return Outlook(*self._services.forwarder.routes.outlook(model, tenant))
        except ModelNotFound:
            return Outlook("", is_there=True)

    async def answer(self, batch: Batch, item: Item) -> Answer:
        """Try to answer a request as its owner; an error is part of the answer."""
        request_id = f"{batch.id}-{item.number}"
        scope = scope_of(item, request_id)
        response = InMemory(item.body)
        try:
            visit = visit_of(batch.owner, self._services.access)
            handler = HANDLERS.get(item.endpoint)
            if handler is None:
                raise NotFound(f"There is nothing at '{item.endpoint}'.")
            exchange = Visited(
                scope,
                response.receive,
                response.send,
                max_body_bytes=len(item.body),
                visit=visit,
            )
            await handler(exchange, self._services)
        except InfernoError as error:
            return refused(error, scope)
        except Exception:
            log.exception("unexpected_error", request_id=request_id, path=item.endpoint)
            return refused(InfernoError("An internal error occurred."), scope)
        body = bytes(response.body)
        usage = counted(body)
        return Answer(
            response.status,
            request_id,
            body,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )


def counted(body: bytes) -> Usage:
    """Return the usage in an answer; servers that others run may leave it out."""
    return usage_of(body).usage or Usage()


class InMemory:
    """The two ends of an exchange without a connection: its client never leaves.

    Args:
        request: the body that is received.
    """

    def __init__(self, request: bytes) -> None:
        self._request: bytes | None = request
        self.status = 0
        self.body = bytearray()

    async def receive(self) -> Message:
        """Return the request; after it nothing comes any more."""
        if self._request is None:
            await asyncio.get_running_loop().create_future()
        body, self._request = self._request, None
        return {"type": "http.request", "body": body or b"", "more_body": False}

    async def send(self, message: Message) -> None:
        """Keep the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")


def scope_of(item: Item, request_id: str) -> Scope:
    """Return the ASGI scope of a request that nobody waits for."""
    length = b"%d" % len(item.body)
    state: dict[str, Any] = {"request_id": request_id, "background": True}
    return {
        "type": "http",
        "method": "POST",
        "path": item.endpoint,
        "query_string": b"",
        "headers": [JSON_TYPE, (b"content-length", length)],
        "path_params": {},
        "state": state,
    }


def refused(error: InfernoError, scope: Scope) -> Answer:
    """Return the answer that an error is, in the envelope of the path's API."""
    status, _, body = render(error, scope)
    return Answer(status, scope["state"]["request_id"], body, error)


def visit_of(owner: Owner, access: Access) -> Visit:
    """Return the visit that a request of a batch is.

    Raises:
        AuthenticationFailed: its owner is not known any more.
        PermissionDenied: it may not ask for inference any more.
    """
    principal = principal_of(owner, access)
    require(principal, Permission.RUN_INFERENCE)
    return Visit(principal, "", Admission(principal.limit_subject, UNLIMITED, None))


def principal_of(owner: Owner, access: Access) -> Principal:
    """Return the owner as it is now, with no rights that it did not have when it handed it in.

    A key that has expired since then does no harm, one that was revoked or disabled does. Of the
    tokens of outside issuers nothing is known here after the request; they hold for the batch.

    Raises:
        AuthenticationFailed: it is not let in any more.
    """
    permissions = frozenset(Permission(name) for name in owner.permissions)
    found = _present(owner, access, permissions)
    if found is None:
        raise AuthenticationFailed(OWNER_GONE)
    return Principal(
        user_id=found.user_id,
        username=found.username,
        tenant=found.tenant,
        role=found.role,
        permissions=found.permissions & permissions,
        credential=found.credential,
        credential_id=found.credential_id,
        limits=UNLIMITED,
    )


def _present(owner: Owner, access: Access, permissions: frozenset[Permission]) -> Principal | None:
    match owner.credential:
        case "api_key":
            return access.roster.ring.holder_of(owner.credential_id)
        case "token":
            user = access.roster.user(owner.user_id)
            if user is None:
                return None
            return access.roster.principal_of(user, "token", owner.credential_id)
        case "none":
            return None if access.enabled else ANONYMOUS
        case "issuer":
            return Principal(
                user_id=owner.user_id,
                username=owner.username,
                tenant=owner.tenant,
                role=owner.role,
                permissions=permissions,
                credential="issuer",
                credential_id=owner.credential_id,
                limits=UNLIMITED,
            )
