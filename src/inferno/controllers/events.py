"""Writes `Event`s for what happens to resources, and forgets them after an hour.

What there is to tell is read from statuses, so nothing is told twice after a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from inferno.controllers.loop import Key, Loop, Source
from inferno.core.cluster import Event, EventSource, EventSpec, ObjectReference
from inferno.core.errors import Conflict, NotFound
from inferno.core.resources import InferenceService, ObjectMeta, Pod, Resource
from inferno.storage.base import ResourceStore

KEPT = timedelta(hours=1)
COMPONENT = "inferno"
MAX_MESSAGE = 1024
_MAX_NAME = 253
_HASH_LENGTH = 16
_SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class Story:
    """Something to tell of a resource.

    Args:
        type: `Normal` or `Warning`.
        reason: in one word.
        message: for a person.
        since: RFC 3339; a later one is another occurrence.
    """

    type: str
    reason: str
    message: str
    since: str


def stories(resource: Resource) -> Iterator[Story]:
    """Yield what a resource's status tells."""
    if isinstance(resource, Pod):
        yield from _of_pod(resource)
    else:
        yield from _of_conditions(resource)


def _of_pod(pod: Pod) -> Iterator[Story]:
    status = pod.status
    if status.phase == "Ready":
        message = f"The replica answers after {status.load_time_ms} ms."
        yield Story("Normal", "Ready", message, status.ready_at)
        if status.reason:  # it serves, but not all that it should
            yield Story("Warning", status.reason, status.message, status.ready_at)
    elif status.phase == "Failed":
        yield Story("Warning", status.reason or "Failed", status.message, status.started_at)
    elif status.reason:
        message = f"{status.message} It was started again {status.restarts} times."
        yield Story("Warning", status.reason, message, status.started_at)
    elif status.phase == "Starting":
        message = f"The replica of {pod.spec.service} is started with {pod.spec.engine}."
        yield Story("Normal", "Starting", message, status.started_at)


def _of_conditions(resource: Resource) -> Iterator[Story]:
    is_service = isinstance(resource, InferenceService)
    for condition in getattr(resource.status, "conditions", ()):
        if condition.status == "True" and is_service:
            message = condition.message or f"{resource.metadata.name} is {condition.reason}."
            # It serves; where a reason is given, not all that it should.
            tone = "Warning" if getattr(resource.status, "reason", "") else "Normal"
            yield Story(tone, condition.reason, message, condition.last_transition_time)
        elif condition.status == "False" and condition.message:
            moment = condition.last_transition_time
            yield Story("Warning", condition.reason, condition.message, moment)


class EventController:
    """Tells of pods, services, and whatever else has conditions.

    Args:
        store: where resources and events are.
        kinds: of what is told.
    """

    def __init__(
        self, store: ResourceStore, kinds: tuple[type[Resource], ...] = (Pod, InferenceService)
    ) -> None:
        self._store = store
        self._kinds = {kind.KIND.plural: kind for kind in kinds}

    def loop(self, *, resync: float = 300.0) -> Loop:
        """Return the loop that runs this controller.

        Args:
            resync: seconds between looks at everything, which is when old events go.
        """
        sources = [Source(kind, _keys_of(kind)) for kind in self._kinds.values()]
        sources.append(Source(Event, _event_key))
        return Loop("events", self._store, sources, self.reconcile, resync=resync)

    async def reconcile(self, key: Key) -> None:
        """Look at one resource, and tell what is new; forget an event that is old."""
        plural, _, name = key.name.partition(_SEPARATOR)
        if plural == Event.KIND.plural:
            await self._forget(key.namespace, name)
            return
        try:
            resource = await self._store.get(self._kinds[plural], name, key.namespace)
        except NotFound:
            return
        for story in stories(resource):
            await self._tell(resource, story)

    async def _tell(self, resource: Resource, story: Story) -> None:
        """Write an event, or count it once more where it happened again."""
        event = event_of(resource, story)
        if _last_seen(event) < datetime.now(UTC) - KEPT:
            return
        try:
            await self._store.create(event)
        except Conflict:
            await self._count(event)

    async def _count(self, event: Event) -> None:
        latest = event.spec.last_timestamp or ""

        def change(known: Event) -> None:
            if (known.spec.last_timestamp or "") < latest:
                known.spec.count += 1
                known.spec.last_timestamp = latest

        metadata = event.metadata
        try:
            await self._store.modify(Event, metadata.name, change, namespace=metadata.namespace)
        except NotFound:  # forgotten meanwhile, for its age
            return

    async def _forget(self, namespace: str, name: str) -> None:
        try:
            event = await self._store.get(Event, name, namespace)
            if _last_seen(event) < datetime.now(UTC) - KEPT:
                await self._store.delete(Event, name, namespace)
        except NotFound:
            return


def event_of(resource: Resource, story: Story) -> Event:
    """Return the event that tells a story; the same story has the same name."""
    metadata, kind = resource.metadata, resource.KIND
    told = f"{metadata.uid}/{story.type}/{story.reason}/{story.message}"
    digest = hashlib.sha256(told.encode()).hexdigest()[:_HASH_LENGTH]
    moment = _seconds(story.since) or metadata.creation_timestamp
    about = ObjectReference(
        kind=kind.kind,
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        api_version=kind.api_version,
    )
    spec = EventSpec(
        involved_object=about,
        reason=story.reason,
        message=story.message[:MAX_MESSAGE],
        source=EventSource(component=COMPONENT),
        first_timestamp=moment,
        last_timestamp=moment,
        count=1,
        type=story.type,
        reporting_component=COMPONENT,
    )
    name = f"{metadata.name[: _MAX_NAME - _HASH_LENGTH - 1].rstrip('-.')}.{digest}"
    return Event(metadata=ObjectMeta(name=name, namespace=metadata.namespace), spec=spec)


def _keys_of(kind: type[Resource]) -> Any:
    def keys(resource: Resource) -> tuple[Key, ...]:
        metadata = resource.metadata
        return (Key(metadata.namespace, f"{kind.KIND.plural}{_SEPARATOR}{metadata.name}"),)

    return keys


def _event_key(event: Event) -> tuple[Key, ...]:
    metadata = event.metadata
    if _last_seen(event) >= datetime.now(UTC) - KEPT:
        return ()
    return (Key(metadata.namespace, f"{Event.KIND.plural}{_SEPARATOR}{metadata.name}"),)


def _last_seen(event: Event) -> datetime:
    """Return when an event was last seen, or when it was made where it says nothing sound."""
    spec = event.spec
    series = spec.series.last_observed_time if spec.series is not None else None
    said = (series, spec.last_timestamp, spec.event_time, event.metadata.creation_timestamp)
    for moment in said:
        try:
            found = datetime.fromisoformat(moment or "")
        except ValueError:
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return datetime.now(UTC)


def _seconds(moment: str) -> str:
    return f"{moment[:19]}Z" if moment else ""
