"""Namespaces on their way out."""

from __future__ import annotations

import pytest

from inferno.controllers.loop import Key
from inferno.controllers.namespace import NamespaceController
from inferno.core.cluster import NAMESPACE_FINALIZER, Namespace
from inferno.core.errors import Conflict, NotFound
from inferno.core.resources import InferenceService, ObjectMeta
from inferno.storage.resources import SqlResourceStore

KEY = Key("default", "team")


async def fill(store: SqlResourceStore, *finalizers: str) -> NamespaceController:
    metadata = ObjectMeta(name="team", finalizers=[NAMESPACE_FINALIZER])
    await store.create(Namespace(metadata=metadata))
    for namespace in ("team", "other"):
        inside = ObjectMeta(name="s", namespace=namespace, finalizers=list(finalizers))
        await store.create(InferenceService(metadata=inside))
    return NamespaceController(store, [InferenceService])


async def test_one_that_stays_is_left_alone(store: SqlResourceStore) -> None:
    controller = await fill(store)
    await controller.reconcile(KEY)
    assert len((await store.list(InferenceService))[0]) == 2


async def test_one_that_goes_takes_its_content_along(store: SqlResourceStore) -> None:
    controller = await fill(store)
    await store.delete(Namespace, "team")
    await controller.reconcile(KEY)
    with pytest.raises(NotFound):
        await store.get(Namespace, "team")
    (left,), _ = await store.list(InferenceService)
    assert left.metadata.namespace == "other"
    await controller.reconcile(KEY)


async def test_it_waits_for_what_has_something_to_finish(store: SqlResourceStore) -> None:
    controller = await fill(store, "a/b")
    await store.delete(Namespace, "team")
    with pytest.raises(Conflict):
        await controller.reconcile(KEY)

    def finish(service: InferenceService) -> None:
        service.metadata.finalizers = []

    await store.modify(InferenceService, "s", finish, namespace="team")
    await controller.reconcile(KEY)
    with pytest.raises(NotFound):
        await store.get(Namespace, "team")
