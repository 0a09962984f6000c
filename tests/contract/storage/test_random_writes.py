"""Any sequence of writes leaves the store as a plain model of it, and its history tells the same.

The model is a dictionary: what a person would say the operations do.
"""

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferno.core.errors import Conflict, InfernoError, InvalidRequest, NotFound
from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from tests.contract.storage.kinds import Widget, WidgetStatus, widget

NAMES = st.sampled_from(["a", "b", "c"])
OPERATIONS = st.one_of(
    st.tuples(st.just("create"), NAMES, st.booleans()),
    st.tuples(st.just("update"), NAMES, st.integers(0, 2)),
    st.tuples(st.just("label"), NAMES, st.sampled_from(["x", "y"])),
    st.tuples(st.just("status"), NAMES, st.integers(0, 2)),
    st.tuples(st.just("hold"), NAMES, st.none()),
    st.tuples(st.just("release"), NAMES, st.none()),
    st.tuples(st.just("delete"), NAMES, st.none()),
)


@dataclass
class Entry:
    size: int = 0
    label: str = ""
    seen: int = 0
    generation: int = 1
    held: bool = False
    going: bool = False


@dataclass
class Model:
    entries: dict[str, Entry] = field(default_factory=dict)

    def apply(self, action: str, name: str, value: Any) -> type[InfernoError] | None:
        """Do an operation, or return the error it is to raise."""
        entry = self.entries.get(name)
        if action == "create":
            if entry is not None:
                return Conflict
            self.entries[name] = Entry(held=value)
            return None
        if entry is None:
            return NotFound
        if action == "update" and entry.size != value:
            entry.size, entry.generation = value, entry.generation + 1
        elif action == "label":
            entry.label = value
        elif action == "status":
            entry.seen = value
        elif action == "hold" and not entry.held:
            if entry.going:
                return InvalidRequest
            entry.held = True
        elif action == "release":
            entry.held = False
        elif action == "delete":
            entry.going = True
        if entry.going and not entry.held:
            del self.entries[name]
        return None


def entry_of(item: Widget) -> Entry:
    return Entry(
        size=item.spec.size,
        label=item.metadata.labels.get("k", ""),
        seen=item.status.seen,
        generation=item.metadata.generation,
        held="held" in item.metadata.finalizers,
        going=item.metadata.deletion_timestamp is not None,
    )


async def perform(store: SqlResourceStore, place: str, action: str, name: str, value: Any) -> None:
    def change(item: Widget) -> None:
        if action == "update":
            item.spec.size = value
        elif action == "label":
            item.metadata.labels["k"] = value
        elif action == "status":
            item.status = WidgetStatus(seen=value)
        elif action == "hold":
            item.metadata.finalizers = ["held"]
        else:
            item.metadata.finalizers = []

    if action == "create":
        await store.create(widget(name, namespace=place, finalizers=["held"] if value else []))
    elif action == "delete":
        await store.delete(Widget, name, place)
    else:
        await store.modify(Widget, name, change, namespace=place, status=action == "status")


async def check(url: str, operations: list[tuple[str, str, Any]]) -> None:
    place = f"n{uuid.uuid4().hex}"
    database = await Database.open(url)
    store = await SqlResourceStore.open(database)
    try:
        model = Model()
        watch = store.watch(Widget)
        for action, name, value in operations:
            expected = model.apply(action, name, value)
            raised: type[Exception] | None = None
            try:
                await perform(store, place, action, name, value)
            except InfernoError as error:
                raised = type(error)
            assert raised is expected
        found, _ = await store.list(Widget, namespace=place)
        assert {item.metadata.name: entry_of(item) for item in found} == model.entries

        await store.create(widget("end", namespace=place))
        replayed: dict[str, Widget] = {}
        async for event in watch:
            name = event.resource.metadata.name
            if name == "end":
                break
            assert (event.type == "ADDED") == (name not in replayed)
            replayed[name] = event.resource
            if event.type == "DELETED":
                del replayed[name]
        assert sorted(replayed.values(), key=lambda item: item.metadata.name) == found
    finally:
        await store.close()
        await database.close()


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=st.lists(OPERATIONS, max_size=15))
def test_store_behaves_like_a_dictionary(url: str, operations: list[tuple[str, str, Any]]) -> None:
    asyncio.run(check(url, operations))
