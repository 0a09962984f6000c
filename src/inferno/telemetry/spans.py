"""The spans of a traced inference, made from its moments when somebody asks for them.

    chat MODEL                          the inference (SERVER)
    ├── queue                           waiting for a replica          ─┐
    ├── time_to_first_token             the replica reads the prompt    ├ of each call to a replica
    └── generate                        from the first token to the end ┘

Picking the replica takes no time worth a span; it is the event `pick` of the inference. Names
and attributes are those of OpenTelemetry's semantic conventions for generative AI, and our own
under `inferno.`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from inferno.core.inferences import Journey
from inferno.telemetry.traces import Record

Attribute = str | int | bool

_STRIDE = 0x9E37_79B9_7F4A_7C15
"""Odd, so its multiples run through all 64-bit numbers before one comes again."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one moment.

    Args:
        name: what.
        at_ns: when, in nanoseconds since the epoch.
        attributes: more about it.
    """

    name: str
    at_ns: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time.

    Args:
        name: what.
        kind: its place between callers and called.
        span_id: 8 bytes in hexadecimal.
        parent_id: of the span it is part of; empty for a trace's first.
        start_ns: when it began, in nanoseconds since the epoch.
        end_ns: when it was over.
        status: how it ended.
        attributes: more about it.
        events: what happened meanwhile.
    """

    name: str
    kind: Literal["server", "client", "internal"]
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    status: Literal["unset", "error"] = "unset"
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    events: tuple[Event, ...] = ()


def spans_of(record: Record) -> list[Span]:
    """Return the spans of an inference, its own first; the same ones whenever asked."""
    children = [
        span
        for choice, journey in enumerate(record.journeys)
        for span in _journey(record, choice, journey)
    ]
    picks = tuple(
        Event(
            "pick",
            record.at_ns(journey.picked),
            {"inferno.replica": journey.endpoint, "inferno.attempts": journey.attempts},
        )
        for journey in record.journeys
        if journey.picked is not None
    )
    root = Span(
        name=f"{record.operation} {record.model}",
        kind="server",
        span_id=record.trace.span_id,
        parent_id=record.trace.parent_id,
        start_ns=record.at_ns(record.begun),
        end_ns=record.at_ns(record.ended),
        status="error" if record.outcome == "error" else "unset",
        attributes=attributes_of(record),
        events=picks,
    )
    return [root, *children]


def attributes_of(record: Record) -> dict[str, Attribute]:
    """Return what is said of an inference; nothing of its content."""
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": record.operation,
        "gen_ai.provider.name": "inferno",
        "gen_ai.request.model": record.model,
        "gen_ai.usage.input_tokens": sum(j.prompt_tokens for j in record.journeys),
        "gen_ai.usage.output_tokens": sum(j.completion_tokens for j in record.journeys),
        "gen_ai.usage.cache_read.input_tokens": sum(j.cached_tokens for j in record.journeys),
        "user.id": record.user_id,
        "inferno.request_id": record.request_id,
        "inferno.tenant": record.tenant,
        "inferno.outcome": record.outcome,
        "inferno.streamed": record.streamed,
        "inferno.background": record.background,
    }
    if any(journey.first is not None for journey in record.journeys):
        attributes["gen_ai.response.model"] = record.model
    if len(record.journeys) > 1:
        attributes["gen_ai.request.choice.count"] = len(record.journeys)
    if record.error:
        attributes["error.type"] = record.error
    return attributes


def _journey(record: Record, choice: int, journey: Journey) -> Iterator[Span]:
    """Return the spans of a call to a replica, as far as it came."""
    if not journey.queued:
        return
    over = journey.ended if journey.ended is not None else record.ended
    attributes: dict[str, Attribute] = {}
    if len(record.journeys) > 1:
        attributes["inferno.choice"] = choice
    if journey.endpoint:
        attributes["inferno.replica"] = journey.endpoint
    picked, first = journey.picked, journey.first
    parts = [("queue", journey.queued, over if picked is None else picked)]
    if picked is not None:
        parts.append(("time_to_first_token", picked, over if first is None else first))
    if first is not None:
        parts.append(("generate", first, over))
    for place, (name, start, end) in enumerate(parts):
        yield Span(
            name=name,
            kind="internal" if name == "queue" else "client",
            span_id=_child_id(record.trace.span_id, 3 * choice + place + 1),
            parent_id=record.trace.span_id,
            start_ns=record.at_ns(start),
            end_ns=record.at_ns(max(start, end)),
            attributes=attributes,
        )


def _child_id(span_id: str, number: int) -> str:
    """Return the id of an inference's n-th child; always the same one."""
    return f"{(int(span_id, 16) + number * _STRIDE) % 2**64 or 1:016x}"
