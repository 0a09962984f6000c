"""Messages on a WebSocket: seed 001's types as they come in, and the texts that go out."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from inferno.core.errors import InfernoError, InvalidRequest, Overloaded
from inferno.server.errors import native_envelope
from inferno.server.inference import Ending
from inferno.server.types import InferenceRequest
from inferno.web.exchange import decode_body

MAX_ID_LENGTH = 256
MAX_SHOWN = 1000
"""Characters of an error's message: it may repeat what the client sent."""

InferenceId = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]


class Auth(Struct, tag_field="type", tag="auth", forbid_unknown_fields=True):
    """Says who is calling: an API key or a token."""

    token: Annotated[str, Meta(min_length=1)]


class Inference(
    InferenceRequest,
    kw_only=True,
    tag_field="type",
    tag="inference",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """Asks for an answer, which bears the same id; it is streamed unless `stream` is false."""

    id: InferenceId


class Cancel(Struct, tag_field="type", tag="cancel", forbid_unknown_fields=True):
    """Ends an inference."""

    id: InferenceId


class Ping(Struct, tag_field="type", tag="ping"):
    """Asks for a pong, which repeats `id` and `timestamp`."""

    id: str | int | UnsetType | None = UNSET
    timestamp: str | int | float | UnsetType | None = UNSET


class Pong(Struct, tag_field="type", tag="pong"):
    """Answers nothing; some clients send it."""


Incoming = Auth | Inference | Cancel | Ping | Pong
TYPES = ("auth", "inference", "cancel", "ping", "pong")

_encoder = msgspec.json.Encoder()
_incoming: msgspec.json.Decoder[Incoming] = msgspec.json.Decoder(Incoming)


class Malformed(Exception):
    """A message that means nothing.

    Args:
        error: what is wrong with it.
        id: that it bears, where that much can be read.
    """

    def __init__(self, error: InvalidRequest, id: str | int | None = None) -> None:  # noqa: A002
        super().__init__(error.message)
        self.error = error
        self.id = id


class _Outline(Struct):
    type: Any = None
    id: Any = None


_outline: msgspec.json.Decoder[_Outline] = msgspec.json.Decoder(_Outline)


def decode(text: str | None) -> Incoming:
    """Return the message in a frame.

    Args:
        text: of the frame; None for a binary one.

    Raises:
        Malformed: it is none, and says why.
    """
    if text is None:
        raise Malformed(InvalidRequest("Messages are JSON in text frames, not binary frames."))
    try:
        message: Incoming = decode_body(_incoming, text, name="message")
    except InvalidRequest as error:
        raise _malformed(text, error) from None
    return message


def _malformed(text: str, error: InvalidRequest) -> Malformed:
    """Return the error for a message, as far as it can be read."""
    try:
        outline = _outline.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return Malformed(error)
    if isinstance(outline.type, str) and outline.type not in TYPES:
        known = ", ".join(TYPES)
        error = InvalidRequest(
            f"Unknown message type '{outline.type[:50]}'; known are {known}.", field="type"
        )
    id = outline.id  # noqa: A001 - its name in the messages
    is_echoed = (isinstance(id, str) and len(id) <= MAX_ID_LENGTH) or type(id) is int
    return Malformed(error, id if is_echoed else None)


def encode(**fields: Any) -> str:
    """Return a message as text; fields that are unset are left out."""
    return _encoder.encode({k: v for k, v in fields.items() if v is not UNSET}).decode()


def pong(ping: Ping) -> str:
    """Return the answer to a ping."""
    return encode(type="pong", id=ping.id, timestamp=ping.timestamp)


def token(id: str, text: str, index: int) -> str:  # noqa: A002 - its name in the message
    """Return a piece of an answer."""
    return _encoder.encode({"type": "token", "id": id, "token": text, "index": index}).decode()


def complete(id: str, model: str, ending: Ending, **more: Any) -> str:  # noqa: A002
    """Return the end of an answer."""
    return encode(
        type="complete",
        id=id,
        model=model,
        finish_reason=ending.finish_reason,
        usage=ending.usage or UNSET,
        **more,
    )


def error_text(
    error: InfernoError,
    id: str | int | None = None,  # noqa: A002
    request_id: str | None = None,
) -> str:
    """Return what went wrong, with the codes and details of the native API's errors.

    Args:
        error: what went wrong.
        id: of the message or inference that it is about; None where it is about none.
        request_id: as the log has it.
    """
    body = native_envelope(error, "")["error"]
    body["message"] = body["message"][:MAX_SHOWN]
    if isinstance(error, Overloaded):
        body["retry_after"] = error.retry_after
    about = {"id": UNSET if id is None else id, "request_id": request_id or UNSET}
    return encode(type="error", **body, **about)
