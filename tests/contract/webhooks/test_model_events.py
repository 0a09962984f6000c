"""Events of models over SQLite and Postgres: told once, whoever looks and however often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from inferno.core.resources import ObjectMeta, Pod, PodSpec, PodStatus, PredictorModel
from inferno.storage.resources import SqlResourceStore
from inferno.webhooks.model_events import ModelEvents
from tests.contract.webhooks.conftest import Parts, make_principal


@pytest.fixture
async def store(parts: Parts) -> AsyncIterator[SqlResourceStore]:
    store = await SqlResourceStore.open(parts.database)
    yield store
    await store.close()


@pytest.fixture
async def other_store(others: Parts) -> AsyncIterator[SqlResourceStore]:
    store = await SqlResourceStore.open(others.database)
    yield store
    await store.close()


def pod(name: str, phase: str = "Pending", service: str = "m", namespace: str = "default") -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=PodSpec(service=service, engine="llama_cpp", model=PredictorModel()),
        status=PodStatus(phase=phase),  # type: ignore[arg-type]
    )


async def set_phase(store: SqlResourceStore, name: str, phase: str) -> None:
    def change(found: Pod) -> None:
        found.status.phase = phase  # type: ignore[assignment]
        found.status.reason = "NotGGUF" if phase == "Failed" else ""

    await store.modify(Pod, name, change, status=True)


async def told(parts: Parts, count: int) -> list[str]:
    """Return what was told, oldest first, once it is so much."""
    async with asyncio.timeout(20):
        page = await parts.deliveries.page("red", limit=100)
        while len(page) < count:
            await asyncio.sleep(0.05)
            page = await parts.deliveries.page("red", limit=100)
    return [one.event for one in sorted(page, key=lambda one: one.created_at)]


async def test_each_change_is_told(parts: Parts, store: SqlResourceStore) -> None:
    red = await make_principal(parts.database, "red")
    await parts.subscribe(red, "model.loaded", "model.unloaded", "model.failed")
    async with ModelEvents(store, parts.database, parts.outbox).following():
        await store.create(pod("a"))
        await set_phase(store, "a", "Starting")
        await set_phase(store, "a", "Ready")
        assert await told(parts, 1) == ["model.loaded"]
        await store.create(pod("b", "Ready"))  # one more replica of the same model
        await store.delete(Pod, "a")
        await store.delete(Pod, "b")
        assert await told(parts, 2) == ["model.loaded", "model.unloaded"]
        await store.create(pod("c", "Failed"))
        await told(parts, 3)
        await store.delete(Pod, "c")
        await store.create(pod("d", "Failed"))  # tried again, failed again
        assert (await told(parts, 4))[2:] == ["model.failed", "model.failed"]
        await store.create(pod("x", "Ready", service="other"))
        await told(parts, 5)


async def test_what_happened_meanwhile_is_told_and_nothing_twice(
    parts: Parts, store: SqlResourceStore
) -> None:
    red = await make_principal(parts.database, "red")
    await parts.subscribe(red, "model.loaded", "model.unloaded")
    await store.create(pod("a", "Ready"))
    await store.create(pod("b", "Ready", service="other"))

    def follow() -> ModelEvents:
        return ModelEvents(store, parts.database, parts.outbox)

    async with follow().following():
        assert await told(parts, 2) == ["model.loaded", "model.loaded"]
    async with follow().following():
        await store.create(pod("marker", "Ready", service="marker"))
        assert len(await told(parts, 3)) == 3
    await store.delete(Pod, "a")
    async with follow().following():
        assert (await told(parts, 4))[3] == "model.unloaded"


async def test_several_processes_tell_once(
    parts: Parts, others: Parts, store: SqlResourceStore, other_store: SqlResourceStore
) -> None:
    red = await make_principal(parts.database, "red")
    await parts.subscribe(red, "model.loaded", "model.unloaded")
    followers: list[Callable[[], ModelEvents]] = [
        lambda: ModelEvents(store, parts.database, parts.outbox),
        lambda: ModelEvents(other_store, others.database, others.outbox),
    ]
    async with AsyncExitStack() as stack:
        for follower in followers:
            await stack.enter_async_context(follower().following())
        for round_ in range(5):
            await store.create(pod("a", "Ready"))
            await told(parts, 2 * round_ + 1)
            await store.delete(Pod, "a")
            await told(parts, 2 * round_ + 2)
        await asyncio.sleep(1)
    assert await told(parts, 10) == ["model.loaded", "model.unloaded"] * 5


async def test_a_tenants_own_models_are_told_to_it_alone(
    parts: Parts, store: SqlResourceStore
) -> None:
    red = await make_principal(parts.database, "red")
    blue = await make_principal(parts.database, "blue", tenant="blue")
    for principal in (red, blue):
        await parts.subscribe(principal, "model.loaded")
    async with ModelEvents(store, parts.database, parts.outbox).following():
        await store.create(pod("a", "Ready", namespace="red"))
        await told(parts, 1)
        await store.create(pod("b", "Ready"))  # of the same name, and everybody's
        await told(parts, 2)
    for one in await parts.deliveries.page("red", limit=9):
        shown = await parts.deliveries.get(one.id, "red")
        assert shown.payload["data"]["model"] == "m"
    assert len(await parts.deliveries.page("blue", limit=9)) == 1
