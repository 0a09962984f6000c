"""A WebSocket's handshake, which is an HTTP request until it is accepted."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import Message, Scope, Send

from inferno.core.errors import PermissionDenied
from inferno.web.exchange import header_of

DEFAULT_PORTS = {"http": 80, "https": 443}


def denying(send: Send) -> Send:
    """Return a `send` that takes an HTTP response as the refusal of a handshake.

    This is ASGI's extension "WebSocket Denial Response": whoever refuses need not know that it was
    a handshake.
    """

    async def send_denial(message: Message) -> None:
        if message["type"].startswith("http.response."):
            message = {**message, "type": f"websocket.{message['type']}"}
        await send(message)

    return send_denial


def check_origin(scope: Scope, allowed: Collection[str]) -> None:
    """Refuse the pages of other sites.

    Browsers let any page open a WebSocket to any host, and say in `Origin` whose page it is.

    Args:
        scope: of the handshake.
        allowed: origins of other sites whose pages may; `*` for all.

    Raises:
        PermissionDenied: the page is neither the host's own nor allowed.
    """
    origin = header_of(scope, b"origin")
    if origin is None or "*" in allowed:
        return
    text = origin.decode("latin-1")
    if text in allowed or is_same_host(text, (header_of(scope, b"host") or b"").decode("latin-1")):
        return
    raise PermissionDenied("Pages of this origin may not connect.", origin=text[:200])


def is_same_host(origin: str, host: str) -> bool:
    """Return whether an `Origin` and a `Host` name the same host and port.

    The scheme is left out: behind a proxy that ends HTTPS it differs.
    """
    try:
        page = urlsplit(origin)
        asked = urlsplit(f"//{host}")
        port = DEFAULT_PORTS.get(page.scheme)
        here = (asked.hostname, asked.port or port)
        return page.hostname is not None and (page.hostname, page.port or port) == here
    except ValueError:
        return False
