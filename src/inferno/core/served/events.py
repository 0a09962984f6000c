"""`Event` as tools know it: its fields stand beside the metadata."""

from __future__ import annotations

from typing import Any

import msgspec

from inferno.core.cluster import Event, EventSeries, EventSource, EventSpec, ObjectReference
from inferno.core.kinds import Column, KindDefinition, ServedVersion
from inferno.core.resources import ObjectMeta


class EventV1(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Something that happened to a resource. Events are kept for an hour.

    Args:
        involved_object: to what it happened.
        reason: in one word, for programs.
        message: for a person.
        source: who saw it.
        first_timestamp: when it was first seen.
        last_timestamp: when it was last seen.
        count: how often.
        type: `Normal` or `Warning`.
        event_time: when it was first seen, to the microsecond.
        series: how often it was seen, in the newer form.
        action: what was being done.
        related: what else it is about.
        reporting_component: who reports it.
        reporting_instance: which of them.
    """

    involved_object: ObjectReference
    reason: str = ""
    message: str = ""
    source: EventSource = msgspec.field(default_factory=EventSource)
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    count: int = 0
    type: str = ""
    event_time: str | None = None
    series: EventSeries | None = None
    action: str = ""
    related: ObjectReference | None = None
    reporting_component: str = ""
    reporting_instance: str = ""


def to_stored(shape: EventV1, metadata: ObjectMeta, _: Any) -> Event:
    """Return the event that a client describes."""
    return Event(metadata=metadata, spec=EventSpec(**msgspec.structs.asdict(shape)))


def from_stored(event: Event) -> EventV1:
    """Return an event as clients see it."""
    return EventV1(**msgspec.structs.asdict(event.spec))


def _last_seen(event: Event) -> str | None:
    spec = event.spec
    series = spec.series.last_observed_time if spec.series is not None else None
    return series or spec.last_timestamp or spec.event_time or event.metadata.creation_timestamp


def _first_seen(event: Event) -> str | None:
    spec = event.spec
    return spec.first_timestamp or spec.event_time or event.metadata.creation_timestamp


def _source(event: Event) -> str:
    source = event.spec.source
    return ", ".join(filter(None, (source.component, source.host)))


def _object(event: Event) -> str:
    about = event.spec.involved_object
    return f"{about.kind.lower()}/{about.name}"


EVENTS = KindDefinition(
    stored=Event,
    group="",
    kind="Event",
    plural="events",
    short_names=("ev",),
    status=False,
    versions=(
        ServedVersion(
            name="v1",
            shape=EventV1,
            to_stored=to_stored,
            from_stored=from_stored,
            columns=(
                Column(
                    name="Last Seen",
                    value=_last_seen,
                    type="date",
                    description="When it was last seen.",
                ),
                Column(
                    name="Type",
                    value=lambda event: event.spec.type,
                    description="Normal or Warning.",
                ),
                Column(
                    name="Reason",
                    value=lambda event: event.spec.reason,
                    description="In one word, for programs.",
                ),
                Column(name="Object", value=_object, description="To what it happened."),
                Column(
                    name="Subobject",
                    value=lambda event: event.spec.involved_object.field_path,
                    description="To which part of it.",
                    priority=1,
                ),
                Column(
                    name="Source",
                    value=_source,
                    description="Who saw it.",
                    priority=1,
                ),
                Column(
                    name="Message",
                    value=lambda event: event.spec.message.strip(),
                    description="What happened, for a person.",
                ),
                Column(
                    name="First Seen",
                    value=_first_seen,
                    type="date",
                    description="When it was first seen.",
                    priority=1,
                ),
                Column(
                    name="Count",
                    value=lambda event: event.spec.count or 1,
                    type="integer",
                    description="How often it was seen.",
                    priority=1,
                ),
                Column(
                    name="Name",
                    value=lambda event: event.metadata.name,
                    description="Of the event.",
                    priority=1,
                ),
            ),
            own_table=True,
        ),
    ),
)
"""What happened to resources."""
