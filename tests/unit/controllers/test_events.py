"""What is told of resources, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from inferno.controllers.events import KEPT, EventController, event_of, stories
from inferno.controllers.loop import Key
from inferno.core.cluster import Event, EventSpec, ObjectReference
from inferno.core.resources import (
    Condition,
    InferenceService,
    InferenceServiceStatus,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
    PredictorModel,
)
from inferno.storage.resources import SqlResourceStore


def moment(ago: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(**status: object) -> Pod:
    spec = PodSpec(service="s", engine="llama_cpp", model=PredictorModel())
    return Pod(metadata=ObjectMeta(name="p"), spec=spec, status=PodStatus(**status))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({}, []),
        ({"phase": "Starting"}, [("Normal", "Starting")]),
        ({"phase": "Starting", "reason": "Crashed"}, [("Warning", "Crashed")]),
        ({"phase": "Ready"}, [("Normal", "Ready")]),
        ({"phase": "Failed", "reason": "NotGGUF"}, [("Warning", "NotGGUF")]),
        ({"phase": "Draining"}, []),
    ],
)
def test_what_pods_tell(status: dict[str, object], told: list[tuple[str, str]]) -> None:
    assert [(story.type, story.reason) for story in stories(pod(**status))] == told


def test_what_services_tell() -> None:
    ready = Condition(type="Ready", status="True", reason="Ready", last_transition_time="t")
    service = InferenceService(
        metadata=ObjectMeta(name="s"), status=InferenceServiceStatus(conditions=[ready])
    )
    (story,) = stories(service)
    assert (story.type, story.reason, story.since) == ("Normal", "Ready", "t")
    assert story.message == "s is Ready."
    service.status.reason = ready.reason = "AdapterUnusable"
    assert [told.type for told in stories(service)] == ["Warning"], "it serves, but not all"
    service.status.conditions = [Condition(type="Ready", status="False", reason="Unloaded")]
    assert list(stories(service)) == []


async def test_the_same_is_counted_and_not_told_twice(store: SqlResourceStore) -> None:
    controller = EventController(store)
    made = await store.create(pod())
    key = Key("default", "pods/p")
    made.status = PodStatus(phase="Ready", ready_at=moment(timedelta(minutes=5)))
    made = await store.update_status(made)
    for _ in range(2):
        await controller.reconcile(key)
    (event,), _ = await store.list(Event)
    assert (event.spec.count, event.spec.involved_object.uid) == (1, made.metadata.uid)
    made.status.ready_at = moment()
    made = await store.update_status(made)
    await controller.reconcile(key)
    (event,), _ = await store.list(Event)
    assert event.spec.count == 2
    assert event.spec.last_timestamp == made.status.ready_at


async def test_what_is_old_is_not_told_and_is_forgotten(store: SqlResourceStore) -> None:
    controller = EventController(store)
    made = await store.create(pod())
    old = KEPT + timedelta(minutes=1)
    made.status = PodStatus(phase="Ready", ready_at=moment(old))
    await store.update_status(made)
    await controller.reconcile(Key("default", "pods/p"))
    assert (await store.list(Event))[0] == []
    about = ObjectReference(name="x")
    for name, ago in (("old", old), ("new", timedelta())):
        spec = EventSpec(involved_object=about, last_timestamp=moment(ago))
        await store.create(Event(metadata=ObjectMeta(name=name), spec=spec))
        await controller.reconcile(Key("default", f"events/{name}"))
    assert [event.metadata.name for event in (await store.list(Event))[0]] == ["new"]


async def test_a_resource_that_is_gone_has_nothing_to_tell(store: SqlResourceStore) -> None:
    await EventController(store).reconcile(Key("default", "pods/gone"))
    await EventController(store).reconcile(Key("default", "events/gone"))


def test_names_of_events_fit() -> None:
    long = pod(phase="Ready")
    long.metadata.name = "p" * 253
    (story,) = stories(long)
    assert len(event_of(long, story).metadata.name) <= 253
