"""The registry's envelope is complete: every core error has a status and a code."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from inferno.core import errors
from inferno.core.errors import InfernoError
from inferno.registry.errors import ANSWERS, envelope, render
from inferno.web.errors import STATUSES

ERRORS = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, InfernoError)
]


def nearest(cls: type[InfernoError], table: dict[type[InfernoError], Any]) -> Any:
    return next(table[base] for base in cls.__mro__ if base in table)


@pytest.mark.parametrize("cls", ERRORS)
def test_every_core_error_has_its_status_and_a_code(cls: type[InfernoError]) -> None:
    assert nearest(cls, ANSWERS)[0] == nearest(cls, STATUSES)
    assert any(base in ANSWERS for base in cls.__mro__ if base is not InfernoError) or (
        cls is InfernoError
    ), "only the root falls back to 500"


def test_an_error_is_a_sentence_beside_success_false() -> None:
    status, headers, body = render(errors.NotFound("No document found", id="x"), {})
    assert status == 404
    assert (b"content-type", b"application/json") in headers
    assert json.loads(body) == {
        "success": False,
        "error": "No document found",
        "code": "not_found",
        "details": {"id": "x"},
    }


def test_a_limit_says_when_to_come_back() -> None:
    _, headers, _ = render(errors.RateLimitExceeded(retry_after=7), {})
    assert (b"retry-after", b"7") in headers
    assert "details" not in envelope(errors.InfernoError("x"))
