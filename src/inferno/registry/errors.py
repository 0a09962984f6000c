"""The original's envelope: `{"success": true, "data"}`, `{"success": false, "error"}`.

What the original's clients do not look for comes beside it: `code`, a word for programs, and
`details`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Scope

from inferno.core import errors
from inferno.core.errors import InfernoError
from inferno.web.errors import MethodNotAllowed, headers_of
from inferno.web.exchange import JSON_TYPE, Header

ANSWERS: dict[type[InfernoError], tuple[int, str]] = {
    errors.InvalidRequest: (400, "invalid_request"),
    errors.PayloadTooLarge: (413, "too_large"),
    MethodNotAllowed: (405, "method_not_allowed"),
    errors.AuthenticationFailed: (401, "authentication_failed"),
    errors.PermissionDenied: (403, "permission_denied"),
    errors.NotFound: (404, "not_found"),
    errors.Conflict: (409, "conflict"),
    errors.Expired: (410, "expired"),
    errors.RateLimitExceeded: (429, "rate_limit_exceeded"),
    errors.Overloaded: (503, "unavailable"),
    errors.QuotaExceeded: (429, "quota_exceeded"),
    errors.Shed: (429, "unavailable"),
    errors.ModelNotLoaded: (503, "unavailable"),
    errors.ModelLoadFailed: (503, "unavailable"),
    errors.InferenceFailed: (500, "internal_error"),
    errors.LoopDetected: (508, "internal_error"),
    errors.DeadlineExceeded: (504, "timeout"),
    errors.ConfigurationError: (500, "internal_error"),
    errors.InfernoError: (500, "internal_error"),
}
"""HTTP status and code of every error; an error has those of its nearest class."""


def envelope(error: InfernoError) -> dict[str, Any]:
    """Return an error in the registry's envelope."""
    _, code = _answer(error)
    details = {"details": error.details} if error.details else {}
    return {"success": False, "error": error.message, "code": code, **details}


def render(error: InfernoError, _: Scope) -> tuple[int, list[Header], bytes]:
    """Return status, headers and body of an error."""
    status, _code = _answer(error)
    return status, [JSON_TYPE, *headers_of(error)], msgspec.json.encode(envelope(error))


def _answer(error: InfernoError) -> tuple[int, str]:
    return next(ANSWERS[cls] for cls in type(error).__mro__ if cls in ANSWERS)
