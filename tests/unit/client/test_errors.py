"""Every error that the platform answers with becomes one of the client's, in both envelopes."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest

from inferno.client import errors as theirs
from inferno.client.errors import ApiError, error_in, error_of, wait_of
from inferno.core import errors as core
from inferno.server.errors import CODES, render
from tests.architecture.source import PACKAGE, tree

ERRORS: dict[core.InfernoError, type[ApiError]] = {
    core.InvalidRequest("no", field="temperature"): theirs.InvalidCall,
    core.ContextLengthExceeded(prompt_tokens=9, context_size=8): theirs.ContextTooLong,
    core.PayloadTooLarge(limit=5): theirs.InvalidCall,
    core.Unsupported("no"): theirs.InvalidCall,
    core.AuthenticationFailed("no"): theirs.NotAuthenticated,
    core.PermissionDenied("no"): theirs.NotAllowed,
    core.NotFound("no"): theirs.NotThere,
    core.ModelNotFound("x", ["a", "b"]): theirs.UnknownModel,
    core.Conflict("no"): theirs.Conflicting,
    core.RateLimitExceeded(retry_after=7): theirs.RateLimited,
    core.ModelNotLoaded("x"): theirs.ModelUnavailable,
    core.ModelLoadFailed("x", reason="NotGGUF", message="no"): theirs.ModelUnavailable,
    core.InferenceFailed("no"): theirs.InferenceError,
    core.ReplicaLost("no"): theirs.InferenceError,
    core.Overloaded("no", retry_after=3): theirs.ServerBusy,
    core.DeadlineExceeded("no"): theirs.TimedOut,
    core.ConfigurationError("no"): theirs.ServerFailed,
    core.InfernoError("no"): theirs.ServerFailed,
}
PATHS = ["/inference", "/v1/chat/completions"]


def answered(error: core.InfernoError, path: str) -> ApiError:
    """Return what a client makes of the server's answer."""
    scope = {"path": path, "state": {"request_id": "req_1"}}
    status, headers, body = render(error, scope)
    read = {name.decode(): value.decode() for name, value in headers}
    return error_of(status, {**read, "x-request-id": "req_1"}, body)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_every_error_of_the_server(error: core.InfernoError, path: str) -> None:
    found = answered(error, path)
    assert type(found) is ERRORS[error]
    assert error.message in found.message
    assert found.request_id == "req_1"
    nearest = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    assert found.code == nearest
    assert found.retry_after == getattr(error, "retry_after", None)


@pytest.mark.parametrize("path", PATHS)
def test_fields_are_named(path: str) -> None:
    error = answered(core.InvalidRequest("no", field="messages[0].role"), path)
    assert isinstance(error, theirs.InvalidCall)
    assert error.field == "messages[0].role"


def test_models_are_named() -> None:
    error = answered(core.ModelNotFound("x", ["a", "b"]), "/inference")
    assert isinstance(error, theirs.UnknownModel)
    assert error.available == ["a", "b"]


def test_the_seed_s_own_rate_limit_answer() -> None:
    content = {
        "error": {
            "code": "RATE_LIMIT_EXCEEDED",
            "message": "Rate limit exceeded. Please retry after 30 seconds.",
            "retry_after": 30,
        }
    }
    error = error_of(429, {}, msgspec.json.encode(content))
    assert isinstance(error, theirs.RateLimited)
    assert error.retry_after == 30


@pytest.mark.parametrize(
    ("status", "kind"),
    [(502, theirs.ServerFailed), (503, theirs.ServerBusy), (418, theirs.InvalidCall)],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad Gateway</html>", b"[]", b'{"error": "no"}', b"\xff", b"[" * 100_000]
)
def test_answers_of_others(status: int, kind: type[ApiError], body: bytes) -> None:
    """Proxies between us and the platform answer in words of their own."""
    error = error_of(status, {"retry-after": "5"}, body)
    assert type(error) is kind
    assert str(status) in error.message
    assert len(error.message) < 300
    assert error.retry_after == 5
    assert error.code is None


@pytest.mark.parametrize(
    "content",
    [
        {"error": {"message": 5}},
        {"error": {"message": "x", "code": 5, "type": []}},
        {"error": {"message": "x", "code": {}, "details": 5, "retry_after": "soon"}},
    ],
)
def test_nonsense_is_no_surprise(content: dict[str, Any]) -> None:
    error = error_in(content, status=500)
    assert error is None or type(error) is theirs.ServerFailed


def test_retry_after() -> None:
    assert wait_of(None) is None
    assert wait_of("0") == 0
    assert wait_of("120") == 120
    assert wait_of("soon") is None
    assert wait_of("-5") is None
    later = wait_of(format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True))
    assert later is not None
    assert 0 < later <= 90
    assert wait_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_the_tree_is_drawn_as_it_is() -> None:
    lines = re.findall(r"^([ │├└─]*)([A-Z][A-Za-z]+)(?:  |$)", theirs.__doc__ or "", re.MULTILINE)
    drawn: dict[str, str] = {}
    path: list[tuple[int, str]] = [(-1, "Exception")]
    for indent, name in lines:
        while path[-1][0] >= len(indent):
            path.pop()
        drawn[name] = path[-1][1]
        path.append((len(indent), name))
    defined = {
        node.name: ast.unparse(node.bases[0])
        for node in tree(PACKAGE / "client" / "errors.py").body
        if isinstance(node, ast.ClassDef)
    }
    assert drawn == defined
