"""The two error envelopes of the inference API: seed 001's own, and OpenAI's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.types import Scope

from inferno.core import errors
from inferno.core.errors import InfernoError, InvalidRequest
from inferno.web.errors import headers_of, status_of
from inferno.web.exchange import JSON_TYPE, Header

CODES: dict[type[InfernoError], str] = {
    errors.InvalidRequest: "INVALID_REQUEST",
    errors.ContextLengthExceeded: "CONTEXT_LENGTH_EXCEEDED",
    errors.AuthenticationFailed: "AUTHENTICATION_FAILED",
    errors.PermissionDenied: "AUTHORIZATION_FAILED",
    errors.NotFound: "INVALID_REQUEST",
    errors.ModelNotFound: "MODEL_NOT_FOUND",
    errors.NoValidTarget: "MODEL_NOT_FOUND",
    errors.Conflict: "INVALID_REQUEST",
    errors.RateLimitExceeded: "RATE_LIMIT_EXCEEDED",
    errors.ModelNotLoaded: "MODEL_NOT_LOADED",
    errors.ModelLoadFailed: "MODEL_NOT_LOADED",
    errors.InferenceFailed: "INFERENCE_FAILED",
    errors.ReplicaLost: "INFERENCE_FAILED",
    errors.Overloaded: "INFERENCE_FAILED",
    errors.QuotaExceeded: "RATE_LIMIT_EXCEEDED",
    errors.Shed: "RATE_LIMIT_EXCEEDED",
    errors.DeadlineExceeded: "TIMEOUT",
    errors.ConfigurationError: "INTERNAL_ERROR",
    errors.InfernoError: "INTERNAL_ERROR",
}
"""The ten codes of seed 001; an error has that of its nearest class."""

OPENAI_TYPES: dict[type[InfernoError], tuple[str, str | None]] = {
    errors.InvalidRequest: ("invalid_request_error", None),
    errors.ContextLengthExceeded: ("invalid_request_error", "context_length_exceeded"),
    errors.Unsupported: ("invalid_request_error", "unsupported_parameter"),
    errors.AuthenticationFailed: ("authentication_error", "invalid_api_key"),
    errors.PermissionDenied: ("permission_error", "permission_denied"),
    errors.NotFound: ("invalid_request_error", "not_found"),
    errors.ModelNotFound: ("invalid_request_error", "model_not_found"),
    errors.NoValidTarget: ("invalid_request_error", "no_valid_target"),
    errors.Conflict: ("invalid_request_error", "conflict"),
    errors.RateLimitExceeded: ("rate_limit_error", "rate_limit_exceeded"),
    errors.ModelNotLoaded: ("server_error", "model_not_loaded"),
    errors.ModelLoadFailed: ("server_error", "model_load_failed"),
    errors.InferenceFailed: ("server_error", "inference_failed"),
    errors.ReplicaLost: ("server_error", "inference_failed"),
    errors.LoopDetected: ("server_error", "loop_detected"),
    errors.Overloaded: ("server_error", "overloaded"),
    errors.QuotaExceeded: ("rate_limit_error", "quota_exceeded"),
    errors.Shed: ("server_error", "request_shed"),
    errors.DeadlineExceeded: ("server_error", "timeout"),
    errors.ConfigurationError: ("server_error", "internal_error"),
    errors.InfernoError: ("server_error", "internal_error"),
}
"""OpenAI's `type` and `code`."""

OPENAI_PATHS = (
    "/v1/chat/",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/v1/files",
    "/v1/batches",
)
NATIVE_ENDINGS = ("/load", "/unload")


def code_of(error: InfernoError) -> str:
    """Return seed 001's code of an error."""
    return str(_nearest(CODES, error))


def speaks_openai(path: str) -> bool:
    """Return whether a path belongs to the OpenAI-compatible API."""
    return path.startswith(OPENAI_PATHS) and not path.endswith(NATIVE_ENDINGS)


def native_envelope(error: InfernoError, request_id: str) -> dict[str, Any]:
    """Return `{"error": {"code", "message", "details"}, "request_id", "timestamp"}`."""
    body: dict[str, Any] = {"code": _nearest(CODES, error), "message": error.message}
    if isinstance(error, errors.RateLimitExceeded | errors.QuotaExceeded | errors.Shed):
        body["retry_after"] = error.retry_after
    if error.details:
        body["details"] = error.details
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"error": body, "request_id": request_id, "timestamp": now}


def openai_envelope(error: InfernoError, request_id: str) -> dict[str, Any]:
    """Return `{"error": {"message", "type", "param", "code"}}`."""
    kind, code = _nearest(OPENAI_TYPES, error)
    param = error.field if isinstance(error, InvalidRequest) else None
    if isinstance(error, errors.ModelNotFound):
        param = "model"
        available = ", ".join(error.details["available_models"]) or "none"
        message = f"{error.message}. Available models: {available}."
    else:
        message = error.message
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def render(error: InfernoError, scope: Scope) -> tuple[int, list[Header], bytes]:
    """Return status, headers and body of an error, in the envelope of the path's API."""
    envelope = openai_envelope if speaks_openai(scope["path"]) else native_envelope
    headers = [JSON_TYPE, *headers_of(error)]
    # Browsers cannot be told a bearer token; for the docs page they may ask for a password.
    if isinstance(error, errors.AuthenticationFailed) and scope["path"] == "/docs":
        headers.append((b"www-authenticate", b'Basic realm="API key as the password"'))
    body = msgspec.json.encode(envelope(error, scope["state"]["request_id"]))
    return status_of(error), headers, body


def _nearest(table: dict[type[InfernoError], Any], error: InfernoError) -> Any:
    return next(table[cls] for cls in type(error).__mro__ if cls in table)
