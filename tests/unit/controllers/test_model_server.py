"""Whether requests can be sent to model servers, over a real store."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest

from inferno.controllers.loop import Key
from inferno.controllers.model_server import ModelServerController, set_reachable
from inferno.core.model_servers import ModelServer, Observation
from inferno.core.resources import ObjectMeta
from inferno.core.secrets import Secret, SecretSpec
from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from inferno.storage.sealing import Sealer
from tests.unit.controllers.cluster import condition, said, server

NAMESPACE = Key("default", "")


@pytest.fixture
async def store() -> AsyncIterator[SqlResourceStore]:
    database = await Database.open("sqlite+aiosqlite:///:memory:")
    store = await SqlResourceStore.open(database, sealer=Sealer(b"s" * 32))
    yield store
    await store.close()
    await database.close()


async def _look(store: SqlResourceStore, *, reachable: bool, generation: int = 1) -> ModelServer:
    reason = "" if reachable else "ConnectionRefused"
    seen = Observation(generation=generation, reachable=reachable, reason=reason)
    await set_reachable(store, "default", "gpu", seen)
    await ModelServerController(store).reconcile(NAMESPACE)
    return await store.get(ModelServer, "gpu")


async def test_it_is_ready_when_somebody_reached_it(store: SqlResourceStore) -> None:
    await store.create(server("gpu"))
    await ModelServerController(store).reconcile(NAMESPACE)
    found = await store.get(ModelServer, "gpu")
    assert said(found, "Ready") == ("Unknown", "Pending")
    assert not found.is_ready
    found = await _look(store, reachable=True)
    assert (said(found, "Reachable"), said(found, "Ready")) == (
        ("True", "Answered"),
        ("True", "Ready"),
    )
    assert found.is_ready
    found = await _look(store, reachable=False)
    assert said(found, "Ready") == ("False", "ConnectionRefused")
    assert not found.is_ready


async def test_a_server_that_moved_has_to_be_reached_again(store: SqlResourceStore) -> None:
    await store.create(server("gpu"))
    assert (await _look(store, reachable=True)).is_ready

    def move(one: ModelServer) -> None:
        one.spec.address = "10.0.0.8"

    moved = await store.modify(ModelServer, "gpu", move)
    assert not moved.is_ready  # even before the controller has seen it
    found = await _look(store, reachable=True, generation=1)
    assert said(found, "Ready") == ("Unknown", "Pending")
    assert (await _look(store, reachable=True, generation=2)).is_ready


async def test_its_key_has_to_be_there(store: SqlResourceStore) -> None:
    await store.create(server("gpu", key_from=("keys", "api")))
    found = await _look(store, reachable=True)
    assert said(found, "Ready") == ("False", "SecretNotFound")
    data = {"other": base64.b64encode(b"x").decode()}
    await store.create(Secret(metadata=ObjectMeta(name="keys"), spec=SecretSpec(data=data)))
    found = await _look(store, reachable=True)
    assert said(found, "Ready") == ("False", "SecretKeyNotFound")
    assert "'api'" in condition(found, "Ready").message

    def add(secret: Secret) -> None:
        secret.spec.data["api"] = base64.b64encode(b"k").decode()

    await store.modify(Secret, "keys", add)
    assert (await _look(store, reachable=True)).is_ready


async def test_a_server_that_is_gone_is_left_alone(store: SqlResourceStore) -> None:
    await set_reachable(store, "default", "gpu", Observation(generation=1, reachable=True))
    assert (await store.list(ModelServer))[0] == []


async def test_the_same_look_again_writes_nothing(store: SqlResourceStore) -> None:
    await store.create(server("gpu"))
    assert await _look(store, reachable=True) == await _look(store, reachable=True)
