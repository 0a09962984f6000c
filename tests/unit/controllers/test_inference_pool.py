"""The status of pools, over a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from inferno.controllers.inference_pool import InferencePoolController, status_of
from inferno.controllers.inference_service import InferenceServiceController
from inferno.controllers.loop import Key
from inferno.controllers.model_server import ModelServerController, set_reachable
from inferno.core.inference_pools import EndpointPicker, InferencePool
from inferno.core.model_servers import ModelServer, Observation
from inferno.core.pool_members import Member
from inferno.core.resources import (
    InferenceService,
    InferenceServiceSpec,
    ObjectMeta,
    Pod,
    PodStatus,
    Predictor,
    PredictorModel,
)
from inferno.storage.resources import SqlResourceStore
from tests.unit.controllers.cluster import condition, pod, pool, said, server

NAMESPACE = Key("default", "")
READY = Member("Pod", "a", "127.0.0.1", 1, True)
STARTING = Member("Pod", "b", "", 0, False)


@pytest.mark.parametrize(
    ("spec", "found", "expected"),
    [
        ({}, [READY, STARTING], ("True", "Ready")),
        ({}, [STARTING], ("False", "NoReadyEndpoints")),
        ({}, [], ("False", "NoEndpoints")),
        ({"selector": {}}, [], ("False", "EmptySelector")),
    ],
)
def test_ready(spec: dict[str, Any], found: list[Member], expected: tuple[str, str]) -> None:
    one = pool(**spec)
    one.status = status_of(one, found, now="t")
    assert said(one, "Ready") == expected
    assert one.status.endpoints == len(found)


def test_what_this_gateway_cannot_speak_is_not_accepted() -> None:
    one = pool(app_protocol="kubernetes.io/h2c")
    one.status = status_of(one, [], now="t")
    assert said(one, "Accepted") == ("False", "NotSupportedByParent")


def test_a_picker_of_others_is_not_asked() -> None:
    one = pool(endpoint_picker=EndpointPicker(name="epp"))
    one.status = status_of(one, [], now="t")
    assert said(one, "Accepted") == ("True", "Accepted")
    assert said(one, "ResolvedRefs") == ("True", "ResolvedRefs")
    assert "'epp'" in condition(one, "ResolvedRefs").message


def test_times_change_with_the_status_only() -> None:
    one = pool()
    one.status = status_of(one, [], now="t1")
    one.status = status_of(one, [STARTING], now="t2")
    assert condition(one, "Ready").reason == "NoReadyEndpoints"
    assert condition(one, "Ready").last_transition_time == "t1"
    one.status = status_of(one, [READY], now="t3")
    assert condition(one, "Ready").last_transition_time == "t3"
    assert condition(one, "Accepted").last_transition_time == "t1"


async def test_replicas_and_servers_with_its_labels_are_counted(store: SqlResourceStore) -> None:
    controller = InferencePoolController(store)
    await store.create(pool())
    await store.create(pool("other", selector={"app": "other"}))
    await store.create(pod("ready"))
    await store.create(pod("starting", "Starting"))
    await store.create(pod("stranger", labels={}))
    await store.create(pod("elsewhere", namespace="elsewhere"))
    await store.create(server("gpu"))
    await controller.reconcile(NAMESPACE)
    found = await store.get(InferencePool, "pool")
    assert (found.status.ready_endpoints, found.status.endpoints) == (1, 3)
    assert condition(found, "Ready").observed_generation == found.metadata.generation
    assert said(await store.get(InferencePool, "other"), "Ready") == ("False", "NoEndpoints")

    await set_reachable(store, "default", "gpu", Observation(generation=1, reachable=True))
    await ModelServerController(store).reconcile(NAMESPACE)
    assert (await store.get(ModelServer, "gpu")).is_ready
    await controller.reconcile(NAMESPACE)
    assert (await store.get(InferencePool, "pool")).status.ready_endpoints == 2


async def test_a_relabelled_replica_leaves(store: SqlResourceStore) -> None:
    controller = InferencePoolController(store)
    await store.create(pool())
    await store.create(pod("a"))
    await controller.reconcile(NAMESPACE)
    before = await store.get(InferencePool, "pool")
    assert said(before, "Ready") == ("True", "Ready")

    def relabel(one: Pod) -> None:
        one.metadata.labels = {"app": "debug"}

    await store.modify(Pod, "a", relabel)
    await controller.reconcile(NAMESPACE)
    after = await store.get(InferencePool, "pool")
    assert said(after, "Ready") == ("False", "NoEndpoints")
    assert condition(after, "Accepted") == condition(before, "Accepted")


async def test_what_is_true_already_is_not_written(store: SqlResourceStore) -> None:
    controller = InferencePoolController(store)
    await store.create(pool())
    await controller.reconcile(NAMESPACE)
    before = await store.get(InferencePool, "pool")
    await controller.reconcile(NAMESPACE)
    assert await store.get(InferencePool, "pool") == before


async def _until(store: SqlResourceStore, kind: type[Any], holds: Callable[[Any], bool]) -> Any:
    """Wait for a resource of a kind that is as it should be."""
    watch = store.watch(kind)
    found, _ = await store.list(kind)
    right = next(filter(holds, found), None)
    while right is None:
        event = await asyncio.wait_for(anext(watch), 20)
        right = event.resource if event.type != "DELETED" and holds(event.resource) else None
    return right


async def test_a_service_fills_the_pool_that_selects_its_labels(store: SqlResourceStore) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(InferenceServiceController(store).loop().run(stop))
        tasks.create_task(InferencePoolController(store).loop().run(stop))
        await store.create(pool(selector={"serving.kserve.io/inferenceservice": "m"}))
        await _until(store, InferencePool, lambda one: bool(one.status.conditions))
        predictor = Predictor(max_replicas=1, replicas=1, model=PredictorModel())
        spec = InferenceServiceSpec(predictor=predictor)
        await store.create(InferenceService(metadata=ObjectMeta(name="m"), spec=spec))
        await _until(store, InferencePool, lambda one: one.status.endpoints == 1)
        replica = await _until(store, Pod, lambda one: True)

        def serve(one: Pod) -> None:
            one.status = PodStatus(phase="Ready", host="127.0.0.1", port=1234)

        await store.modify(Pod, replica.metadata.name, serve, status=True)
        await _until(store, InferencePool, lambda one: one.status.ready_endpoints == 1)
        await store.delete(InferenceService, "m")
        # The runtime, which is not here, would drain the replica and take its finalizer off.
        await _until(store, InferencePool, lambda one: one.status.ready_endpoints == 0)
        stop.set()
