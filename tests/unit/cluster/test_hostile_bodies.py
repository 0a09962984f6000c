"""Bodies and entries that cost far more than they look."""

from __future__ import annotations

from typing import Any

import pytest

from inferno.cluster.ownership import Writer, applied, unreadable
from inferno.cluster.requests import from_yaml
from inferno.core.errors import InvalidRequest
from inferno.core.resources import ManagedFields

TEXTS: Any = {"type": "object", "additionalProperties": {"type": "string"}}
SCHEMA: Any = {"properties": {"metadata": {"properties": {"annotations": TEXTS}}}}


@pytest.mark.parametrize("opened", [b"[", b"{a: ", b"- ", b"? "])
def test_yaml_nested_deeply_does_not_end_the_process(opened: bytes) -> None:
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        from_yaml(opened * 200_000)


def test_yaml_of_very_many_parts() -> None:
    with pytest.raises(InvalidRequest, match="too many parts"):
        from_yaml(b"- a\n" * 500_000)


def test_yaml_as_people_write_it() -> None:
    assert from_yaml(b"a:\n- {b: [1, 2]}\n- c\n") == {"a": [{"b": [1, 2]}, "c"]}


@pytest.mark.parametrize(
    "fields",
    [
        {"k:{": {}},
        {"k:[]": {}},
        {"v:": {}},
        {"x:y": {}},
        {"f:a": 1},
        {"f:a": {f"f:{i}": {"f:b": {"f:c": {}}} for i in range(400_000)}},
    ],
)
def test_managed_fields_that_are_no_fields(fields: dict[str, Any]) -> None:
    good = ManagedFields(manager="a", fields_v1={"f:spec": {".": {}, 'k:{"a":1}': {"v:1": {}}}})
    assert unreadable([good, good]) is None
    assert unreadable([good, ManagedFields(manager="a", fields_v1=fields)]) == 1


def test_managed_fields_nested_deeply() -> None:
    fields: dict[str, Any] = {}
    for _ in range(5_000):
        fields = {"f:a": fields}
    assert unreadable([ManagedFields(fields_v1=fields)]) == 0


def test_applying_many_fields_in_the_place_of_many_others() -> None:
    """Comparing each with each would take minutes."""

    def configuration(prefix: str) -> dict[str, Any]:
        return {"metadata": {"annotations": {f"{prefix}{i}": "" for i in range(30_000)}}}

    writer = Writer(manager="me", api_version="v1", subresource="", now="")
    live, entries = applied({}, configuration("a"), SCHEMA, [], writer, force=False)
    live, entries = applied(live, configuration("b"), SCHEMA, entries, writer, force=False)
    assert live == configuration("b")
    assert len(entries) == 1
