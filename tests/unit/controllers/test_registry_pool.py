"""ModelServers of what pools ask of the registry, over a real store and a real registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inferno.controllers import registry_pool
from inferno.controllers.inference_pool import InferencePoolController
from inferno.controllers.loop import Key
from inferno.controllers.registry_pool import CONDITION, RegistryPoolController
from inferno.core import conditions
from inferno.core.cluster import Event
from inferno.core.inference_pools import InferencePool
from inferno.core.model_servers import ModelServer
from inferno.core.registry_queries import OWNERS, QUERY
from inferno.core.tenancy import ANONYMOUS
from inferno.registry.catalog import Catalog
from inferno.registry.finding import Finder
from inferno.registry.observing import Observer
from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from tests.unit.controllers.cluster import LABELS, condition, pool, said, server

KEY = Key("default", "pool")


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    database = await Database.open("sqlite+aiosqlite:///:memory:")
    yield database
    await database.close()


@pytest.fixture
async def store(database: Database) -> AsyncIterator[SqlResourceStore]:
    store = await SqlResourceStore.open(database)
    yield store
    await store.close()


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(database, most=100)


@pytest.fixture
def controller(store: SqlResourceStore, database: Database) -> RegistryPoolController:
    return RegistryPoolController(store, Observer(database, Finder(database), auth=False))


async def register(catalog: Catalog, name: str, **more: Any) -> str:
    entry = {
        "inference_server_name": name,
        "inference_server_tags": ["LLM"],
        "inference_server_public_url": f"http://{name}.example.com",
        **more,
    }
    return str((await catalog.create(entry, ANONYMOUS))["inference_server_id"])


async def asking(store: SqlResourceStore, query: str | None, **annotations: str) -> None:
    """Have the pool ask something, whether anybody would admit it or not."""

    def change(known: InferencePool) -> None:
        asked = {} if query is None else {QUERY: query}
        known.metadata.annotations = {**asked, **annotations}

    await store.modify(InferencePool, "pool", change)


async def addresses(store: SqlResourceStore) -> list[str]:
    servers, _ = await store.list(ModelServer)
    return sorted(one.spec.address for one in servers)


async def found(store: SqlResourceStore) -> InferencePool:
    return await store.get(InferencePool, "pool")


LLM = '{"inference_server_tags": "LLM"}'


async def test_servers_come_change_and_go(
    store: SqlResourceStore, catalog: Catalog, controller: RegistryPoolController
) -> None:
    await store.create(pool())
    await store.create(server("declared"))
    id_ = await register(catalog, "a")
    await register(catalog, "b", inference_server_tags=["NLP"])
    await controller.reconcile(KEY)
    assert await addresses(store) == ["10.0.0.7"]
    assert conditions.find((await found(store)).status.conditions, CONDITION) is None

    await asking(store, LLM)
    await controller.reconcile(KEY)
    assert await addresses(store) == ["10.0.0.7", "a.example.com"]
    assert said(await found(store), CONDITION) == ("True", "Found")
    await InferencePoolController(store).reconcile(Key("default", ""))
    assert (await found(store)).status.endpoints == 2
    assert said(await found(store), CONDITION) == ("True", "Found")

    def relabel(known: InferencePool) -> None:
        known.spec.selector = {"app": "another"}

    await store.modify(InferencePool, "pool", relabel)
    await controller.reconcile(KEY)
    servers, _ = await store.list(ModelServer)
    assert {one.spec.address: one.metadata.labels for one in servers} == {
        "10.0.0.7": LABELS,
        "a.example.com": {"app": "another"},
    }
    await catalog.delete(id_, ANONYMOUS)
    await controller.reconcile(KEY)
    assert said(await found(store), CONDITION) == ("True", "NothingFound")
    assert await addresses(store) == ["10.0.0.7"]

    await register(catalog, "c")
    await controller.reconcile(KEY)
    await asking(store, None)
    await controller.reconcile(KEY)
    assert await addresses(store) == ["10.0.0.7"]
    assert conditions.find((await found(store)).status.conditions, CONDITION) is None


async def test_servers_go_with_their_pool(
    store: SqlResourceStore, catalog: Catalog, controller: RegistryPoolController
) -> None:
    await store.create(pool())
    await asking(store, LLM)
    await register(catalog, "a")
    await controller.reconcile(KEY)
    assert await addresses(store) == ["a.example.com"]
    await store.delete(InferencePool, "pool")
    await controller.reconcile(KEY)
    assert await addresses(store) == []


async def test_a_query_that_fails_leaves_servers_as_they_are(
    store: SqlResourceStore, catalog: Catalog, controller: RegistryPoolController
) -> None:
    await store.create(pool())
    await asking(store, LLM)
    await register(catalog, "a")
    await controller.reconcile(KEY)
    for query, owners in (("{", "tenant"), ('{"a": {"$foo": 1}}', "tenant"), (LLM, "all")):
        await asking(store, query, **{OWNERS: owners})
        await controller.reconcile(KEY)
        assert said(await found(store), CONDITION) == ("False", "InvalidQuery")
        assert await addresses(store) == ["a.example.com"]


async def test_an_empty_selector_finds_no_servers(
    store: SqlResourceStore, catalog: Catalog, controller: RegistryPoolController
) -> None:
    await store.create(pool(selector={}))
    await asking(store, LLM)
    await register(catalog, "a")
    await controller.reconcile(KEY)
    assert said(await found(store), CONDITION) == ("False", "EmptySelector")
    assert await addresses(store) == []


async def test_too_many_entries_and_unfit_ones_are_told_of(
    store: SqlResourceStore,
    catalog: Catalog,
    controller: RegistryPoolController,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry_pool, "MAX_ENTRIES", 2)
    await store.create(pool())
    await asking(store, LLM)
    await register(catalog, "a", inference_server_public_url="grpc://a.example.com")
    await register(catalog, "b")
    await register(catalog, "c")
    await controller.reconcile(KEY)
    assert await addresses(store) == ["b.example.com"]
    verdict = condition(await found(store), CONDITION)
    assert verdict.reason == "EntriesSkipped"
    assert "More than 2 match" in verdict.message
    assert "grpc://a.example.com" in verdict.message
    await controller.reconcile(KEY)
    (event,), _ = await store.list(Event)
    assert (event.spec.reason, event.spec.involved_object.name) == ("EntriesSkipped", "pool")


async def test_it_follows_pools_and_registry(
    store: SqlResourceStore, catalog: Catalog, controller: RegistryPoolController
) -> None:
    async def until(wanted: list[str]) -> None:
        async with asyncio.timeout(20):
            changes = store.watch(ModelServer)
            while await addresses(store) != wanted:
                await anext(changes)

    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(controller.run(stop))
        await store.create(pool())
        await asking(store, LLM)
        id_ = await register(catalog, "a")
        await until(["a.example.com"])
        await register(catalog, "b")
        await until(["a.example.com", "b.example.com"])
        await catalog.delete(id_, ANONYMOUS)
        await until(["b.example.com"])
        await asking(store, None)
        await until([])
        stop.set()
        await running
