"""Errors as Kubernetes' `Status` objects: reason, code, details and causes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.types import Scope

from inferno.core import errors
from inferno.core.kinds import Cause, InvalidResource
from inferno.web.errors import MethodNotAllowed, headers_of
from inferno.web.exchange import JSON_TYPE, Header

RESOURCE_STATE = "cluster_resource"
"""Where a request's scope state holds what it is about, for the words of its errors."""


class AlreadyExists(errors.Conflict):
    """A resource of that name is there already."""


class ApplyConflict(errors.Conflict):
    """Another manager looks after fields that were applied with other values.

    Args:
        message: in Kubernetes' words, which `kubectl` shows.
        causes: one for each field.
    """

    def __init__(self, message: str, causes: Iterable[Cause]) -> None:
        super().__init__(message)
        self.causes = list(causes)


class UnsupportedMediaType(errors.InvalidRequest):
    """The body's type is none that is understood here."""


class NotAcceptable(errors.InvalidRequest):
    """The client takes none of the types that can be sent."""


class VersionAhead(errors.Overloaded):
    """A version was asked for that the store has not reached: it comes from another database."""

    def __init__(self, version: int) -> None:
        super().__init__(f"Too large resource version: {version}, there is none so new.")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a request is about.

    Args:
        group: API group.
        kind: singular CamelCase name.
        plural: lower-case plural.
        name: of the resource; empty where the request is about many.
    """

    group: str
    kind: str
    plural: str
    name: str = ""

    @property
    def resource(self) -> str:
        """`plural.group`, as messages name the kind."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


REASONS: dict[type[errors.InfernoError], tuple[int, str]] = {
    errors.InvalidRequest: (400, "BadRequest"),
    InvalidResource: (422, "Invalid"),
    errors.PayloadTooLarge: (413, "RequestEntityTooLarge"),
    UnsupportedMediaType: (415, "UnsupportedMediaType"),
    NotAcceptable: (406, "NotAcceptable"),
    MethodNotAllowed: (405, "MethodNotAllowed"),
    errors.AuthenticationFailed: (401, "Unauthorized"),
    errors.PermissionDenied: (403, "Forbidden"),
    errors.NotFound: (404, "NotFound"),
    errors.Conflict: (409, "Conflict"),
    AlreadyExists: (409, "AlreadyExists"),
    ApplyConflict: (409, "Conflict"),
    errors.Expired: (410, "Expired"),
    errors.RateLimitExceeded: (429, "TooManyRequests"),
    errors.ModelNotLoaded: (503, "ServiceUnavailable"),
    errors.ModelLoadFailed: (503, "ServiceUnavailable"),
    errors.Overloaded: (503, "ServiceUnavailable"),
    errors.QuotaExceeded: (429, "TooManyRequests"),
    errors.Shed: (429, "TooManyRequests"),
    VersionAhead: (504, "Timeout"),
    errors.DeadlineExceeded: (504, "Timeout"),
    errors.ConfigurationError: (500, "InternalError"),
    errors.InferenceFailed: (500, "InternalError"),
    errors.LoopDetected: (508, "InternalError"),
    errors.InfernoError: (500, "InternalError"),
}
"""HTTP status and reason of every error."""


def status_object(error: errors.InfernoError, subject: Subject | None = None) -> dict[str, Any]:
    """Return an error as a `Status`.

    Args:
        error: what went wrong.
        subject: what the request was about, where that is known.
    """
    error = _with_causes(error)
    code, reason = next(REASONS[cls] for cls in type(error).__mro__ if cls in REASONS)
    details: dict[str, Any] = {}
    if subject is not None:
        of_object = {"name": subject.name, "group": subject.group}
        kind = subject.kind if reason == "Invalid" else subject.plural
        details = {key: value for key, value in of_object.items() if value} | {"kind": kind}
    causes = getattr(error, "causes", None)
    if causes:
        details["causes"] = [
            {"reason": _reason(error, cause), "message": cause.message, "field": cause.field}
            for cause in causes
        ]
    if isinstance(error, errors.RateLimitExceeded | errors.Overloaded):
        details["retryAfterSeconds"] = error.retry_after
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": _message(error, reason, subject),
        "reason": reason,
        "code": code,
    }
    return status | ({"details": details} if details else {})


def success(subject: Subject, uid: str) -> dict[str, Any]:
    """Return the `Status` that answers a deletion."""
    details = {"name": subject.name, "group": subject.group, "kind": subject.plural, "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }


def _with_causes(error: errors.InfernoError) -> errors.InfernoError:
    """Turn what the core found wrong with a field into what Kubernetes calls invalid."""
    if type(error) is errors.InvalidRequest and error.field is not None:
        return InvalidResource([Cause(error.field, f"Invalid value: {error.message}")])
    return error


def _reason(error: errors.InfernoError, cause: Cause) -> str:
    return "FieldManagerConflict" if isinstance(error, ApplyConflict) else cause.reason


def _message(error: errors.InfernoError, reason: str, subject: Subject | None) -> str:
    """Put it in the words that people know from Kubernetes, and tools look for."""
    if subject is None:
        return error.message
    about = f'{subject.resource} "{subject.name}"'
    if isinstance(error, InvalidResource):
        kind = f"{subject.kind}.{subject.group}" if subject.group else subject.kind
        said = [f"{cause.field}: {cause.message}" for cause in error.causes]
        listed = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
        return f'{kind} "{subject.name}" is invalid: {listed}'
    if reason == "NotFound" and subject.name and not error.details.get("spelt_out"):
        return f"{about} not found"
    if reason == "AlreadyExists":
        return f"{about} already exists"
    if reason == "Conflict" and type(error) is errors.Conflict:
        return f"Operation cannot be fulfilled on {about}: {error.message}"
    if reason == "Forbidden":
        return f"{about if subject.name else subject.resource} is forbidden: {error.message}"
    return error.message


def render(error: errors.InfernoError, scope: Scope) -> tuple[int, list[Header], bytes]:
    """Return an error as the answer to a request."""
    status = status_object(error, scope.get("state", {}).get(RESOURCE_STATE))
    return status["code"], [JSON_TYPE, *headers_of(error)], msgspec.json.encode(status)
