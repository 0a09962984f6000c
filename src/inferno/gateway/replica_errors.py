"""What endpoints say went wrong, as core errors."""

from __future__ import annotations

import re

import msgspec

from inferno.core.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    InferenceFailed,
    InfernoError,
    InvalidRequest,
    Overloaded,
    ReplicaLost,
    Unsupported,
)
from inferno.gateway.upstream import UpstreamError, UpstreamResponse, UpstreamTimeout

MAX_ERROR_BYTES = 64 * 1024


def is_silence(error: BaseException) -> bool:
    """Return whether an endpoint that had a request said nothing for too long."""
    return isinstance(error, UpstreamTimeout) or isinstance(error.__cause__, UpstreamTimeout)


def broken_off(error: UpstreamError) -> InfernoError:
    """Say that the endpoint went away, or fell silent, while it worked."""
    if isinstance(error, UpstreamTimeout):
        return DeadlineExceeded("The replica that worked on the request fell silent.")
    return ReplicaLost(
        "The replica that worked on the request failed; the request may be tried again.",
        cause=type(error).__name__,
    )


class _ErrorBody(msgspec.Struct):
    message: str = ""
    type: str = ""
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class _ErrorEnvelope(msgspec.Struct):
    error: _ErrorBody


_TOO_LONG_TO_EMBED = re.compile(r"input \((\d+) tokens\) is too large .*batch size: (\d+)")
"""llama.cpp embeds a text in one step, so a step has to hold all of it."""

_errors: msgspec.json.Decoder[_ErrorEnvelope] = msgspec.json.Decoder(_ErrorEnvelope)


async def refusal(response: UpstreamResponse) -> InfernoError:
    """Return the core error that a replica's error answer stands for."""
    try:
        body = await response.read(MAX_ERROR_BYTES)
    except UpstreamError as error:
        return broken_off(error)
    return replica_error(response.status, body)


def replica_error(status: int, body: bytes) -> InfernoError:
    """Translate a replica's status and OpenAI-style error body.

    Args:
        status: HTTP status; 200 for an error inside a stream.
        body: the error's JSON.
    """
    try:
        error = _errors.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = _ErrorBody()
    if error.type == "exceed_context_size_error":
        return ContextLengthExceeded(prompt_tokens=error.n_prompt_tokens, context_size=error.n_ctx)
    if (too_long := _TOO_LONG_TO_EMBED.match(error.message)) is not None:
        tokens, batch = map(int, too_long.groups())
        return ContextLengthExceeded(prompt_tokens=tokens, context_size=batch, option="batch_size")
    if error.type == "not_supported_error":
        return Unsupported(error.message)
    if status in (400, 422):
        return InvalidRequest(error.message or "The replica refused the request.")
    if status in (429, 503):
        return Overloaded(error.message or "The replica is busy.")
    return InferenceFailed(error.message or "The replica failed.", replica_status=status)
