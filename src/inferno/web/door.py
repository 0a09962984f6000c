"""The outermost ASGI layer of every API: request id, error envelope, access log."""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inferno.core.errors import InfernoError, Overloaded
from inferno.web.errors import status_of
from inferno.web.exchange import ClientDisconnected, Header, header_of
from inferno.web.handshake import denying

_bits = random.Random().getrandbits  # noqa: S311
"""Ids have to differ, not to be unpredictable; the operating system's generator is slower."""

_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

SWITCHING_PROTOCOLS = 101
HEADS = frozenset({"http.response.start", "websocket.accept"})
"""ASGI's messages that have a response's headers."""

Render = Callable[[InfernoError, Scope], tuple[int, list[Header], bytes]]
"""Turns an error into status, headers and body of the API's own envelope."""

OnAnswer = Callable[[Scope, int, float], None]
"""Told of each request when it is over: its scope, the status and how long it took in seconds."""

SECURITY_HEADERS: tuple[Header, ...] = (
    (b"api-version", b"1.0"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
"""On every response: the API's version, and what browsers should not do with it."""

EXPOSED_HEADERS = (
    "X-Request-ID",
    "API-Version",
    "Deprecation",
    "Sunset",
    "Link",
    "Retry-After",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-RateLimit-Reset-After",
)
"""Headers that pages of other origins may read, where such pages may call at all."""

log = structlog.get_logger(__name__)


class Standing(Protocol):
    """How a caller stands with its limits."""

    @property
    def limit(self) -> int:
        """Requests in the window."""

    @property
    def remaining(self) -> int:
        """How many more fit now."""

    @property
    def reset_after(self) -> float:
        """Seconds until one more fits than now."""


def rate_limit_headers(standing: Standing | None) -> list[Header]:
    """Return seed 001's `X-RateLimit-…` headers; none where nothing is limited."""
    if standing is None:
        return []
    return [
        (name, b"%d" % value) for name, value in zip(RATE_LIMIT, _figures(standing), strict=True)
    ]


RATE_LIMIT = (
    b"x-ratelimit-limit",
    b"x-ratelimit-remaining",
    b"x-ratelimit-reset",
    b"x-ratelimit-reset-after",
)


def _figures(standing: Standing) -> tuple[int, int, int, int]:
    after = math.ceil(standing.reset_after)
    return standing.limit, standing.remaining, math.ceil(time.time()) + after, after


def request_id_of(scope: Scope) -> str:
    """Return the caller's `X-Request-ID` where it is safe to repeat, else a new id."""
    given = header_of(scope, b"x-request-id")
    if given is not None and _ACCEPTABLE_ID.fullmatch(given):
        return given.decode("ascii")
    return f"req_{_bits(96):024x}"


class Outward:
    """What a door does with a response: its head gets the headers that every response has.

    Args:
        send: ASGI's.
        state: of the request: its id, how its sender stands with its limits, and the status of a
            response that has begun already.

    Attributes:
        status: of the response; 0 until it has begun.
    """

    __slots__ = ("_send", "_state", "status")

    def __init__(self, send: Send, state: MutableMapping[str, Any]) -> None:
        self._send = send
        self._state = state
        self.status: int = state.get("status", 0)

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a part of the response on."""
        if message["type"] in HEADS:
            self.status = message.get("status", SWITCHING_PROTOCOLS)
            message["headers"] = [*message.get("headers", ()), *headers_for_all(self._state)]
        return self._send(message)


def headers_for_all(state: MutableMapping[str, Any]) -> list[Header]:
    """Return the headers that every response has."""
    return [
        (b"x-request-id", state["request_id"].encode("ascii")),
        *SECURITY_HEADERS,
        *rate_limit_headers(state.get("standing")),
        *state.get("notices", ()),
    ]


def encoded(headers: Iterable[Header]) -> bytes:
    """Return headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


_SECURITY_LINES = encoded(SECURITY_HEADERS)
_RATE_LIMIT_LINES = encoded((name, b"%d") for name in RATE_LIMIT)


def lines_for_all(state: MutableMapping[str, Any]) -> bytes:
    """Return `headers_for_all` as they are sent."""
    standing, notices = state.get("standing"), state.get("notices", ())
    return b"".join(
        (
            b"x-request-id: %b\r\n" % state["request_id"].encode("ascii"),
            _SECURITY_LINES,
            b"" if standing is None else _RATE_LIMIT_LINES % _figures(standing),
            encoded(notices) if notices else b"",
        )
    )


class Door:
    """ASGI middleware that every request goes through, in and out.

    Args:
        app: what is behind the door.
        render: the API's error envelope.
        access_log: log every request, not only those that fail.
        on_answer: told of each request when it is over: status and seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        render: Render,
        access_log: bool,
        on_answer: OnAnswer = lambda *_: None,
    ) -> None:
        self._app = app
        self._render = render
        self._access_log = access_log
        self._on_answer = on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket; lifespan messages pass through."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            scope["method"] = "GET"  # which a handshake is (RFC 6455, 4.1)
            send = denying(send)
        state = self.arrive(scope)
        request_id = state["request_id"]
        outward = Outward(send, state)
        error: InfernoError | None = None
        try:
            await self._app(scope, receive, outward.send)
        except ClientDisconnected:
            self.note_departure(scope)
        except InfernoError as known:
            error = known
        except asyncio.CancelledError:
            # The listener cancels what still runs when the grace period ends.
            log.warning("request_cut_off", request_id=request_id, path=scope["path"])
            error = Overloaded("The server is shutting down; try again elsewhere.", retry_after=5)
        except Exception as unknown:
            log.exception("unexpected_error", request_id=request_id, path=scope["path"])
            error = InfernoError("An internal error occurred; the log has it under the request id.")
            error.__cause__ = unknown
        try:
            if error is not None:
                await self._refuse(error, scope, outward)
        finally:
            self._on_answer(scope, outward.status, time.perf_counter() - state["begun"])
        if error is not None or self._access_log:
            self._log(scope, outward.status, time.perf_counter() - state["begun"], error)

    def arrive(self, scope: Scope) -> MutableMapping[str, Any]:
        """Return the state of a request that comes in: its id, and when it began.

        One that was served without a task till now has them already.
        """
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        if "begun" not in state:
            state["begun"] = time.perf_counter()
            state["request_id"] = request_id_of(scope)
        return state

    def depart(self, scope: Scope, status: int) -> None:
        """Note that a request is over which did not need this door to answer it."""
        seconds = time.perf_counter() - scope["state"]["begun"]
        self._on_answer(scope, status, seconds)
        if self._access_log:
            self._log(scope, status, seconds, None)

    def note_departure(self, scope: Scope) -> None:
        """Note that a client left before it had its answer."""
        log.info("client_disconnected", request_id=scope["state"]["request_id"], path=scope["path"])

    async def _refuse(self, error: InfernoError, scope: Scope, outward: Outward) -> None:
        """Send the error's envelope, or break off a response that has begun."""
        if outward.status:
            # The head is out: only a broken connection tells the client that the body is not
            # whole. The connection closes when the app raises.
            raise error
        status, headers, body = self._render(error, scope)
        length = (b"content-length", b"%d" % len(body))
        start = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
        await outward.send(start)
        await outward.send({"type": "http.response.body", "body": body})

    def _log(self, scope: Scope, status: int, seconds: float, error: InfernoError | None) -> None:
        failed = error is not None and status_of(error) >= 500
        emit = log.warning if failed else log.info
        # Messages of refused input may repeat the input; only our own failures are spelt out.
        reason = {"error": type(error).__name__} if error else {}
        if failed:
            reason["message"] = str(error)
        emit(
            "request",
            request_id=scope["state"]["request_id"],
            method=scope["method"],
            path=scope["path"],
            status=status,
            duration_ms=round(seconds * 1000, 2),
            **reason,
        )
