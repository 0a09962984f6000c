"""Events: what has happened that somebody outside may want to be told of."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class EventName(StrEnum):
    """What can be subscribed to. The first three are seed 001's; tests are sent when asked for."""

    INFERENCE_COMPLETE = "inference.complete"
    BATCH_COMPLETE = "batch.complete"
    MODEL_LOADED = "model.loaded"
    INFERENCE_FAILED = "inference.failed"
    BATCH_FAILED = "batch.failed"
    BATCH_CANCELLED = "batch.cancelled"
    MODEL_UNLOADED = "model.unloaded"
    MODEL_FAILED = "model.failed"
    WEBHOOK_TEST = "webhook.test"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that has happened.

    Args:
        name: what.
        tenant: whose it is; None where it is everybody's, as models are.
        data: the facts, JSON-encodable; no content and no secret.
    """

    name: EventName
    tenant: str | None
    data: dict[str, Any]
