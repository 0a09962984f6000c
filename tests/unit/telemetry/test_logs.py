"""Logs: one line a thing, and nothing in them that a caller sent."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from inferno.telemetry import logs


@pytest.fixture(autouse=True)
def default_configuration() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged(format: Literal["console", "json"]) -> str:  # noqa: A002 - the setting's name
    """Log an unexpected error of code that holds a secret, and return the log."""
    stream = io.StringIO()
    logs.configure(format=format, level="info", stream=stream)
    secret = "".join(["can", "ary"])
    try:
        json.loads(secret[3:])
    except ValueError:
        structlog.get_logger().exception("unexpected")
    return stream.getvalue()


def test_json_is_one_object_a_line() -> None:
    (line,) = logged("json").splitlines()
    assert json.loads(line)["event"] == "unexpected"
    assert "canary" not in line


def test_a_traceback_shows_no_values() -> None:
    shown = logged("console")
    assert "JSONDecodeError" in shown
    assert "canary" not in shown
