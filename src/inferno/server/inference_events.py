"""Events of inferences, for webhooks. They hold figures and names, never what was said."""

from __future__ import annotations

from typing import Any

from inferno.core.events import Event, EventName
from inferno.core.inferences import Inference, Observer
from inferno.server.errors import code_of
from inferno.webhooks.outbox import Outbox


def telling(outbox: Outbox) -> Observer:
    """Return the observer that leaves an event of each inference in the outbox."""

    def observe(inference: Inference) -> None:
        if outbox.interest.has(inference.tenant, name_of(inference)):
            event = event_of(inference)
            if event is not None:
                outbox.publish(event)

    return observe


def name_of(inference: Inference) -> EventName:
    """Return what an event of an inference is called."""
    if inference.outcome == "success":
        return EventName.INFERENCE_COMPLETE
    return EventName.INFERENCE_FAILED


def event_of(inference: Inference) -> Event | None:
    """Return what is told of an inference; nothing, where the client left or a batch tells of it.

    The first four facts are seed 001's.
    """
    if inference.background or inference.outcome == "cancelled":
        return None
    data: dict[str, Any] = {
        "request_id": inference.request_id,
        "model": inference.model,
        "tokens_generated": inference.completion_tokens,
        "duration_ms": round(inference.seconds * 1000),
        "prompt_tokens": inference.prompt_tokens,
        "operation": inference.operation,
        "stream": inference.streamed,
        "user_id": inference.user_id,
    }
    if inference.outcome != "success":
        # The message of an error may quote what was sent; its code does not.
        data["error"] = code_of(inference.error) if inference.error else "INTERNAL_ERROR"
    return Event(name=name_of(inference), tenant=inference.tenant, data=data)
