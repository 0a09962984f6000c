"""What every resource store does, over each database."""

import asyncio
import itertools
import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import msgspec
import pytest
from sqlalchemy import insert

from inferno.core.errors import Conflict, Expired, InvalidRequest, NotFound
from inferno.core.resources import InferenceService, ObjectMeta, Pod, PodSpec, PredictorModel
from inferno.storage.base import ResourceStore, WatchEvent
from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from inferno.storage.tables import resources
from tests.contract.storage.kinds import Part, Widget, WidgetSpec, WidgetStatus, part, widget

T = TypeVar("T")
StartWriter = Callable[..., "subprocess.Popen[str]"]


async def soon(awaitable: Any, seconds: float = 10) -> Any:
    return await asyncio.wait_for(awaitable, seconds)


async def take(watch: AsyncIterator[WatchEvent[Any]], count: int) -> list[WatchEvent[Any]]:
    return [await soon(anext(watch)) for _ in range(count)]


async def quiet(watch: AsyncIterator[WatchEvent[Any]], seconds: float = 0.1) -> bool:
    try:
        await asyncio.wait_for(anext(watch), seconds)
    except TimeoutError:
        return True
    return False


async def grow(store: SqlResourceStore, name: str, *, times: int) -> None:
    def one_more(item: Widget) -> None:
        item.spec.size += 1

    for _ in range(times):
        await store.modify(Widget, name, one_more)


def summary(events: list[WatchEvent[Any]]) -> list[tuple[str, str]]:
    return [(event.type, event.resource.metadata.name) for event in events]


def test_it_is_a_resource_store(store: SqlResourceStore) -> None:
    _: ResourceStore = store  # for mypy


class TestCreate:
    async def test_fills_the_metadata(self, store: SqlResourceStore) -> None:
        created = await store.create(widget("one", labels={"a": "b"}))
        metadata = created.metadata
        assert len(metadata.uid) == 36
        assert int(metadata.resource_version) > 0
        assert metadata.generation == 1
        assert metadata.creation_timestamp.endswith("Z")
        assert metadata.deletion_timestamp is None
        assert metadata.labels == {"a": "b"}
        assert await store.get(Widget, "one") == created

    async def test_ignores_metadata_that_is_the_stores(self, store: SqlResourceStore) -> None:
        created = await store.create(
            widget("one", uid="mine", resource_version="77", generation=9, deletion_timestamp="x")
        )
        assert created.metadata.uid != "mine"
        assert created.metadata.generation == 1
        assert created.metadata.deletion_timestamp is None

    async def test_keeps_spec_and_status(self, store: SqlResourceStore) -> None:
        resource = Widget(
            metadata=ObjectMeta(name="one"),
            spec=WidgetSpec(size=2**53, ratio=0.1, free_text='üñ "\\u0000" 🔥\n', extra={"x": [1]}),
            status=WidgetStatus(seen=1),
        )
        created = await store.create(resource)
        assert created.spec == resource.spec
        assert created.status == resource.status

    async def test_refuses_a_taken_name(self, store: SqlResourceStore) -> None:
        await store.create(widget("one"))
        with pytest.raises(Conflict, match="exists already"):
            await store.create(widget("one"))
        await store.create(widget("one", namespace="other"))
        await store.create(part("one"))

    async def test_of_one_name_by_many_has_one_winner(
        self, store: SqlResourceStore, other_store: SqlResourceStore
    ) -> None:
        stores = [store, other_store] * 5
        results = await asyncio.gather(
            *(each.create(widget("one")) for each in stores), return_exceptions=True
        )
        assert sum(isinstance(result, Widget) for result in results) == 1
        assert sum(type(result) is Conflict for result in results) == 9

    async def test_leaves_the_argument_alone(self, store: SqlResourceStore) -> None:
        resource = widget("one")
        created = await store.create(resource)
        assert resource.metadata.uid == ""
        resource.spec.extra["later"] = True
        created.spec.extra["later"] = True
        assert (await store.get(Widget, "one")).spec.extra == {}


class TestRead:
    async def test_get_raises_not_found(self, store: SqlResourceStore) -> None:
        await store.create(widget("one"))
        with pytest.raises(NotFound):
            await store.get(Widget, "two")
        with pytest.raises(NotFound):
            await store.get(Widget, "one", "other")
        with pytest.raises(NotFound):
            await store.get(Part, "one")

    async def test_list_is_sorted_and_versioned(self, store: SqlResourceStore) -> None:
        assert await store.list(Widget) == ([], 0)
        names = ["b", "a", "a-b", "ab", "a.b", "a0", "z", "10", "9"]
        for name in names:
            await store.create(widget(name))
        await store.create(widget("a", namespace="another"))
        last = await store.create(part("p"))
        found, version = await store.list(Widget)
        places = [(item.metadata.namespace, item.metadata.name) for item in found]
        assert places == [("another", "a"), *(("default", name) for name in sorted(names))]
        assert version == int(last.metadata.resource_version)

    async def test_list_by_namespace(self, store: SqlResourceStore) -> None:
        await store.create(widget("one"))
        await store.create(widget("two", namespace="other"))
        found, _ = await store.list(Widget, namespace="other")
        assert [item.metadata.name for item in found] == ["two"]
        assert (await store.list(Widget, namespace="none"))[0] == []

    async def test_list_by_labels(self, store: SqlResourceStore) -> None:
        await store.create(widget("one", labels={"app": "a", "tier": "x"}))
        await store.create(widget("two", labels={"app": "a"}))
        await store.create(widget("three", labels={"app": "A"}))
        await store.create(widget("four"))

        async def names(labels: dict[str, str] | None) -> list[str]:
            found, _ = await store.list(Widget, labels=labels)
            return [item.metadata.name for item in found]

        assert await names({"app": "a"}) == ["one", "two"]
        assert await names({"app": "a", "tier": "x"}) == ["one"]
        assert await names({"tier": "y"}) == []
        assert await names({"app": "a' OR 1=1 --"}) == []
        assert len(await names({})) == len(await names(None)) == 4

    async def test_list_of_5000(self, store: SqlResourceStore, database: Database) -> None:
        first = await store.create(widget("w"))
        rows = []
        for number in range(5_000):
            metadata = msgspec.structs.replace(
                first.metadata, name=f"w-{number}", uid=f"uid-{number}"
            )
            document = msgspec.json.encode(msgspec.structs.replace(first, metadata=metadata))
            rows.append(
                {
                    "uid": metadata.uid,
                    "kind": "test.inferno.dev/widgets",
                    "namespace": "default",
                    "name": metadata.name,
                    "resource_version": 1,
                    "generation": 1,
                    "document": document.decode(),
                }
            )
        async with database.transaction() as connection:
            await connection.execute(insert(resources), rows)
        found, _ = await soon(store.list(Widget), 2)
        assert len(found) == 5_001

    async def test_platform_kinds(self, store: SqlResourceStore) -> None:
        service = await store.create(InferenceService(metadata=ObjectMeta(name="echo")))
        pod = Pod(
            metadata=ObjectMeta(name="echo-1"),
            spec=PodSpec(service="echo", engine="echo", model=PredictorModel()),
        )
        created = await store.create(pod)
        assert await store.get(InferenceService, "echo") == service
        assert await store.get(Pod, "echo-1") == created


class TestUpdate:
    async def test_replaces_what_clients_own(self, store: SqlResourceStore) -> None:
        created = await store.create(widget("one", size=1, labels={"a": "1"}))
        created.spec.size = 2
        created.metadata.labels = {"b": "2"}
        created.metadata.annotations = {"note": "x"}
        updated = await store.update(created)
        assert updated.spec.size == 2
        assert updated.metadata.labels == {"b": "2"}
        assert updated.metadata.annotations == {"note": "x"}
        assert int(updated.metadata.resource_version) > int(created.metadata.resource_version)
        assert await store.get(Widget, "one") == updated

    async def test_leaves_status_and_identity(self, store: SqlResourceStore) -> None:
        created = await store.create(widget("one"))
        await store.update_status(
            msgspec.structs.replace(created, status=WidgetStatus(seen=1, note="kept"))
        )
        wish = widget("one", size=5, generation=40, creation_timestamp="never")
        wish.status = WidgetStatus(seen=99)
        updated = await store.update(wish)
        assert updated.status == WidgetStatus(seen=1, note="kept")
        assert updated.metadata.uid == created.metadata.uid
        assert updated.metadata.creation_timestamp == created.metadata.creation_timestamp
        assert updated.metadata.generation == 2

    async def test_status_leaves_all_else(self, store: SqlResourceStore) -> None:
        created = await store.create(widget("one", size=1, labels={"a": "1"}))
        wish = widget("one", size=2, labels={"b": "2"}, finalizers=["f"])
        wish.status = WidgetStatus(seen=7)
        updated = await store.update_status(wish)
        assert updated.status == WidgetStatus(seen=7)
        assert updated.spec == created.spec
        version = updated.metadata.resource_version
        assert updated.metadata == msgspec.structs.replace(
            created.metadata, resource_version=version
        )

    async def test_generation_counts_changes_of_spec_only(self, store: SqlResourceStore) -> None:
        resource = await store.create(widget("one"))
        resource.metadata.labels = {"a": "1"}
        resource = await store.update(resource)
        assert resource.metadata.generation == 1
        resource.status = WidgetStatus(seen=1)
        resource = await store.update_status(resource)
        assert resource.metadata.generation == 1
        resource.spec.size = 1
        resource = await store.update(resource)
        assert resource.metadata.generation == 2

    @pytest.mark.parametrize("method", ["update", "update_status"])
    async def test_conflicts(self, store: SqlResourceStore, method: str) -> None:
        write = getattr(store, method)
        old = await store.create(widget("one"))
        await store.modify(Widget, "one", lambda item: item.metadata.labels.update(a="1"))
        with pytest.raises(Conflict):
            await write(old)
        for version in ("0", "999999", "abc", " 1"):
            old.metadata.resource_version = version
            with pytest.raises(Conflict):
                await write(old)
        old.metadata.resource_version = ""
        await write(old)

    async def test_conflicts_with_a_namesake_created_since(self, store: SqlResourceStore) -> None:
        old = await store.create(widget("one"))
        await store.delete(Widget, "one")
        await store.create(widget("one"))
        old.metadata.resource_version = ""
        with pytest.raises(Conflict):
            await store.update(old)

    async def test_of_nothing_is_not_found(self, store: SqlResourceStore) -> None:
        with pytest.raises(NotFound):
            await store.update(widget("one"))
        with pytest.raises(NotFound):
            await store.update_status(widget("one"))
        with pytest.raises(NotFound):
            await store.modify(Widget, "one", lambda _: None)

    async def test_that_changes_nothing_is_no_write(self, store: SqlResourceStore) -> None:
        created = await store.create(widget("one", size=1, labels={"a": "1", "b": "2"}))
        watch = store.watch(Widget)
        same = widget("one", size=1, labels={"b": "2", "a": "1"})
        assert await store.update(same) == created
        assert await store.update(created) == created
        assert await store.update_status(created) == created
        assert await store.modify(Widget, "one", lambda _: None) == created
        assert (await store.list(Widget))[1] == int(created.metadata.resource_version)
        assert await quiet(watch)


class TestModify:
    async def test_writes_the_change(self, store: SqlResourceStore) -> None:
        await store.create(widget("one"))

        def change(item: Widget) -> None:
            item.spec.size = 3
            item.status.seen = 3

        assert (await store.modify(Widget, "one", change)).status.seen == 0
        changed = await store.modify(Widget, "one", change, status=True)
        assert (changed.spec.size, changed.status.seen) == (3, 3)

    async def test_that_fails_writes_nothing(self, store: SqlResourceStore) -> None:
        created = await store.create(widget("one"))

        def fail(item: Widget) -> None:
            item.spec.size = 3
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await store.modify(Widget, "one", fail)
        assert await store.get(Widget, "one") == created

    async def test_by_two_stores_loses_no_update(
        self, store: SqlResourceStore, other_store: SqlResourceStore
    ) -> None:
        await store.create(widget("one"))

        await asyncio.gather(grow(store, "one", times=50), grow(other_store, "one", times=50))
        found = await store.get(Widget, "one")
        assert (found.spec.size, found.metadata.generation) == (100, 101)

    async def test_by_two_processes_loses_no_update(
        self, store: SqlResourceStore, start_writer: StartWriter
    ) -> None:
        await store.create(widget("one"))
        writers = [start_writer("increment", "one", "50") for _ in range(2)]
        for writer in writers:
            assert await asyncio.to_thread(writer.wait, 30) == 0
        assert (await store.get(Widget, "one")).spec.size == 100


class TestDelete:
    async def test_removes(self, store: SqlResourceStore) -> None:
        await store.create(widget("one"))
        await store.delete(Widget, "one")
        with pytest.raises(NotFound):
            await store.get(Widget, "one")
        with pytest.raises(NotFound):
            await store.delete(Widget, "one")

    async def test_cascades_to_dependents(self, store: SqlResourceStore) -> None:
        owner = await store.create(widget("owner"))
        middle = await store.create(part("middle", owner))
        await store.create(part("leaf", middle))
        await store.create(part("leaf-elsewhere", middle, namespace="other"))
        await store.create(part("stranger"))
        watch = store.watch(Part)
        await store.delete(Widget, "owner")
        found, _ = await store.list(Part)
        assert [item.metadata.name for item in found] == ["stranger"]
        events = await take(watch, 3)
        assert summary(events) == [
            ("DELETED", "middle"),
            ("DELETED", "leaf"),
            ("DELETED", "leaf-elsewhere"),
        ]

    async def test_spares_dependents_with_another_owner(self, store: SqlResourceStore) -> None:
        one, two = await store.create(widget("one")), await store.create(widget("two"))
        await store.create(part("shared", one, two))
        await store.delete(Widget, "one")
        await store.get(Part, "shared")
        await store.delete(Widget, "two")
        with pytest.raises(NotFound):
            await store.get(Part, "shared")

    async def test_follows_owners_as_updated(self, store: SqlResourceStore) -> None:
        owner = await store.create(widget("owner"))
        await store.create(part("freed", owner))
        await store.create(part("adopted"))
        references = part("x", owner).metadata.owner_references
        await store.modify(Part, "freed", lambda item: item.metadata.owner_references.clear())
        await store.modify(
            Part, "adopted", lambda item: item.metadata.owner_references.extend(references)
        )
        await store.delete(Widget, "owner")
        found, _ = await store.list(Part)
        assert [item.metadata.name for item in found] == ["freed"]

    async def test_ends_with_owners_in_a_circle(self, store: SqlResourceStore) -> None:
        one = await store.create(part("one"))
        two = await store.create(part("two", one))
        circle = part("x", two).metadata.owner_references
        await store.modify(Part, "one", lambda item: item.metadata.owner_references.extend(circle))
        await store.delete(Part, "one")
        assert (await store.list(Part))[0] == []

    async def test_dependent_of_a_deleted_owner_is_refused(self, store: SqlResourceStore) -> None:
        owner = await store.create(widget("owner"))
        await store.delete(Widget, "owner")
        with pytest.raises(Conflict, match="owner"):
            await store.create(part("late", owner))

    async def test_waits_for_finalizers(self, store: SqlResourceStore) -> None:
        owner = await store.create(widget("one", finalizers=["a", "b"]))
        await store.create(part("dependent", owner))
        watch = store.watch(Widget)
        await store.delete(Widget, "one")
        marked = await store.get(Widget, "one")
        assert marked.metadata.deletion_timestamp is not None
        assert marked.metadata.generation == 1
        await store.delete(Widget, "one")
        assert await store.get(Widget, "one") == marked
        await store.modify(Widget, "one", lambda item: item.metadata.finalizers.remove("a"))
        await store.get(Part, "dependent")
        last = await store.modify(Widget, "one", lambda item: item.metadata.finalizers.remove("b"))
        assert last.metadata.finalizers == []
        with pytest.raises(NotFound):
            await store.get(Widget, "one")
        with pytest.raises(NotFound):
            await store.get(Part, "dependent")
        events = await take(watch, 3)
        assert [event.type for event in events] == ["MODIFIED", "MODIFIED", "DELETED"]

    async def test_of_an_owner_marks_dependents_with_finalizers(
        self, store: SqlResourceStore
    ) -> None:
        owner = await store.create(widget("owner"))
        await store.create(part("slow", owner, finalizers=["stop"]))
        await store.delete(Widget, "owner")
        assert (await store.get(Part, "slow")).metadata.deletion_timestamp is not None
        await store.modify(Part, "slow", lambda item: item.metadata.finalizers.clear())
        assert (await store.list(Part))[0] == []

    async def test_takes_no_new_finalizers(self, store: SqlResourceStore) -> None:
        await store.create(widget("one", finalizers=["a"]))
        await store.delete(Widget, "one")
        with pytest.raises(InvalidRequest) as caught:
            await store.modify(Widget, "one", lambda item: item.metadata.finalizers.append("b"))
        assert caught.value.field == "metadata.finalizers"


class TestWatch:
    async def test_yields_changes_in_write_order(self, store: SqlResourceStore) -> None:
        await store.create(widget("before"))
        watch = store.watch(Widget)
        await store.create(widget("one"))
        await store.create(part("unseen"))
        changed = await store.modify(Widget, "one", lambda item: setattr(item.spec, "size", 1))
        await store.delete(Widget, "one")
        events = await take(watch, 3)
        assert summary(events) == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]
        assert events[1].resource == changed
        assert events[2].resource.spec == changed.spec
        versions = [event.resource_version for event in events]
        assert versions == sorted(set(versions))
        assert [int(event.resource.metadata.resource_version) for event in events] == versions
        assert await quiet(watch)

    async def test_starts_at_the_call(self, store: SqlResourceStore) -> None:
        watch = store.watch(Widget)
        await store.create(widget("one"))
        await asyncio.sleep(0.05)
        later = store.watch(Widget)
        assert summary(await take(watch, 1)) == [("ADDED", "one")]
        assert await quiet(later)

    async def test_resumes_after_a_version(self, store: SqlResourceStore) -> None:
        _, start = await store.list(Widget)
        for name in ("one", "two", "three"):
            await store.create(widget(name))
        events = await take(store.watch(Widget, since=start), 3)
        assert [name for _, name in summary(events)] == ["one", "two", "three"]
        again = store.watch(Widget, since=events[0].resource_version)
        assert summary(await take(again, 2)) == [("ADDED", "two"), ("ADDED", "three")]

    async def test_wakes_without_looking(self, database: Database) -> None:
        store = await SqlResourceStore.open(database, interval=3600)
        waiting = asyncio.create_task(take(store.watch(Widget), 1))
        await asyncio.sleep(0.05)
        await store.create(widget("one"))
        await soon(waiting)
        await store.close()

    async def test_sees_writes_of_another_store(
        self, store: SqlResourceStore, other_store: SqlResourceStore
    ) -> None:
        watch = store.watch(Widget)
        await other_store.create(widget("one"))
        await store.create(part("mine"))
        await other_store.create(widget("two"))
        assert [name for _, name in summary(await take(watch, 2))] == ["one", "two"]

    async def test_hears_postgres_notices_without_looking(
        self, url: str, database: Database, other_store: SqlResourceStore
    ) -> None:
        if url.startswith("sqlite"):
            pytest.skip("SQLite sends no notices; its stores look every half second")
        store = await SqlResourceStore.open(database, interval=3600)
        await asyncio.sleep(0.5)  # connecting the listener goes on in the background
        watch = store.watch(Widget)
        await other_store.create(widget("one"))
        assert summary(await take(watch, 1)) == [("ADDED", "one")]
        await store.close()

    async def test_sees_writes_of_another_process(
        self, store: SqlResourceStore, start_writer: StartWriter
    ) -> None:
        watch = store.watch(Widget)
        start_writer("create", "one")
        assert summary(await take(watch, 1)) == [("ADDED", "one")]

    async def test_every_watch_sees_every_event_once(
        self, store: SqlResourceStore, other_store: SqlResourceStore
    ) -> None:
        watches = [each.watch(Widget) for each in (store, other_store) for _ in range(3)]
        readers = [asyncio.create_task(take(watch, 60)) for watch in watches]

        async def write(by: SqlResourceStore, prefix: str) -> None:
            for number in range(10):
                await by.create(widget(f"{prefix}-{number}"))

        writers = (store, other_store)
        await asyncio.gather(*(write(by, f"w{index}") for index, by in enumerate(writers * 3)))
        seen = await soon(asyncio.gather(*readers), 20)
        assert all(events == seen[0] for events in seen)
        versions = [event.resource_version for event in seen[0]]
        assert versions == sorted(set(versions))
        assert all([await quiet(watch, 0.02) for watch in watches])

    async def test_gives_each_watcher_its_own_copy(self, store: SqlResourceStore) -> None:
        one, two = store.watch(Widget), store.watch(Widget)
        await store.create(widget("w"))
        (first,), (second,) = await take(one, 1), await take(two, 1)
        first.resource.spec.extra["mine"] = True
        assert second.resource.spec.extra == {}

    async def test_cancelled_wait_loses_nothing(self, store: SqlResourceStore) -> None:
        watch = store.watch(Widget)
        seen: list[str] = []

        async def write() -> None:
            for number in range(30):
                await store.create(widget(f"w-{number}"))

        writing = asyncio.create_task(write())
        patience = itertools.cycle([0, 0.001, 0.002, 0.005, 0.01, 1])
        while len(seen) < 30:
            try:
                event = await asyncio.wait_for(anext(watch), next(patience))
            except TimeoutError:
                continue
            seen.append(event.resource.metadata.name)
        await writing
        assert seen == [f"w-{number}" for number in range(30)]

    async def test_ends_when_the_store_closes(self, database: Database) -> None:
        store = await SqlResourceStore.open(database)
        waiting = asyncio.create_task(take(store.watch(Widget), 1))
        await asyncio.sleep(0.05)
        await store.close()
        with pytest.raises(StopAsyncIteration):
            await soon(waiting)

    async def test_reads_more_than_one_batch(self, database: Database) -> None:
        store = await SqlResourceStore.open(database)
        await store.create(widget("one"))
        watch = store.watch(Widget)
        await grow(store, "one", times=300)
        events = await take(watch, 300)
        assert [event.resource.spec.size for event in events] == list(range(1, 301))
        await store.close()


class TestHistory:
    async def test_is_bounded_and_says_so(self, database: Database) -> None:
        store = await SqlResourceStore.open(database, history=20)
        start = int((await store.create(widget("one"))).metadata.resource_version)
        await store.create(part("quiet"))
        behind = store.watch(Widget)
        await grow(store, "one", times=60)
        newest = (await store.list(Widget))[1]
        for watch in (store.watch(Widget, since=start), behind):
            with pytest.raises(Expired):
                await soon(anext(watch))
        events = await take(store.watch(Widget, since=newest - 20), 20)
        assert events[-1].resource_version == newest
        with pytest.raises(Expired):
            await soon(anext(store.watch(Part, since=start)))
        await store.close()

    async def test_of_a_quiet_kind_does_not_expire(self, database: Database) -> None:
        store = await SqlResourceStore.open(database, history=20)
        created = await store.create(part("quiet"))
        watch = store.watch(Part, since=int(created.metadata.resource_version))
        waiting = store.watch(Part)
        await store.create(widget("busy"))
        await grow(store, "busy", times=60)
        await store.delete(Part, "quiet")
        assert summary(await take(watch, 1)) == summary(await take(waiting, 1))
        await store.close()

    async def test_of_the_future_is_another_databases(self, store: SqlResourceStore) -> None:
        with pytest.raises(Expired):
            await soon(anext(store.watch(Widget, since=1_000_000)))

    async def test_survives_a_restart(self, url: str) -> None:
        for round_ in range(3):
            database = await Database.open(url)
            store = await SqlResourceStore.open(database)
            created = await store.create(widget(f"w-{round_}"))
            assert int(created.metadata.resource_version) == round_ + 1
            events = await take(store.watch(Widget, since=0), round_ + 1)
            assert events[-1].resource == created
            await store.close()
            await database.close()


class TestHostileInput:
    NAMES = (
        *("", "-a", "a-", ".a", "A", "a_b", "a/b", "a b", "a\n", "\x00", "a\x00b", "ü"),
        *("a" * 254, "../../etc/passwd", "'; DROP TABLE resources; --", "a\u0660", "\ud800"),
    )

    async def test_names_are_refused(self, store: SqlResourceStore) -> None:
        for name in self.NAMES:
            with pytest.raises(InvalidRequest) as caught:
                await store.create(widget(name))
            assert caught.value.field == "metadata.name"
            with pytest.raises(InvalidRequest) as caught:
                await store.create(widget("fine", namespace=name))
            assert caught.value.field == "metadata.namespace"

    async def test_names_are_not_found(self, store: SqlResourceStore) -> None:
        for name in self.NAMES:
            for attempt in (
                store.get(Widget, name),
                store.get(Widget, "fine", name),
                store.update(widget(name)),
                store.update_status(widget(name)),
                store.modify(Widget, name, lambda _: None),
                store.delete(Widget, name),
            ):
                with pytest.raises(NotFound):
                    await attempt
            assert await store.list(Widget, namespace=name, labels={name: name}) == ([], 0)

    async def test_longest_name(self, store: SqlResourceStore) -> None:
        created = await store.create(widget("a" * 253, namespace="n" * 63))
        await store.delete(Widget, created.metadata.name, created.metadata.namespace)

    @pytest.mark.parametrize("text", ["a\x00b", "x\udfffy"])
    async def test_text(self, store: SqlResourceStore, text: str) -> None:
        await store.create(widget("one"))
        places: dict[str, Callable[[Widget], Any]] = {
            "metadata.labels.k": lambda item: item.metadata.labels.update(k=text),
            "metadata.labels": lambda item: item.metadata.labels.update({text: "v"}),
            "metadata.annotations.k": lambda item: item.metadata.annotations.update(k=text),
            "metadata.finalizers[0]": lambda item: item.metadata.finalizers.append(text),
            "spec.freeText": lambda item: setattr(item.spec, "free_text", text),
            "spec.extra.a[1].b": lambda item: item.spec.extra.update(a=[0, {"b": text}]),
        }
        for field, change in places.items():
            resource = widget("other")
            change(resource)
            with pytest.raises(InvalidRequest) as caught:
                await store.create(resource)
            assert caught.value.field == field
            with pytest.raises(InvalidRequest):
                await store.modify(Widget, "one", change)

    async def test_values_of_the_wrong_type(self, store: SqlResourceStore) -> None:
        resource = widget("one")
        resource.spec.size = "many"  # type: ignore[assignment]
        with pytest.raises(InvalidRequest) as caught:
            await store.create(resource)
        assert caught.value.field == "spec.size"
        resource = widget("one")
        resource.spec.extra["object"] = object()
        with pytest.raises(InvalidRequest):
            await store.create(resource)
        resource = widget("one")
        resource.spec.extra["self"] = resource.spec.extra
        with pytest.raises(InvalidRequest):
            await store.create(resource)

    async def test_text_that_only_looks_hostile(self, store: SqlResourceStore) -> None:
        text = "\\u0000 \\ud800 '\"; -- %s :name {x} \u2028 \U0010ffff"
        created = await store.create(widget("one", annotations={text: text}))
        assert (await store.get(Widget, "one")).metadata.annotations == {text: text}
        references = part("x", created).metadata.owner_references
        references[0].uid = "u" * 10_000
        await store.modify(
            Widget, "one", lambda item: item.metadata.owner_references.extend(references)
        )


class TestFailures:
    async def test_nothing_acknowledged_is_lost_to_kill(
        self, url: str, start_writer: StartWriter
    ) -> None:
        expected: dict[str, str] = {}
        for round_ in range(2):
            writer = start_writer("endlessly", f"w{round_}")
            assert writer.stdout is not None
            lines = [await asyncio.to_thread(writer.stdout.readline) for _ in range(20)]
            writer.kill()
            lines += writer.communicate()[0].splitlines(keepends=True)
            for line in lines:
                if line.endswith("\n"):  # else the kill came in the middle of it
                    name, _, version = line.strip().partition(" ")
                    expected[name] = version
        database = await Database.open(url)
        store = await SqlResourceStore.open(database)
        found, _ = await store.list(Widget)
        versions = {item.metadata.name: item.metadata.resource_version for item in found}
        assert len(expected) >= 26
        for name, version in expected.items():
            if version != "deleted":
                # The last one may be gone: removed just before the kill came.
                assert versions.get(name) == version or name == list(expected)[-1]
            else:
                assert name not in versions
        await store.create(widget("after"))
        await store.close()
        await database.close()

    async def test_cancelled_writes_leave_a_sound_store(self, store: SqlResourceStore) -> None:
        await store.create(widget("one"))
        watch = store.watch(Widget)

        for delay in range(60):
            writes = [asyncio.create_task(grow(store, "one", times=1)) for _ in range(3)]
            await asyncio.sleep(delay / 5_000)
            for write in writes:
                write.cancel()
            await asyncio.gather(*writes, return_exceptions=True)
        await grow(store, "one", times=1)
        last = await store.get(Widget, "one")
        event = await soon(anext(watch))
        sizes = [event.resource.spec.size]
        while event.resource_version < int(last.metadata.resource_version):
            event = await soon(anext(watch))
            sizes.append(event.resource.spec.size)
        assert sizes == list(range(1, last.spec.size + 1))
