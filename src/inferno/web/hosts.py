"""Which names a request may have been sent to: the defence against DNS rebinding.

A page that rebinds its own name to our address sends that name. Loopback's names are nobody's, so
they are always served: this machine's own tools use them.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from inferno.core.errors import InvalidRequest
from inferno.web.door import SECURITY_HEADERS, Render
from inferno.web.exchange import header_of
from inferno.web.handshake import denying

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class TrustedHosts:
    """ASGI middleware that refuses requests for names that are not ours.

    Args:
        app: what is behind it.
        hosts: names, or `*.example.com` for all names below one.
        render: the API's error envelope.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], render: Render) -> None:
        self._app = app
        named = {host.lower() for host in hosts if not host.startswith("*")}
        self._names = LOOPBACK | named
        self._endings = tuple(host[1:].lower() for host in hosts if host.startswith("*."))
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with 400."""
        if scope["type"] == "lifespan" or self._is_ours(name_of(header_of(scope, b"host") or b"")):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            send = denying(send)
        request_id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        error = InvalidRequest("The Host header names a host that is not served here.")
        status, headers, body = self._render(error, scope)
        headers += [
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            *SECURITY_HEADERS,
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _is_ours(self, name: str) -> bool:
        return name in self._names or name.endswith(self._endings or ("\0",))


def name_of(host: bytes) -> str:
    """Return the name in a `Host` header, without the port, in lower case."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0]
