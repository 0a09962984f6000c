"""Sampling parameters, from the names that clients use to those that replicas take."""

from __future__ import annotations

from typing import Any

from inferno.server.types import Sampling

SAMPLING = frozenset(Sampling.__struct_fields__)
"""Fields that `sampling_fields` copies; the other fields of a request are copied without them."""

DEFAULTS: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "top_k": 40}
"""Of seed 001's original; what else is not given, the engine decides."""


def sampling_fields(request: Sampling) -> dict[str, Any]:
    """Return the sampling fields that a replica is sent, defaults filled in."""
    fields = dict(DEFAULTS)
    for name in SAMPLING - {"seed"}:
        value = getattr(request, name)
        if value is not None:
            fields[name] = value
    return fields


def seed_of(seed: int, choice: int) -> int:
    """Return the engine's 32-bit seed for one choice; each choice of a request has its own.

    The largest 32-bit value means "any seed" to llama.cpp, so it is never used.
    """
    return (seed + choice) % (2**32 - 1)
