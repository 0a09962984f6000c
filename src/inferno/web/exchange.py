"""One HTTP request and its response, straight on ASGI.

Starlette's `Request` and `StreamingResponse` cost a task hop per chunk; the data plane needs
neither. An `Exchange` reads a bounded body, writes a response in one piece or in many, and
knows when the client has left.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

import msgspec
from starlette.types import Message, Receive, Scope, Send

from inferno.core.errors import InfernoError, InvalidRequest, PayloadTooLarge

Header = tuple[bytes, bytes]
JSON_TYPE: Header = (b"content-type", b"application/json")
EVENT_STREAM: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

DEPARTURE = "inferno.departure"
"""ASGI extension of our connections: says when the client leaves, see `Cycle.on_departure`."""

NAMED = "inferno.named"
"""In the scope of a request none of whose headers was sent twice: its headers by their names."""

_encoder = msgspec.json.Encoder()
_WHERE = re.compile(r"(.*) - at (?:`key` in )?`\$(.*)`", re.DOTALL)


SLICE = 256 * 1024
"""Bytes of a response that are written at once."""


class ClientDisconnected(Exception):
    """The client closed the connection before it had its answer."""


OnDeparture = Callable[[Callable[[], None] | None], bool]


class Exchange:
    """A request with its response.

    Args:
        scope: ASGI scope; `scope["state"]` carries what earlier doors found out.
        receive: ASGI receive.
        send: ASGI send.
        max_body_bytes: largest body that is read, in bytes.

    Attributes:
        started: whether the response has begun.
        failure: what went wrong after that, where it could be told within the response.
        whole: whether the client has all that it asked for; it may leave before the end is tidied.
    """

    __slots__ = ("_receive", "_send", "failure", "max_body_bytes", "scope", "started", "whole")

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, max_body_bytes: int) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.max_body_bytes = max_body_bytes
        self.started = False
        self.failure: InfernoError | None = None
        self.whole = False

    @property
    def request_id(self) -> str:
        """The request's id, as in `X-Request-ID`."""
        return str(self.scope["state"]["request_id"])

    @property
    def path_params(self) -> dict[str, str]:
        """What the route's placeholders matched."""
        return dict(self.scope.get("path_params", {}))

    def header(self, name: bytes) -> bytes | None:
        """Return the first header of that lower-case name."""
        return header_of(self.scope, name)

    async def body(self) -> bytes:
        """Read the whole body.

        Raises:
            PayloadTooLarge: as soon as the announced or the received size is over the limit;
                what is still to come is not read.
            ClientDisconnected: the client left before the end.
        """
        announced = self.header(b"content-length")
        if announced is not None and int(announced) > self.max_body_bytes:
            raise PayloadTooLarge(limit=self.max_body_bytes)
        message = await self._receive_body()
        if not message.get("more_body", False):
            return bytes(self._checked(message.get("body", b"")))
        parts = bytearray(message.get("body", b""))
        while message.get("more_body", False):
            message = await self._receive_body()
            parts += message.get("body", b"")
            self._checked(parts)
        return bytes(parts)

    async def pieces(self, *, max_bytes: int) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, for what is too large to be in memory.

        Args:
            max_bytes: largest body that is read.

        Raises:
            PayloadTooLarge: as soon as the announced or the received size is over the limit.
            ClientDisconnected: the client left before the end.
        """
        announced = self.header(b"content-length")
        if announced is not None and int(announced) > max_bytes:
            raise PayloadTooLarge(limit=max_bytes)
        received = 0
        more = True
        while more:
            message = await self._receive_body()
            piece = message.get("body", b"")
            more = message.get("more_body", False)
            received += len(piece)
            if received > max_bytes:
                raise PayloadTooLarge(limit=max_bytes)
            if piece:
                yield piece

    async def _receive_body(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        return message

    def _checked(self, body: Any) -> Any:
        if len(body) > self.max_body_bytes:
            raise PayloadTooLarge(limit=self.max_body_bytes)
        return body

    def client_present(self) -> Presence:
        """Cancel the enclosed work when the client leaves; call it after `body`.

        Raises:
            ClientDisconnected: the client left while the work was going on.
        """
        return Presence(self.scope, self._receive)

    async def respond(
        self, status: int, body: bytes, headers: Iterable[Header] = (JSON_TYPE,)
    ) -> None:
        """Send a whole response; one that is large no faster than the client takes it."""
        await self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        for begin in range(0, len(body) - SLICE, SLICE):
            await self.write(body[begin : begin + SLICE])
        last = (max(len(body), 1) - 1) // SLICE * SLICE
        await self._send({"type": "http.response.body", "body": body[last:]})

    async def respond_json(
        self, payload: Any, *, status: int = 200, headers: Iterable[Header] = ()
    ) -> None:
        """Send a whole JSON response; `payload` is anything msgspec encodes."""
        await self.respond(status, _encoder.encode(payload), [JSON_TYPE, *headers])

    def start(self, status: int, headers: Iterable[Header]) -> Awaitable[None]:
        """Send the head of a response; `write` and `finish` follow."""
        self.started = True
        return self._send(
            {"type": "http.response.start", "status": status, "headers": list(headers)}
        )

    def write(self, chunk: bytes) -> Awaitable[None]:
        """Send a piece of the body; waits while the client is slower than we are."""
        return self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def finish(self) -> None:
        """End the body."""
        await self._send({"type": "http.response.body", "body": b""})


class Presence:
    """Cancels the task that is in the block when the client leaves.

    Args:
        scope: of the request.
        receive: ASGI's, for servers that do not say by themselves when the client leaves.
    """

    __slots__ = ("_left", "_on_departure", "_receive", "_task", "_watcher")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._on_departure: OnDeparture | None = scope.get("extensions", {}).get(DEPARTURE)
        self._receive = receive
        self._left = False
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - an ASGI app always runs in a task
        self._task = task
        if self._on_departure is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
        elif not self._on_departure(self._leave):
            raise ClientDisconnected

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._on_departure is not None:
            self._on_departure(None)
        if self._watcher is not None:
            self._watcher.cancel()
        if self._left and isinstance(error, asyncio.CancelledError) and self._task.uncancel() == 0:
            raise ClientDisconnected from None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._left = True
        self._task.cancel()


def header_of(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header of that lower-case name from an ASGI scope."""
    named: Mapping[bytes, bytes] | None = scope.get(NAMED)
    if named is not None:
        return named.get(name)
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def decode_body(
    decoder: msgspec.json.Decoder[Any], body: bytes | str, *, name: str = "request body"
) -> Any:
    """Decode a JSON body into the decoder's type.

    Args:
        decoder: of the type that is wanted.
        body: what was received.
        name: what errors call it.

    Raises:
        InvalidRequest: not JSON, nested too deeply, a missing, unknown or mistyped field, or a
            value out of range; `field` names it.
    """
    if not body:
        raise InvalidRequest(f"The {name} is empty; a JSON object is needed.")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid_request(str(error)) from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"The {name} is not valid UTF-8.") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The {name} is not valid JSON: {error}.") from None
    except RecursionError:
        raise InvalidRequest(f"The {name} is nested too deeply.") from None


def invalid_request(message: str) -> InvalidRequest:
    """Turn msgspec's words into an error that names the field.

    msgspec says "Expected `int`, got `str` - at `$.max_tokens`", "Object missing required field
    `model`", "Object contains unknown field `modle`", or, of an object's key, "… - at `key` in
    `$.logit_bias`".
    """
    found = _WHERE.fullmatch(message)
    text, path = (found[1], found[2].lstrip(".")) if found else (message, "")
    if text.startswith("Object missing required field `"):
        name = text.split("`")[1]
        return _about(path, name, f"Missing required field '{_join(path, name)}'.")
    if text.startswith("Object contains unknown field `"):
        name = text.split("`")[1]
        return _about(path, name, f"Unknown field '{_join(path, name)}'.")
    shown = text.replace("`", "'").replace("'null'", "null")
    return InvalidRequest(
        f"Invalid value for '{path}': {shown}." if path else f"{shown}.", field=path or None
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _about(path: str, name: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, field=_join(path, name))
