"""Who looks after which fields, and server-side apply."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.cluster import ownership
from inferno.cluster.ownership import Writer, applied, fields_of, notation, paths_of
from inferno.cluster.status import ApplyConflict
from inferno.core.resources import ManagedFields

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "metadata": {
            "type": "object",
            "properties": {
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "finalizers": {"type": "array", "x-kubernetes-list-type": "set"},
            },
        },
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer"},
                "atoms": {"type": "array", "x-kubernetes-list-type": "atomic"},
                "items": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "v": {"type": "integer"}},
                    },
                },
            },
        },
    },
}


def writer(name: str) -> Writer:
    return Writer(manager=name, api_version="v1", subresource="", now="2026-01-01T00:00:00Z")


def apply(
    live: dict[str, Any],
    entries: list[ManagedFields],
    who: str,
    *,
    force: bool = False,
    **spec: Any,
) -> tuple[dict[str, Any], list[ManagedFields]]:
    return applied(live, {"spec": spec}, SCHEMA, entries, writer(who), force=force)


def test_applied_fields_are_there_and_ones_own() -> None:
    live, entries = apply({}, [], "ann", size=1, items=[{"name": "a", "v": 1}])
    assert live == {"spec": {"size": 1, "items": [{"name": "a", "v": 1}]}}
    (entry,) = entries
    assert (entry.manager, entry.operation, entry.fields_type) == ("ann", "Apply", "FieldsV1")
    assert entry.fields_v1 == {
        "f:spec": {
            "f:size": {},
            "f:items": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:v": {}}},
        }
    }


def test_applying_again_changes_nothing() -> None:
    live, entries = apply({}, [], "ann", size=1)
    later = Writer(manager="ann", api_version="v1", subresource="", now="2027-01-01T00:00:00Z")
    assert applied(live, {"spec": {"size": 1}}, SCHEMA, entries, later, force=False) == (
        live,
        entries,
    )


def test_another_value_conflicts_unless_forced() -> None:
    live, entries = apply({}, [], "ann", size=1, atoms=[1])
    with pytest.raises(ApplyConflict) as conflict:
        apply(live, entries, "bob", size=2)
    assert conflict.value.message == 'Apply failed with 1 conflict: conflict with "ann": .spec.size'
    assert [cause.field for cause in conflict.value.causes] == [".spec.size"]
    live, entries = apply(live, entries, "bob", size=2, force=True)
    assert live["spec"] == {"size": 2, "atoms": [1]}
    owners = {entry.manager: paths_of(entry) for entry in entries}
    assert owners == {"ann": {("f:spec", "f:atoms")}, "bob": {("f:spec", "f:size")}}


def test_equal_values_are_shared() -> None:
    live, entries = apply({}, [], "ann", size=1)
    live, entries = apply(live, entries, "bob", size=1)
    assert len(entries) == 2
    live, entries = apply(live, entries, "ann")
    assert live["spec"] == {"size": 1}
    live, entries = apply(live, entries, "bob")
    assert live == {"spec": {}}
    assert entries == []


def test_items_of_lists_by_key_come_and_go() -> None:
    live, entries = apply({}, [], "ann", items=[{"name": "a", "v": 1}, {"name": "b", "v": 1}])
    live, entries = apply(live, entries, "bob", items=[{"name": "c", "v": 3}])
    assert [item["name"] for item in live["spec"]["items"]] == ["a", "b", "c"]
    live, entries = apply(live, entries, "ann", items=[{"name": "b", "v": 2}])
    assert live["spec"]["items"] == [{"name": "b", "v": 2}, {"name": "c", "v": 3}]


def test_an_update_takes_over_what_it_changes() -> None:
    live, entries = apply({}, [], "ann", size=1, atoms=[1])
    changed = {"spec": {"size": 5, "atoms": [1]}}
    old, new = (fields_of(one, SCHEMA, subresource="") for one in (live, changed))
    entries = ownership.after_update(entries, old, new, writer("editor"))
    owners = {(entry.manager, entry.operation): paths_of(entry) for entry in entries}
    assert owners == {
        ("ann", "Apply"): {("f:spec", "f:atoms")},
        ("editor", "Update"): {("f:spec", "f:size")},
    }
    with pytest.raises(ApplyConflict, match='conflict with "editor" using v1'):
        apply(changed, entries, "ann", size=1)


def test_an_update_that_changes_nothing_keeps_the_entries() -> None:
    live, entries = apply({}, [], "ann", size=1)
    fields = fields_of(live, SCHEMA, subresource="")
    assert ownership.after_update(entries, fields, fields, writer("editor")) is entries


def test_status_is_apart() -> None:
    served = {"spec": {"size": 1}, "status": {"ready": True}, "metadata": {"name": "a"}}
    assert fields_of(served, SCHEMA, subresource="") == {("f:spec", "f:size"): 1}
    assert fields_of(served, SCHEMA, subresource="status") == {("f:status", "f:ready"): True}


STEPS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])
PATHS = st.sets(st.lists(STEPS, min_size=1, max_size=4).map(tuple), max_size=12)


@given(PATHS)
def test_notation_says_what_it_was_made_of(paths: set[tuple[str, ...]]) -> None:
    assert paths_of(ManagedFields(fields_v1=notation(paths))) == paths


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "size": st.integers(0, 3),
        "atoms": st.lists(st.integers(0, 2), min_size=1, max_size=2),
        "items": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from("abc"), "v": st.integers(0, 2)}),
            min_size=1,
            max_size=3,
            unique_by=lambda item: item["name"],
        ),
    },
)


@given(st.lists(st.tuples(st.sampled_from(["ann", "bob"]), SPECS), max_size=8))
def test_what_was_applied_last_holds_and_nothing_is_left_behind(
    steps: list[tuple[str, dict[str, Any]]],
) -> None:
    live: dict[str, Any] = {}
    entries: list[ManagedFields] = []
    for who, spec in steps:
        live, entries = apply(live, entries, who, force=True, **spec)
        present = fields_of(live, SCHEMA, subresource="")
        wanted = fields_of({"spec": spec}, SCHEMA, subresource="")
        assert wanted.items() <= present.items()
    for who in ("ann", "bob"):
        live, entries = apply(live, entries, who, force=True)
    assert entries == []
    left = live.get("spec", {})
    assert not left.get("items")
    assert not left.keys() & {"size", "atoms"}
