"""The control plane as an ASGI app.

It answers for its own health; tenants, deployments and publishing join it here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from inferno.core.errors import InfernoError, NotFound
from inferno.tenancy.access import Access
from inferno.web.door import Door, OnAnswer, Render
from inferno.web.errors import MethodNotAllowed, headers_of, status_of
from inferno.web.exchange import JSON_TYPE, Header

PUBLIC_PATHS = frozenset({"/health"})


@dataclass(frozen=True, slots=True)
class Mount:
    """Another API on the control plane, behind the same door.

    Args:
        prefix: its paths begin with it and a slash.
        app: gets the whole path, and `scope["state"]["visit"]`.
        render: its error envelope.
        is_public: says whether a request is let in although nobody says who sends it; it comes
            without a visit, and counts against its address.
    """

    prefix: str
    app: ASGIApp
    render: Render
    is_public: Callable[[Scope], bool] = lambda _: False

    def has(self, path: str) -> bool:
        """Return whether a path is the mount's."""
        return path == self.prefix or path.startswith(f"{self.prefix}/")


def build(
    *,
    access: Access,
    version: str,
    access_log: bool,
    mounts: Sequence[Mount] = (),
    on_answer: OnAnswer = lambda *_: None,
) -> ASGIApp:
    """Return the app.

    Args:
        access: lets callers in.
        version: the platform's version.
        access_log: log every request, not only those that fail.
        mounts: other APIs on the control plane.
        on_answer: told of each request when it is over.
    """
    started = time.monotonic()
    app = FastAPI(title="Inferno management API", version=version, docs_url=None, redoc_url=None)

    @app.get("/health", summary="Whether the control plane lives.")
    async def health() -> dict[str, Any]:
        uptime = int(time.monotonic() - started)
        return {"status": "healthy", "version": version, "uptime_seconds": uptime}

    app.add_exception_handler(HTTPException, _refused)
    behind = Guard(Switch(app, mounts), access, mounts)
    return Door(behind, render=renderer(mounts), access_log=access_log, on_answer=on_answer)


def renderer(mounts: Sequence[Mount]) -> Render:
    """Return what puts an error into the envelope of the API that the path belongs to."""

    def render_for(error: InfernoError, scope: Scope) -> tuple[int, list[Header], bytes]:
        path = scope.get("path", "")
        mount = next((one for one in mounts if one.has(path)), None)
        return (mount.render if mount else render)(error, scope)

    return render_for


class Switch:
    """Gives a request to the API that its path belongs to.

    Args:
        app: the management API, which has all other paths.
        mounts: the others.
    """

    def __init__(self, app: ASGIApp, mounts: Sequence[Mount]) -> None:
        self._app = app
        self._mounts = tuple(mounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        mount = next((one for one in self._mounts if one.has(scope["path"])), None)
        await (mount.app if mount else self._app)(scope, receive, send)


def _refused(request: Request, error: Exception) -> Response:
    """Answer in our envelope what the router refuses."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for this alone
    ours: InfernoError = NotFound("API endpoint not found")
    if error.status_code == 405:
        ours = MethodNotAllowed(request.method, (error.headers or {}).get("Allow", ""))
    status, headers, body = render(ours, request.scope)
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})


class Guard:
    """ASGI middleware that lets nobody in unknown.

    Args:
        app: what is behind it.
        access: lets callers in.
        mounts: they may have something that is for everybody.
    """

    def __init__(self, app: ASGIApp, access: Access, mounts: Sequence[Mount] = ()) -> None:
        self._app = app
        self._access = access
        self._mounts = tuple(mounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass.

        Raises:
            AuthenticationFailed: nobody knows the caller.
            RateLimitExceeded: a limit is used up.
        """
        if scope["path"] in PUBLIC_PATHS:
            await self._app(scope, receive, send)
            return
        if any(one.has(scope["path"]) and one.is_public(scope) for one in self._mounts):
            await self._access.knock(scope)
            await self._app(scope, receive, send)
            return
        visit = await self._access.enter(scope)
        try:
            scope["state"]["visit"] = visit
            await self._app(scope, receive, send)
        finally:
            await self._access.leave(visit)


def render(error: InfernoError, _: Scope) -> tuple[int, list[Header], bytes]:
    """Return an error in the management API's envelope: `{"error", "details"?}`."""
    details = {"details": error.details} if error.details else {}
    body = bytes(JSONResponse({"error": error.message, **details}).body)
    return status_of(error), [JSON_TYPE, *headers_of(error)], body
