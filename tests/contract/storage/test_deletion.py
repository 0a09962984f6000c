"""Deletion in the foreground, in the background, and of owners alone; dry runs; pages."""

from __future__ import annotations

import pytest

from inferno.core.errors import Conflict, NotFound
from inferno.core.resources import InferenceService, ObjectMeta, OwnerReference, Resource
from inferno.storage.removal import FOREGROUND_FINALIZER
from inferno.storage.resources import SqlResourceStore


def service(name: str, *owners: Resource, finalizers: tuple[str, ...] = ()) -> InferenceService:
    references = [
        OwnerReference(
            api_version=one.KIND.api_version,
            kind=one.KIND.kind,
            name=one.metadata.name,
            uid=one.metadata.uid,
        )
        for one in owners
    ]
    metadata = ObjectMeta(name=name, owner_references=references, finalizers=list(finalizers))
    return InferenceService(metadata=metadata)


async def names(store: SqlResourceStore) -> list[str]:
    found, _ = await store.list(InferenceService)
    return [one.metadata.name for one in found]


async def release(store: SqlResourceStore, name: str) -> None:
    def change(stored: InferenceService) -> None:
        stored.metadata.finalizers = []

    await store.modify(InferenceService, name, change)


async def test_foreground_takes_dependents_first(store: SqlResourceStore) -> None:
    owner = await store.create(service("owner"))
    await store.create(service("held", owner, finalizers=("a/b",)))
    await store.create(service("free", owner))
    last = await store.delete(InferenceService, "owner", propagation="Foreground")
    assert last.finalizers == [FOREGROUND_FINALIZER]
    assert last.deletion_timestamp
    assert await names(store) == ["held", "owner"]
    await release(store, "held")
    assert await names(store) == []


async def test_foreground_without_dependents_is_at_once(store: SqlResourceStore) -> None:
    await store.create(service("owner"))
    last = await store.delete(InferenceService, "owner", propagation="Foreground")
    assert last.finalizers == []
    assert await names(store) == []


async def test_foreground_goes_on_through_generations(store: SqlResourceStore) -> None:
    owner = await store.create(service("a"))
    middle = await store.create(service("b", owner))
    await store.create(service("c", middle, finalizers=("a/b",)))
    await store.delete(InferenceService, "a", propagation="Foreground")
    assert await names(store) == ["c"]
    await release(store, "c")
    assert await names(store) == []


async def test_orphans_stay(store: SqlResourceStore) -> None:
    owner = await store.create(service("owner"))
    await store.create(service("dependent", owner))
    await store.delete(InferenceService, "owner", propagation="Orphan")
    left = await store.get(InferenceService, "dependent")
    assert left.metadata.owner_references == []
    assert await names(store) == ["dependent"]


async def test_a_precondition_keeps_what_it_refuses(store: SqlResourceStore) -> None:
    await store.create(service("a"))

    def refuse(_: ObjectMeta) -> None:
        raise Conflict("not this one")

    with pytest.raises(Conflict, match="not this one"):
        await store.delete(InferenceService, "a", precondition=refuse)
    assert await names(store) == ["a"]


async def test_dry_runs_keep_nothing_and_say_what_would_be(store: SqlResourceStore) -> None:
    made = await store.create(service("a"), dry_run=True)
    assert made.metadata.uid
    assert await names(store) == []
    await store.create(service("a"))
    with pytest.raises(Conflict):
        await store.create(service("a"), dry_run=True)
    watch = store.watch(InferenceService)

    def pin(stored: InferenceService) -> None:
        stored.spec.pinned = True

    assert (await store.modify(InferenceService, "a", pin, dry_run=True)).spec.pinned
    assert not (await store.get(InferenceService, "a")).spec.pinned
    await store.delete(InferenceService, "a", dry_run=True)
    assert await names(store) == ["a"]
    await store.create(service("b"))
    assert (await anext(aiter(watch))).resource.metadata.name == "b"
    with pytest.raises(NotFound):
        await store.delete(InferenceService, "missing", dry_run=True)


async def test_pages_are_in_the_order_of_lists(store: SqlResourceStore) -> None:
    for name in ("b", "a-b", "a.b", "ab", "a", "0", "b2", "b-1"):
        await store.create(service(name))
    whole, _ = await store.list(InferenceService)
    seen: list[str] = []
    after: tuple[str, str] | None = None
    while True:
        page = await store.page(InferenceService, limit=3, after=after)
        seen += [one.metadata.name for one in page.resources]
        assert page.remaining == len(whole) - len(seen)
        if not page.remaining:
            break
        last = page.resources[-1].metadata
        after = (last.namespace, last.name)
    assert seen == [one.metadata.name for one in whole]
    assert (await store.page(InferenceService, limit=3, namespace="other")).resources == []
    assert (await store.page(InferenceService, limit=3, namespace="Not one")).resources == []


async def test_the_state_before_a_change_is_known(store: SqlResourceStore) -> None:
    watch = aiter(store.watch(InferenceService))
    await store.create(service("a"))

    def pin(stored: InferenceService) -> None:
        stored.spec.pinned = True

    await store.modify(InferenceService, "a", pin)
    added, modified = await anext(watch), await anext(watch)
    assert await store.before(added) is None
    before = await store.before(modified)
    assert before is not None
    assert not before.spec.pinned
