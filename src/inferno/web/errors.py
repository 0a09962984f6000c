"""HTTP statuses of the core errors. Envelopes are each API's own."""

from __future__ import annotations

from inferno.core import errors


class MethodNotAllowed(errors.InvalidRequest):
    """The path is right and the method is not: HTTP's own error, known to no other layer.

    Args:
        method: that was used.
        allowed: those that may be, as `Allow` lists them.
    """

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not allowed here; use {allowed}.", allowed=allowed)
        self.allowed = allowed


STATUSES: dict[type[errors.InfernoError], int] = {
    errors.InvalidRequest: 400,
    errors.ContextLengthExceeded: 400,
    errors.PayloadTooLarge: 413,
    errors.Unsupported: 400,
    MethodNotAllowed: 405,
    errors.AuthenticationFailed: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.ModelNotFound: 404,
    errors.Conflict: 409,
    errors.Expired: 410,
    errors.RateLimitExceeded: 429,
    errors.ModelNotLoaded: 503,
    errors.ModelLoadFailed: 503,
    errors.InferenceFailed: 500,
    errors.ReplicaLost: 500,
    errors.LoopDetected: 508,
    errors.Overloaded: 503,
    errors.QuotaExceeded: 429,
    errors.Shed: 429,
    errors.DeadlineExceeded: 504,
    errors.ConfigurationError: 500,
    errors.InfernoError: 500,
}


def status_of(error: errors.InfernoError) -> int:
    """Return the HTTP status of an error: that of the nearest class in the table."""
    return next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)


def headers_of(error: errors.InfernoError) -> list[tuple[bytes, bytes]]:
    """Return the headers that go with an error (RFC 9110): when to come back, what to show."""
    if isinstance(error, errors.RateLimitExceeded | errors.Overloaded):
        return [(b"retry-after", b"%d" % error.retry_after)]
    if isinstance(error, errors.AuthenticationFailed):
        return [(b"www-authenticate", b'Bearer realm="inferno"')]
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", error.allowed.encode("latin-1"))]
    return []
