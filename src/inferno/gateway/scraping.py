"""What model servers say of their load."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EndpointLoad:
    """How busy a model server is.

    Args:
        waiting: requests that wait inside it.
        running: requests that it works on.
        kv_cache_usage: share of its cache that is in use, 0 to 1.
        max_lora: adapters that it can hold at once; 0 for none.
        loras: adapters that it holds now.
        at: when it said so (`time.monotonic`).
    """

    waiting: int
    running: int
    kv_cache_usage: float | None = None
    max_lora: int = 0
    loras: frozenset[str] = frozenset()
    at: float = 0.0
