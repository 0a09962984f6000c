"""What is known of an inference once it is over, for whoever counts, traces or tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import msgspec

from inferno.core.errors import InfernoError

Operation = Literal["chat", "text_completion", "embeddings"]
"""As OpenTelemetry's `gen_ai.operation.name` has them."""

Outcome = Literal["success", "error", "cancelled"]


class TraceContext(msgspec.Struct):
    """Where an inference stands in a trace (W3C Trace Context).

    Args:
        trace_id: 16 bytes in hexadecimal.
        span_id: of the inference, 8 bytes in hexadecimal.
        parent_id: of the caller's span; empty where the trace begins here.
        state: the caller's `tracestate`.
        sampled: whether it is recorded; one that is not is passed on all the same.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    state: str = ""
    sampled: bool = True

    @property
    def traceparent(self) -> bytes:
        """The header that makes a replica's work part of the inference."""
        return f"00-{self.trace_id}-{self.span_id}-0{self.sampled:d}".encode("ascii")


class Journey(msgspec.Struct):
    """One call to a replica, filled in on its way. Moments are of `time.perf_counter`.

    A call that is made once more, after its replica was lost, begins anew; `attempts` goes on.

    Args:
        queued: when it began to wait for a replica.
        picked: when it was given one; None while it waits.
        first: when the first piece of the answer came.
        ended: when it was over.
        endpoint: the replica's name.
        address: where it listens, as `host:port`.
        attempts: replicas that it was sent to.
        prompt_tokens: as the engine counted them, or an estimate where it did not.
        cached_tokens: of those, how many the engine had in its cache.
        completion_tokens: as the engine counted them, or the pieces that came.
    """

    queued: float = 0.0
    picked: float | None = None
    first: float | None = None
    ended: float | None = None
    endpoint: str = ""
    address: str = ""
    attempts: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class Inference(msgspec.Struct):
    """One request for inference, from being let in to its last byte.

    Args:
        request_id: its id.
        operation: what was asked for.
        model: the model's name, as asked for; of a model that exists only where `known`.
        tenant: whose it is.
        user_id: who asked.
        credential_id: with which key or token.
        streamed: whether it was answered as a stream.
        background: whether it is part of a batch.
        journeys: its calls to replicas: one for each choice.
        trace: where it stands in a trace; None where it is not traced.
        began_at: wall-clock time, in seconds since the epoch.
        begun: when it began (`time.perf_counter`).
        ended: when it was over.
        outcome: how it ended.
        error: what went wrong.
    """

    request_id: str
    operation: Operation
    model: str
    tenant: str
    user_id: str
    credential_id: str
    streamed: bool
    background: bool
    journeys: list[Journey]
    trace: TraceContext | None = None
    began_at: float = msgspec.field(default_factory=time.time)
    begun: float = msgspec.field(default_factory=time.perf_counter)
    ended: float = 0.0
    outcome: Outcome = "success"
    error: InfernoError | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.begun

    @property
    def prompt_tokens(self) -> int:
        """Tokens that were read; several choices share one prompt, but each reads it."""
        return sum(journey.prompt_tokens for journey in self.journeys)

    @property
    def completion_tokens(self) -> int:
        """Tokens that were generated."""
        return sum(journey.completion_tokens for journey in self.journeys)


Observer = Callable[[Inference], None]
"""Told of each inference when it is over, on the event loop: it must be quick and not raise."""
