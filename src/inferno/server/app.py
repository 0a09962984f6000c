"""The inference API as an ASGI app: its operations, and the doors before them."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from inferno.core.errors import InvalidRequest, NotFound
from inferno.server.deprecations import DEPRECATED, with_deprecations
from inferno.server.errors import render
from inferno.server.openapi import document
from inferno.server.operation import Endpoint, Operation, Services, Visited
from inferno.server.operations import operations
from inferno.server.websocket import PATHS, SocketSettings, WebSocketEndpoint
from inferno.tenancy.access import Access
from inferno.web.deprecation import Deprecations
from inferno.web.door import Door
from inferno.web.errors import MethodNotAllowed


def build(
    services: Services,
    *,
    access_log: bool,
    sockets: SocketSettings,
    deprecated: Deprecations = DEPRECATED,
) -> Door:
    """Return the app.

    Args:
        services: what handlers call.
        access_log: log every request, not only those that fail.
        sockets: how WebSockets are served.
        deprecated: calls that will go, by path.
    """
    table = with_deprecations(operations(), deprecated)
    table += [Operation("GET", path, no_handshake, "Open a WebSocket.") for path in PATHS]
    described = document(table, version=services.version)

    async def openapi(exchange: Visited, _: Services) -> None:
        await exchange.respond_json(described)

    table.append(Operation("GET", "/openapi.json", openapi, "This document."))
    endpoints = {(o.method, o.path): Endpoint(o, services) for o in table}
    routes: list[BaseRoute] = [
        Route(path, endpoint, methods=[method], include_in_schema=False)
        for (method, path), endpoint in endpoints.items()
    ]
    open_socket = WebSocketEndpoint(services, sockets)
    routes += [WebSocketRoute(path, open_socket) for path in PATHS]
    elsewhere = Endpoint(Operation("", "", nothing_here, ""), services)
    router = Router(routes, redirect_slashes=False, default=elsewhere)
    dispatch = Dispatch(endpoints, RefusedMethods(router, services.access))
    return Door(
        dispatch,
        render=render,
        access_log=access_log,
        on_answer=services.observability.requests.answering("inference"),
    )


async def no_handshake(exchange: Visited, _: Services) -> None:
    """Answer whoever sends a plain request to where WebSockets are opened."""
    raise InvalidRequest(
        f"'{exchange.scope['path']}' is for WebSockets; connect with ws:// or wss://."
    )


async def nothing_here(exchange: Visited, _: Services) -> None:
    """Answer for paths that are nobody's; strangers are not told which those are."""
    path = exchange.scope["path"]
    if path.removeprefix("/").partition("/")[0] in ELSEWHERE:
        raise NotFound(
            f"There is nothing at '{path}' here; the control plane serves it, by default on port "
            "8085."
        )
    raise NotFound(f"There is nothing at '{path}'.")


ELSEWHERE = frozenset({"inference_server", "inference_servers", "quota", "k8s"})
"""What paths of the control plane begin with."""


class Dispatch:
    """Finds what serves a request by its method and path alone, where that is enough.

    Starlette's router tries one pattern after the other, which takes longer than all else that is
    done before a request is let in.

    Args:
        endpoints: by method and path; those with placeholders are left out.
        otherwise: serves all others: placeholders, WebSockets, and what is not served at all.
    """

    def __init__(self, endpoints: Mapping[tuple[str, str], ASGIApp], otherwise: ASGIApp) -> None:
        self._endpoints = {key: app for key, app in endpoints.items() if "{" not in key[1]}
        self._otherwise = otherwise

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        app = self._otherwise
        if scope["type"] == "http":
            app = self._endpoints.get((scope["method"], scope["path"]), app)
        return app(scope, receive, send)


class RefusedMethods:
    """Turns the router's 405 into an error of ours, so that it gets our envelope.

    Args:
        app: the router.
        access: asked first, so that strangers are not told what there is.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["app"] = self
        try:
            await self._app(scope, receive, send)
        except HTTPException as refused:
            await self._access.leave(await self._access.enter(scope))
            allowed = (refused.headers or {}).get("Allow", "")
            raise MethodNotAllowed(scope["method"], allowed) from None
