"""Which web pages of other origins may call (the Fetch standard's CORS protocol).

It stands before the door, so that pages can read error answers too; preflights therefore end
here, and get here what the door puts on every other response.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from inferno.web.door import EXPOSED_HEADERS, SECURITY_HEADERS


class Cors(CORSMiddleware):
    """Answers preflights, and marks what pages of the listed origins may read.

    Args:
        app: what is behind it.
        origins: `https://app.example.com`, without a path.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID", "X-API-Key"],
            expose_headers=EXPOSED_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight."""
        response = super().preflight_response(request_headers)
        for name, value in SECURITY_HEADERS:
            response.headers[name.decode()] = value.decode()
        response.headers["x-request-id"] = f"req_{secrets.token_hex(12)}"
        return response
