"""Inferences as the platform tells observers of them."""

from __future__ import annotations

from typing import Any

from inferno.core.inferences import Inference, Journey, TraceContext


def journey(**fields: Any) -> Journey:
    """Return a call that waited 1 s, had its first token after 2 s more, and took 8 s after it."""
    given: dict[str, Any] = {
        "queued": 100.0,
        "picked": 101.0,
        "first": 103.0,
        "ended": 111.0,
        "endpoint": "tiny-abc",
        "attempts": 1,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 5,
    }
    return Journey(**{**given, **fields})


def inference(*journeys: Journey, **fields: Any) -> Inference:
    """Return an inference that took 11 s."""
    given: dict[str, Any] = {
        "request_id": "req_1",
        "operation": "chat",
        "model": "tiny",
        "tenant": "acme",
        "user_id": "u1",
        "credential_id": "k1",
        "streamed": True,
        "background": False,
        "journeys": list(journeys) or [journey()],
        "trace": TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"),
        "began_at": 1_700_000_000.0,
        "begun": 100.0,
        "ended": 111.0,
    }
    return Inference(**{**given, **fields})
