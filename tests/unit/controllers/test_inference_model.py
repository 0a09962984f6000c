"""Whether model names are accepted, over a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from inferno.controllers.inference_model import InferenceModelController, verdict
from inferno.controllers.inference_objective import InferenceObjectiveController
from inferno.controllers.loop import Key
from inferno.core.inference_models import InferenceModel
from inferno.core.inference_objectives import InferenceObjective
from inferno.core.inference_pools import InferencePool
from inferno.core.references import INFERENCE_GROUP_V1, PoolReference
from inferno.storage.resources import SqlResourceStore
from tests.unit.controllers.cluster import condition, model, objective, pool, said

NAMESPACE = Key("default", "")


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((), ("True", "Accepted")),
        ((0, 1), ("True", "Accepted")),
        ((0,), ("False", "NoValidTarget")),
        ((0, 0), ("False", "NoValidTarget")),
    ],
)
def test_targets(weights: tuple[int, ...], expected: tuple[str, str]) -> None:
    one = model("a", weights=weights)
    found = verdict(one, one, {"pool"})
    assert (found.status, found.reason) == expected


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (PoolReference(name="pool"), "Accepted"),
        (PoolReference(name="pool", group=INFERENCE_GROUP_V1), "Accepted"),
        (PoolReference(name="other"), "PoolNotFound"),
        (PoolReference(name="pool", kind="Service"), "PoolNotFound"),
        (PoolReference(name="pool", group=""), "PoolNotFound"),
    ],
)
def test_pools(reference: PoolReference, reason: str) -> None:
    one = model("a")
    one.spec.pool_ref = reference
    assert verdict(one, one, {"pool"}).reason == reason


async def test_the_oldest_has_the_name_and_the_next_is_promoted(store: SqlResourceStore) -> None:
    controller = InferenceModelController(store)
    await store.create(pool())
    await store.create(model("a"))
    await store.create(model("b"))  # of the same second, most likely: the name decides
    await store.create(model("c", "code"))
    await controller.reconcile(NAMESPACE)
    assert said(await store.get(InferenceModel, "a"), "Accepted") == ("True", "Accepted")
    assert said(await store.get(InferenceModel, "c"), "Accepted") == ("True", "Accepted")
    loser = await store.get(InferenceModel, "b")
    assert said(loser, "Accepted") == ("False", "ModelNameInUse")
    assert "'a'" in condition(loser, "Accepted").message

    await store.delete(InferenceModel, "a")
    await controller.reconcile(NAMESPACE)
    assert said(await store.get(InferenceModel, "b"), "Accepted") == ("True", "Accepted")


async def test_the_same_name_in_another_pool_or_namespace_is_free(store: SqlResourceStore) -> None:
    controller = InferenceModelController(store)
    await store.create(pool("one"))
    await store.create(pool("two"))
    await store.create(model("a", pool="one"))
    await store.create(model("b", pool="two"))
    elsewhere = model("c", pool="one")
    elsewhere.metadata.namespace = "elsewhere"
    await store.create(elsewhere)
    await controller.reconcile(NAMESPACE)
    await controller.reconcile(Key("elsewhere", ""))
    for name in ("a", "b"):
        assert said(await store.get(InferenceModel, name), "Accepted")[0] == "True"
    # A request names no pool, so one of them has the requests.
    assert said(await store.get(InferenceModel, "a"), "Routed") == ("True", "Routed")
    assert said(await store.get(InferenceModel, "b"), "Routed") == ("False", "Shadowed")
    stranger = await store.get(InferenceModel, "c", "elsewhere")
    assert said(stranger, "Routed") == ("False", "PoolNotServed")
    assert said(stranger, "Accepted") == ("False", "PoolNotFound")


async def test_a_pool_that_comes_and_goes(store: SqlResourceStore) -> None:
    controller = InferenceModelController(store)
    await store.create(model("a"))
    await controller.reconcile(NAMESPACE)
    assert said(await store.get(InferenceModel, "a"), "Accepted") == ("False", "PoolNotFound")
    await store.create(pool())
    await controller.reconcile(NAMESPACE)
    assert said(await store.get(InferenceModel, "a"), "Accepted") == ("True", "Accepted")
    await store.delete(InferencePool, "pool")
    await controller.reconcile(NAMESPACE)
    assert said(await store.get(InferenceModel, "a"), "Accepted") == ("False", "PoolNotFound")


async def test_objectives_need_their_pool(store: SqlResourceStore) -> None:
    controller = InferenceObjectiveController(store)
    await store.create(objective("batch", -1))
    await controller.reconcile(NAMESPACE)
    found = await store.get(InferenceObjective, "batch")
    assert said(found, "Accepted") == ("False", "PoolNotFound")
    await store.create(pool())
    await controller.reconcile(NAMESPACE)
    found = await store.get(InferenceObjective, "batch")
    assert said(found, "Accepted") == ("True", "Accepted")
    assert "Sheddable" in condition(found, "Accepted").message


async def _eventually(store: SqlResourceStore, name: str, holds: Callable[[str], bool]) -> None:
    """Wait until the reason of a model's condition is as it should be."""
    watch = store.watch(InferenceModel)
    found = await store.get(InferenceModel, name)
    while not (found.status.conditions and holds(said(found, "Accepted")[1])):
        event = await asyncio.wait_for(anext(watch), 20)
        if event.resource.metadata.name == name:
            found = event.resource


async def test_its_loop_sees_what_matters(store: SqlResourceStore) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(InferenceModelController(store).loop().run(stop))
        await store.create(model("a"))
        await store.create(model("b"))
        await _eventually(store, "a", lambda reason: reason == "PoolNotFound")
        await store.create(pool())
        await _eventually(store, "a", lambda reason: reason == "Accepted")
        await _eventually(store, "b", lambda reason: reason == "ModelNameInUse")
        await store.delete(InferenceModel, "a")
        await _eventually(store, "b", lambda reason: reason == "Accepted")
        stop.set()
