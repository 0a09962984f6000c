"""What a call can end with, as one tree.

    ClientError
    ├── ConnectionFailed            the platform was not reached, or broke off
    │   └── NoAnswerInTime          it took too long between two parts of an answer
    ├── UnexpectedAnswer            what answered is not an Inferno of a version we know
    ├── WebhookRefused              a webhook's signature is missing, wrong or too old
    └── ApiError                    the platform refused, and says why
        ├── InvalidCall             INVALID_REQUEST
        │   ├── ContextTooLong      CONTEXT_LENGTH_EXCEEDED
        │   ├── NotThere            404, 410: nothing there, or nothing that the caller may see
        │   │   └── UnknownModel    MODEL_NOT_FOUND; lists the models there are
        │   └── Conflicting         409: it exists already, or was changed meanwhile
        ├── NotAuthenticated        AUTHENTICATION_FAILED
        ├── NotAllowed              AUTHORIZATION_FAILED
        ├── RateLimited             RATE_LIMIT_EXCEEDED; says when to come back
        ├── ServerBusy              503: queues are full, it is draining, or a part of it is away
        │   └── ModelUnavailable    MODEL_NOT_LOADED: loading it failed, or is switched off
        ├── InferenceError          INFERENCE_FAILED
        ├── TimedOut                TIMEOUT: the platform gave up
        └── ServerFailed            INTERNAL_ERROR

`ApiError.code` is always one of seed 001's ten codes, or None where the answer had none; answers
of the OpenAI-compatible calls are translated.
"""

from __future__ import annotations

import datetime
import email.utils
from collections.abc import Mapping
from typing import Any

import msgspec

MAX_SHOWN = 200


class ClientError(Exception):
    """Base of the tree."""


class ConnectionFailed(ClientError):
    """The platform was not reached, or the connection ended before the answer.

    Args:
        message: what happened.
        sent: whether the platform may have begun to work on the call.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class NoAnswerInTime(ConnectionFailed):
    """The platform took longer than the client's `timeout` between two parts of an answer."""


class UnexpectedAnswer(ClientError):
    """The answer is not what the call is answered with."""


class WebhookRefused(ClientError):
    """A webhook cannot be believed."""


class ApiError(ClientError):
    """The platform refused, or failed.

    Args:
        message: what it says.
        status: HTTP status; None where the error came on a stream or WebSocket.
        code: one of seed 001's codes.
        details: facts for programs.
        retry_after: seconds after which trying again makes sense, where it says so.
        request_id: under which the platform's log has it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.details = dict(details or {})
        self.retry_after = retry_after
        self.request_id = request_id


class InvalidCall(ApiError):
    """The call is malformed, of a wrong type or out of range."""

    @property
    def field(self) -> str | None:
        """The JSON path of the field that is wrong, where one is."""
        found = self.details.get("field")
        return found if isinstance(found, str) else None


class ContextTooLong(InvalidCall):
    """The prompt does not fit into the model's context."""


class NotThere(InvalidCall):
    """The named thing does not exist, or the caller may not know that it does."""


class UnknownModel(NotThere):
    """No model has this name."""

    @property
    def available(self) -> list[str]:
        """The models there are."""
        return list(self.details.get("available_models", ()))


class Conflicting(InvalidCall):
    """The thing exists already, or was changed meanwhile."""


class NotAuthenticated(ApiError):
    """No credentials were shown, or wrong ones."""


class NotAllowed(ApiError):
    """The caller is known and may not do this."""


class RateLimited(ApiError):
    """A limit is used up; `retry_after` says for how long."""


class ServerBusy(ApiError):
    """The platform cannot take the call now."""


class ModelUnavailable(ServerBusy):
    """The model is there, and cannot be loaded."""


class InferenceError(ApiError):
    """The replica failed while it worked."""


class TimedOut(ApiError):
    """The platform's own time for the call ran out."""


class ServerFailed(ApiError):
    """The platform failed in a way that nobody foresaw; its log has the request id."""


_BY_CODE: dict[str, type[ApiError]] = {
    "INVALID_REQUEST": InvalidCall,
    "AUTHENTICATION_FAILED": NotAuthenticated,
    "AUTHORIZATION_FAILED": NotAllowed,
    "MODEL_NOT_FOUND": UnknownModel,
    "MODEL_NOT_LOADED": ModelUnavailable,
    "RATE_LIMIT_EXCEEDED": RateLimited,
    "CONTEXT_LENGTH_EXCEEDED": ContextTooLong,
    "INFERENCE_FAILED": InferenceError,
    "TIMEOUT": TimedOut,
    "INTERNAL_ERROR": ServerFailed,
}

_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidCall,
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotThere,
    405: InvalidCall,
    409: Conflicting,
    410: NotThere,
    413: InvalidCall,
    429: RateLimited,
    503: ServerBusy,
    504: TimedOut,
}

_CODE_OF_OPENAI = {
    "context_length_exceeded": "CONTEXT_LENGTH_EXCEEDED",
    "model_not_found": "MODEL_NOT_FOUND",
    "rate_limit_exceeded": "RATE_LIMIT_EXCEEDED",
    "model_not_loaded": "MODEL_NOT_LOADED",
    "model_load_failed": "MODEL_NOT_LOADED",
    "inference_failed": "INFERENCE_FAILED",
    "overloaded": "INFERENCE_FAILED",
    "timeout": "TIMEOUT",
    "internal_error": "INTERNAL_ERROR",
}
_CODE_OF_OPENAI_TYPE = {
    "invalid_request_error": "INVALID_REQUEST",
    "authentication_error": "AUTHENTICATION_FAILED",
    "permission_error": "AUTHORIZATION_FAILED",
    "rate_limit_error": "RATE_LIMIT_EXCEEDED",
    "server_error": "INTERNAL_ERROR",
}


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Return the error that an answer is, in either envelope, or in none.

    Args:
        status: HTTP status, 400 or more.
        headers: by lower-case name.
        body: of the answer.
    """
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        content = None
    error = error_in(content, status=status)
    if error is None:
        shown = body[:MAX_SHOWN].decode("utf-8", "replace").strip()
        kind = _BY_STATUS.get(status, ServerFailed if status >= 500 else InvalidCall)
        error = kind(f"The server answered {status}: {shown or 'nothing more'}", status=status)
    wait = wait_of(headers.get("retry-after"))
    error.retry_after = error.retry_after if wait is None else wait
    error.request_id = error.request_id or headers.get("x-request-id")
    return error


def error_in(content: Any, *, status: int | None = None) -> ApiError | None:
    """Return the error that a JSON value carries in any of the envelopes, or None.

    Args:
        content: an answer's body, an event of a stream, or `{"error": …}` made of a message.
        status: HTTP status, where there is one.
    """
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, str) and content.get("success") is False:  # a registry's
        error = {"message": error, "details": content.get("details")}
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    code, details = _code_of(error), error.get("details")
    if not isinstance(details, dict):
        details = {"field": error["param"]} if isinstance(error.get("param"), str) else {}
    retry_after = error.get("retry_after")
    request_id = content.get("request_id")
    return _class_of(code, status, details)(
        error["message"],
        status=status,
        code=code,
        details=details,
        retry_after=retry_after if isinstance(retry_after, int | float) else None,
        request_id=request_id if isinstance(request_id, str) else None,
    )


def _code_of(error: Mapping[str, Any]) -> str | None:
    """Return the seed's code of an error in either envelope."""
    code, kind = error.get("code"), error.get("type")
    if isinstance(code, str):
        code = _CODE_OF_OPENAI.get(code, code)
        if code in _BY_CODE:
            return code
    return _CODE_OF_OPENAI_TYPE.get(kind) if isinstance(kind, str) else None


def _class_of(code: str | None, status: int | None, details: Mapping[str, Any]) -> type[ApiError]:
    """Return the class: the code's, refined by the status where several share a code."""
    by_status = _BY_STATUS.get(status) if status is not None else None
    by_code = _BY_CODE.get(code) if code is not None else None
    if by_code is None or (
        by_status is not None and (issubclass(by_status, by_code) or by_code is InferenceError)
    ):
        return by_status or ServerFailed
    return by_code


def wait_of(retry_after: str | None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3), if any."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())
