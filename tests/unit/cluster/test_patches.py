"""JSON, merge and strategic merge patches."""

from __future__ import annotations

from typing import Any

import pytest

from inferno.cluster.patches import json_patch, merge_patch, strategic_merge
from inferno.core.errors import InvalidRequest
from inferno.core.kinds import InvalidResource


@pytest.mark.parametrize(
    ("current", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches(current: Any, patch: Any, result: Any) -> None:
    assert merge_patch(current, patch) == result


def test_json_patches_leave_what_they_are_given_alone() -> None:
    current = {"a": {"b": [1, 2]}}
    patch = [{"op": "add", "path": "/a/b/-", "value": 3}, {"op": "remove", "path": "/a/b/0"}]
    assert json_patch(current, patch) == {"a": {"b": [2, 3]}}
    assert current == {"a": {"b": [1, 2]}}


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "test", "path": "/a", "value": 2}],
        [{"op": "remove", "path": "/missing"}],
        [{"op": "replace", "path": "/a/b/c", "value": 1}],
    ],
)
def test_json_patches_that_cannot_be_applied(operations: list[Any]) -> None:
    with pytest.raises(InvalidResource):
        json_patch({"a": 1}, operations)


@pytest.mark.parametrize(
    "operations",
    [
        {}, None, "x", [1], [None], [{}], [{"op": "frobnicate", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}], [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": 5, "value": 1}], [{"op": "copy", "path": "/a"}],
        [{"op": "test", "path": "/a", "value": 1}] * 1001,
    ],
)  # fmt: skip
def test_what_is_no_json_patch(operations: Any) -> None:
    with pytest.raises(InvalidRequest):
        json_patch({"a": 1}, operations)


def test_copies_of_copies_are_stopped() -> None:
    grow = [{"op": "copy", "from": "", "path": f"/c{i}"} for i in range(60)]
    with pytest.raises(InvalidRequest):
        json_patch({"a": "x" * 1000}, grow)


def test_strategic_merge_merges_lists_by_key() -> None:
    current = {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}
    patch = {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}
    assert strategic_merge(current, patch)["containers"] == [
        {"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        ({"conditions": [{"type": "A", "$patch": "delete"}]}, {"conditions": [{"type": "B"}]}),
        ({"conditions": [{"$patch": "replace"}, {"type": "C"}]}, {"conditions": [{"type": "C"}]}),
        (
            {"conditions": [], "$setElementOrder/conditions": [{"type": "B"}, {"type": "A"}]},
            {"conditions": [{"type": "B"}, {"type": "A"}]},
        ),
        ({"$retainKeys": ["x"], "x": 1}, {"x": 1}),
        ({"$patch": "replace", "x": 1}, {"x": 1}),
        ({"conditions": None}, {}),
        ({"args": ["b"]}, {"conditions": [{"type": "A"}, {"type": "B"}], "args": ["b"]}),
    ],
)
def test_directives(patch: dict[str, Any], result: dict[str, Any]) -> None:
    assert strategic_merge({"conditions": [{"type": "A"}, {"type": "B"}]}, patch) == result


def test_sets() -> None:
    current = {"finalizers": ["a", "b"]}
    assert strategic_merge(current, {"finalizers": ["b", "c"]})["finalizers"] == ["a", "b", "c"]
    gone = {"$deleteFromPrimitiveList/finalizers": ["a"]}
    assert strategic_merge(current, gone)["finalizers"] == ["b"]


@pytest.mark.parametrize("patch", [{"$patch": "explode"}, {"conditions": [{"status": "True"}]}])
def test_what_is_no_strategic_merge(patch: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        strategic_merge({"conditions": [{"type": "A"}]}, patch)


def test_long_lists_are_merged_in_one_go() -> None:
    """Looking for each item in the whole list would take minutes."""
    here, gone = [f"a/{i}" for i in range(60_000)], [f"b/{i}" for i in range(60_000)]
    patch = {"finalizers": here, "$deleteFromPrimitiveList/finalizers": [*gone, *here[1:]]}
    assert strategic_merge({"finalizers": gone}, patch) == {"finalizers": here[:1]}


def test_json_patches_that_copy_again_and_again() -> None:
    """Each copy stays below the largest size, all of them together would take minutes."""
    current: dict[str, Any] = {"a": {str(i): {} for i in range(20_000)}}
    with pytest.raises(InvalidRequest, match="copies too much"):
        json_patch(current, [{"op": "copy", "from": "/a", "path": "/b"}] * 1000)
