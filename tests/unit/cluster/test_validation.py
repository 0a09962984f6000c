"""Schemas from types, and what they find wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from inferno.cluster.kinds import catalog
from inferno.cluster.schemas import schema_of
from inferno.cluster.validation import causes, pruned, with_defaults, without_nulls
from inferno.core.served.catalogue import DEFINITIONS


class Target(msgspec.Struct, rename="camel", kw_only=True):
    """A target.

    Args:
        name: of the target.
        max_weight: what it gets, at most:
            a share.
    """

    name: Annotated[str, Meta(min_length=1, max_length=3, pattern="^[a-z]+$")]
    max_weight: Annotated[int, Meta(ge=0, le=10)] = 1


class Shape(msgspec.Struct, rename="camel", kw_only=True):
    """A shape."""

    mode: Literal["On", "Off"] = "On"
    targets: Annotated[list[Target], Meta(max_length=2)] = []
    labels: dict[str, str] = {}
    size: int | None = None
    anything: Any = None


SCHEMA = schema_of(Shape)


def test_schemas_say_what_types_and_docstrings_say() -> None:
    target = SCHEMA["properties"]["targets"]["items"]
    assert target["description"] == "A target."
    assert target["required"] == ["name"]
    assert target["properties"]["maxWeight"] == {
        "description": "What it gets, at most: a share.",
        "type": "integer",
        "minimum": 0,
        "maximum": 10,
        "default": 1,
    }
    assert SCHEMA["properties"]["size"]["nullable"] is True
    assert SCHEMA["properties"]["anything"]["x-kubernetes-preserve-unknown-fields"] is True


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({}, []),
        ({"mode": "Off", "targets": [{"name": "a"}], "size": None}, []),
        ({"mode": "Up"}, [("mode", 'Unsupported value: "Up": supported values: "Off", "On"')]),
        ({"size": "5"}, [("size", 'Invalid value: "string": must be of type integer')]),
        ({"size": True}, [("size", 'Invalid value: "boolean": must be of type integer')]),
        ({"targets": {}}, [("targets", 'Invalid value: "object": must be of type array')]),
        ({"targets": [{}]}, [("targets[0].name", "Required value")]),
        ({"targets": [{"name": None}]}, [("targets[0].name", "Required value")]),
        (
            {"targets": [{"name": "a\n"}]},
            [("targets[0].name", 'Invalid value: "a\\n": targets[0].name in body should match')],
        ),
        (
            {"targets": [{"name": "abcd", "maxWeight": 11}]},
            [
                ("targets[0].name", "Too long: may not be more than 3 characters"),
                ("targets[0].maxWeight", "Invalid value: 11"),
            ],
        ),
        ({"targets": [{"name": "a"}] * 3}, [("targets", "Too many: 3: must have at most 2 items")]),
        ({"labels": {"a": 1}}, [("labels.a", "Invalid value")]),
    ],
)
def test_causes(value: Any, wrong: list[tuple[str, str]]) -> None:
    found = list(causes(value, SCHEMA))
    assert [cause.field for cause in found] == [field for field, _ in wrong]
    for cause, (_, message) in zip(found, wrong, strict=True):
        assert cause.message.startswith(message)


def test_pruning_names_what_it_leaves_out() -> None:
    unknown: list[str] = []
    given = {"mode": "On", "x": 1, "targets": [{"name": "a", "y": 2}], "anything": {"kept": 1}}
    assert pruned(given, SCHEMA, "", unknown) == {
        "mode": "On", "targets": [{"name": "a"}], "anything": {"kept": 1},
    }  # fmt: skip
    assert unknown == ["x", "targets[0].y"]


def test_nulls_that_mean_nothing_go() -> None:
    assert without_nulls({"mode": None, "size": None, "labels": {"a": None}}, SCHEMA) == {
        "size": None, "labels": {},
    }  # fmt: skip


def test_every_kind_has_a_schema_without_references() -> None:
    def check(schema: Any) -> None:
        if isinstance(schema, dict):
            assert "$ref" not in schema
            assert "anyOf" not in schema
            for value in schema.values():
                check(value)

    served = catalog("node")
    for definition in (*served.definitions, *DEFINITIONS):
        for version in definition.versions:
            found = served.find(definition.group, version.name, definition.plural)
            assert found is not None
            check(found.schema)
            assert found.schema["description"]


def test_defaults_that_say_something_are_shown() -> None:
    given = {"targets": [{"name": "a"}, {"name": "b", "maxWeight": 0}], "mode": "Off"}
    shown = [{"name": "a", "maxWeight": 1}, {"name": "b", "maxWeight": 0}]
    assert with_defaults(given, SCHEMA) == {"mode": "Off", "targets": shown}
    assert with_defaults({}, SCHEMA) == {"mode": "On"}, "and nothing for what is empty"
