"""Both error envelopes are complete: every core error has a code, a status and a place."""

import inspect
import json
from typing import Any

import pytest

from inferno.core import errors
from inferno.core.errors import InfernoError
from inferno.server.errors import (
    CODES,
    OPENAI_TYPES,
    native_envelope,
    openai_envelope,
    render,
    speaks_openai,
)
from inferno.web.errors import STATUSES, status_of

SEED_CODES = {
    "INVALID_REQUEST", "AUTHENTICATION_FAILED", "AUTHORIZATION_FAILED", "MODEL_NOT_FOUND",
    "MODEL_NOT_LOADED", "RATE_LIMIT_EXCEEDED", "CONTEXT_LENGTH_EXCEEDED", "INFERENCE_FAILED",
    "TIMEOUT", "INTERNAL_ERROR",
}  # fmt: skip

EXAMPLES: dict[type[InfernoError], tuple[InfernoError, int, str]] = {
    type(error): (error, status, code)
    for error, status, code in [
        (InfernoError("x"), 500, "INTERNAL_ERROR"),
        (errors.InvalidRequest("x"), 400, "INVALID_REQUEST"),
        (
            errors.ContextLengthExceeded(prompt_tokens=9, context_size=8),
            400,
            "CONTEXT_LENGTH_EXCEEDED",
        ),
        (errors.PayloadTooLarge(limit=1), 413, "INVALID_REQUEST"),
        (errors.Unsupported("x"), 400, "INVALID_REQUEST"),
        (errors.AuthenticationFailed("x"), 401, "AUTHENTICATION_FAILED"),
        (errors.PermissionDenied("x"), 403, "AUTHORIZATION_FAILED"),
        (errors.NotFound("x"), 404, "INVALID_REQUEST"),
        (errors.ModelNotFound("x", ["a", "b"]), 404, "MODEL_NOT_FOUND"),
        (errors.Conflict("x"), 409, "INVALID_REQUEST"),
        (errors.Expired("x"), 410, "INVALID_REQUEST"),
        (errors.RateLimitExceeded(retry_after=30), 429, "RATE_LIMIT_EXCEEDED"),
        (errors.ModelNotLoaded("x"), 503, "MODEL_NOT_LOADED"),
        (errors.ModelLoadFailed("x", reason="NotGGUF", message="y"), 503, "MODEL_NOT_LOADED"),
        (errors.InferenceFailed("x"), 500, "INFERENCE_FAILED"),
        (errors.ReplicaLost("x"), 500, "INFERENCE_FAILED"),
        (errors.LoopDetected(), 508, "INFERENCE_FAILED"),
        (errors.Overloaded("x", retry_after=7), 503, "INFERENCE_FAILED"),
        (errors.NoValidTarget("x"), 404, "MODEL_NOT_FOUND"),
        (
            errors.QuotaExceeded("requests_per_second_total", limit=2, retry_after=1),
            429,
            "RATE_LIMIT_EXCEEDED",
        ),
        (errors.Shed("saturated"), 429, "RATE_LIMIT_EXCEEDED"),
        (errors.Preempted(), 503, "INFERENCE_FAILED"),
        (errors.DeadlineExceeded("x"), 504, "TIMEOUT"),
        (errors.ConfigurationError("x"), 500, "INTERNAL_ERROR"),
    ]
}

OPENAI_KINDS = {
    "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error",
    "server_error",
}  # fmt: skip


def core_errors() -> list[type[InfernoError]]:
    return [
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, InfernoError)
    ]


@pytest.mark.parametrize("cls", core_errors())
def test_every_error_has_a_status_and_a_code_in_both_envelopes(cls: type[InfernoError]) -> None:
    nearest = next(base for base in cls.__mro__ if base in CODES)
    assert CODES[nearest] in SEED_CODES
    kind, _ = OPENAI_TYPES[next(base for base in cls.__mro__ if base in OPENAI_TYPES)]
    assert kind in OPENAI_KINDS
    assert any(base in STATUSES for base in cls.__mro__ if base is not InfernoError) or (
        cls is InfernoError
    ), "only the root falls back to 500"
    assert cls in EXAMPLES, "give it an example, with its status and code"


def test_every_code_of_the_native_api_is_in_use() -> None:
    assert set(CODES.values()) == SEED_CODES


@pytest.mark.parametrize("cls", core_errors())
def test_status_and_code_are_as_documented(cls: type[InfernoError]) -> None:
    error, status, code = EXAMPLES[cls]
    assert status_of(error) == status
    shown = native_envelope(error, "req_1")
    assert set(shown) == {"error", "request_id", "timestamp"}
    assert shown["request_id"] == "req_1"
    assert shown["timestamp"].endswith("Z")
    assert shown["error"]["code"] == code
    assert shown["error"]["message"] == error.message
    assert shown["error"].get("details", {}) == error.details


@pytest.mark.parametrize("cls", core_errors())
def test_the_openai_envelope_has_its_four_fields(cls: type[InfernoError]) -> None:
    shown = openai_envelope(EXAMPLES[cls][0], "req_1")
    assert set(shown) == {"error"}
    assert set(shown["error"]) == {"message", "type", "param", "code"}


def test_a_rate_limit_says_when_to_come_back() -> None:
    error = errors.RateLimitExceeded(retry_after=30)
    assert native_envelope(error, "r")["error"]["retry_after"] == 30
    assert headers_of(error)[b"retry-after"] == b"30"


def test_an_overload_says_when_to_come_back() -> None:
    assert headers_of(errors.Overloaded("x", retry_after=7))[b"retry-after"] == b"7"


def test_an_unknown_model_lists_the_others_in_both_envelopes() -> None:
    error = errors.ModelNotFound("gpt-5", ["a", "b"])
    native = native_envelope(error, "r")["error"]
    assert native["message"] == "Model 'gpt-5' not found"
    assert native["details"] == {"available_models": ["a", "b"]}
    openai = openai_envelope(error, "r")["error"]
    assert openai["code"] == "model_not_found"
    assert openai["param"] == "model"
    assert "a, b" in openai["message"]


def test_a_field_is_named_in_both_envelopes() -> None:
    error = errors.InvalidRequest("no", field="messages[0].content")
    assert native_envelope(error, "r")["error"]["details"] == {"field": "messages[0].content"}
    assert openai_envelope(error, "r")["error"]["param"] == "messages[0].content"


def test_a_context_error_says_both_lengths() -> None:
    error = errors.ContextLengthExceeded(prompt_tokens=3000, context_size=2048)
    assert native_envelope(error, "r")["error"]["details"] == {
        "prompt_tokens": 3000,
        "context_size": 2048,
    }
    message = openai_envelope(error, "r")["error"]["message"]
    assert "3000" in message
    assert "2048" in message


@pytest.mark.parametrize(
    ("path", "openai"),
    [
        ("/v1/chat/completions", True),
        ("/v1/completions", True),
        ("/v1/embeddings", True),
        ("/v1/models", True),
        ("/v1/models/a", True),
        ("/v1/models/a/load", False),
        ("/v1/models/a/unload", False),
        ("/v1/inference", False),
        ("/v1/health", False),
        ("/inference", False),
        ("/models", False),
        ("/", False),
    ],
)
def test_a_path_decides_the_envelope(path: str, openai: bool) -> None:
    assert speaks_openai(path) is openai
    _, _, body = render(errors.NotFound("x"), scope(path))
    assert ("request_id" in json.loads(body)) is not openai


def test_missing_credentials_are_asked_for() -> None:
    error = errors.AuthenticationFailed("x")
    assert headers_of(error)[b"www-authenticate"].startswith(b"Bearer")
    schemes = [
        value.partition(b" ")[0]
        for name, value in render(error, scope("/docs"))[1]
        if name == b"www-authenticate"
    ]
    assert sorted(schemes) == [b"Basic", b"Bearer"]


def scope(path: str) -> dict[str, Any]:
    return {"path": path, "state": {"request_id": "req_1"}}


def headers_of(error: InfernoError) -> dict[bytes, bytes]:
    return dict(render(error, scope("/inference"))[1])
