"""Values, order, updates and projections of documents, where the page's examples do not reach."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferno.core.documents.applying import apply_update
from inferno.core.documents.filters import parse_filter
from inferno.core.documents.matching import matches
from inferno.core.documents.projections import parse_projection, project
from inferno.core.documents.sorting import parse_sort, sort_key, sorted_documents
from inferno.core.documents.tree import Compare, Every, Field
from inferno.core.documents.updates import parse_update
from inferno.core.documents.values import identity, instant_of, order_key, timestamp
from inferno.core.errors import InvalidRequest
from tests.unit.core.generated_documents import (
    agreed_filters,
    documents,
    values,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)

IN_ORDER: list[Any] = [
    None,
    -1.5,
    0,
    2,
    2**62,
    "",
    "A",
    "a",
    "é",
    "\U0001f600",
    {},
    {"a": 1},
    {"a": 1, "b": 0},
    {"b": 0},
    {"a": "x"},
    [],
    [1],
    [1, 1],
    ["a"],
    False,
    True,
]


def updated(update: Any, document: dict[str, Any], **options: Any) -> dict[str, Any]:
    return apply_update(parse_update(update), document, now=NOW, **options)


def test_values_of_all_types_have_an_order() -> None:
    shuffled = IN_ORDER[1::2] + IN_ORDER[::2]
    assert sorted(shuffled, key=order_key) == IN_ORDER


@settings(max_examples=60, deadline=None)
@given(values(), values())
def test_equal_values_share_identity_and_place(first: Any, second: Any) -> None:
    is_same = identity(first) == identity(second)
    assert is_same == (order_key(first) == order_key(second))
    assert matches(parse_filter({"a": {"$eq": second}}), {"a": first}) >= is_same


def test_true_is_not_one_and_one_is_one() -> None:
    assert identity(True) != identity(1)
    assert identity(True) != identity([1])
    assert identity([True]) != identity([1])
    assert identity([1, {"a": 2}]) == identity([1.0, {"a": 2.0}])
    assert not matches(parse_filter({"a": 1}), {"a": True})


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))
def test_timestamps_are_read_as_they_are_written(naive: datetime) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(hours=2)), microsecond=5000)
    assert instant_of(timestamp(moment)) == moment


@pytest.mark.parametrize(
    "text",
    [
        "2025-01-01",
        "2025-01-01T00:00:00",
        "2025-13-01T00:00:00Z",
        "2025-01-01T00:00:60Z",
        "0001-01-01T00:00:00+02:00",
        "2025-01-01 00:00:00Z",
        "\u0662025-01-01T00:00:00Z",
        "2025-01-01T00:00:00Zx",
    ],
)
def test_other_text_is_no_moment(text: str) -> None:
    assert instant_of(text) is None


@settings(max_examples=40, deadline=None)
@given(agreed_filters(), documents())
def test_negation_turns_the_answer_around(wanted: dict[str, Any], document: dict[str, Any]) -> None:
    answer = matches(parse_filter(wanted), document)
    assert matches(parse_filter({"$nor": [wanted]}), document) is not answer
    assert matches(parse_filter({"$and": [wanted, {}]}), document) is answer


@settings(max_examples=40, deadline=None)
@given(documents(), values(), st.sampled_from(("$set", "$unset", "$min", "$max")))
def test_what_is_done_twice_is_done_once(document: Any, value: Any, operator: str) -> None:
    update = {operator: {"a": value}}
    once = updated(update, document)
    assert updated(update, once) == once


@settings(max_examples=40, deadline=None)
@given(st.lists(documents(), max_size=5), st.sampled_from((1, -1)))
def test_a_sort_is_by_its_key(stored: list[dict[str, Any]], direction: int) -> None:
    sort = parse_sort({"a": direction, "b.0": -direction})
    ours = sorted_documents(stored, sort)
    keys = [sort_key(document, sort) for document in ours]
    assert all(not later < earlier for earlier, later in pairwise(keys))
    assert sorted(map(id, ours)) == sorted(map(id, stored))


def test_arrays_sort_by_their_least_and_greatest_elements() -> None:
    stored: list[dict[str, Any]] = [{"a": [1, 9]}, {"a": 5}, {"a": None}, {"a": []}, {}, {"a": "x"}]
    ascending = sorted_documents(stored, parse_sort([["a", 1]]))
    assert ascending == [{"a": []}, {"a": None}, {}, {"a": [1, 9]}, {"a": 5}, {"a": "x"}]
    descending = sorted_documents(stored, parse_sort({"a": -1}))
    assert descending == [{"a": "x"}, {"a": [1, 9]}, {"a": 5}, {"a": None}, {}, {"a": []}]


@pytest.mark.parametrize(
    "sort",
    [
        5,
        "a",
        {"a": 2},
        {"a": True},
        {"a": {"$meta": "textScore"}},
        [["a"]],
        [["a", 1], ["a", -1]],
        {"$a": 1},
        {f"a{number}": 1 for number in range(33)},
    ],
)
def test_malformed_sorts_are_refused(sort: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse_sort(sort)


@pytest.mark.parametrize(
    "projection",
    [
        5,
        {"a": 1, "b": 0},
        {"a": 1, "a.b": 1},
        {"a.b": 1, "a": 1},
        {"a": "$b"},
        {"a": {"$slice": 1.5}},
        {"a": {"$slice": [1, 0]}},
        {"a": {"$meta": "textScore"}},
        {"a": {"$slice": 1, "$elemMatch": {}}},
        {"a": {}},
        {"a.$": 1},
    ],
)
def test_malformed_projections_are_refused(projection: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse_projection(projection)


def test_a_projection_may_mention_the_id_that_mongodb_has() -> None:
    assert project(parse_projection({"a": 1, "_id": 0}), {"a": 1, "b": 2}) == {"a": 1}
    assert project(parse_projection({"a": 0, "_id": 1}), {"a": 1, "b": 2}) == {"b": 2}
    assert project(parse_projection({"_id": 0}), {"a": 1}) == {"a": 1}
    assert project(parse_projection({}), {"a": 1}) == {"a": 1}


def test_filters_are_a_tree_to_walk() -> None:
    assert parse_filter(None) == Every(())
    assert parse_filter({"a.b": 1}) == Field(("a", "b"), Compare("$eq", 1))
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    assert parse_filter({"at": {"$gt": {"$date": "2025-01-01T01:00:00+01:00"}}}) == Field(
        ("at",), Compare("$gt", "2025-01-01T00:00:00.000Z", moment, is_date=True)
    )


def test_set_on_insert_counts_for_new_documents() -> None:
    update = {"$setOnInsert": {"a": 1}, "$set": {"b": 2}}
    assert updated(update, {}, is_insert=True) == {"a": 1, "b": 2}
    assert updated(update, {}) == {"b": 2}


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({"a": {"$gte": 2}}, [1, 9, 3]),
        ({"$or": [{"b": 5}, {"a": 3}]}, [1, 2, 9]),
        ({"$and": [{"a": {"$gt": 0}}, {"a": {"$lt": 3, "$gt": 1}}]}, [1, 9, 3]),
        ({"a": {"$elemMatch": {"$gt": 2}}}, [1, 2, 9]),
    ],
)
def test_the_positional_operator_follows_the_filter(filter_: Any, expected: list[int]) -> None:
    document = {"a": [1, 2, 3]}
    result = updated({"$set": {"a.$": 9}}, document, matched=parse_filter(filter_))
    assert result == {"a": expected}


@pytest.mark.parametrize("matched", [None, {"b": 1}, {"a": {"$size": 3}, "$expr": True}])
def test_the_positional_operator_needs_a_filter_about_its_array(matched: Any) -> None:
    with pytest.raises(InvalidRequest, match="positional operator"):
        updated(
            {"$set": {"a.$": 9}},
            {"a": [1, 2, 3]},
            matched=None if matched is None else parse_filter(matched),
        )


def test_nested_positions() -> None:
    document = {"a": [{"b": [1, 2]}, {"b": [3]}, {"b": []}]}
    update = parse_update({"$mul": {"a.$[].b.$[e]": 10}}, [{"e": {"$gt": 1}}])
    assert apply_update(update, document, now=NOW) == {
        "a": [{"b": [1, 20]}, {"b": [30]}, {"b": []}]
    }


def test_updates_that_meet_in_one_place_are_refused() -> None:
    update = parse_update(
        {"$set": {"a.$[x].n": 1}, "$inc": {"a.$[y].n": 1}}, [{"x.k": 1}, {"y.k": {"$gte": 1}}]
    )
    with pytest.raises(InvalidRequest, match=r"conflict at 'a\.0\.n'"):
        apply_update(update, {"a": [{"k": 1, "n": 0}]}, now=NOW)
    assert apply_update(update, {"a": [{"k": 2, "n": 0}]}, now=NOW) == {"a": [{"k": 2, "n": 1}]}


def test_says_what_it_writes() -> None:
    update = parse_update({"$set": {"a.b": 1}, "$rename": {"c": "d"}})
    assert set(update.paths) == {("a", "b"), ("c",), ("d",)}


def test_renaming_leaves_arrays_alone() -> None:
    for update in ({"$rename": {"a.0": "b"}}, {"$rename": {"b": "a.0"}}):
        with pytest.raises(InvalidRequest, match="arrays"):
            updated(update, {"a": [1], "b": 2})


def test_text_finds_words() -> None:
    paths = (("name",), ("m",))

    def finds(search: str, document: dict[str, Any]) -> bool:
        return matches(parse_filter({"$text": {"$search": search}}, text_paths=paths), document)

    document = {
        "name": "Llama-3 Server",
        "m": {"tags": ["Straße", {"zone": "east"}]},
        "other": "no",
    }
    assert finds("LLAMA", document)
    assert finds("STRASSE nowhere", document)
    assert finds("east", document)
    assert finds('"llama-3 server"', document)
    assert not finds("lla", document)
    assert not finds("no", document)
    assert not finds("llama -east", document)
    assert not finds("", document)


def test_expressions_reach_into_arrays() -> None:
    document = {"items": [{"n": 1}, {"n": 2}, {}], "two": 2, "at": "2025-01-01T01:00:00+01:00"}

    def holds(expression: Any) -> bool:
        return matches(parse_filter({"$expr": expression}), document)

    assert holds({"$eq": ["$items.n", [1, 2]]})
    assert holds({"$in": ["$two", "$items.n"]})
    assert holds({"$in": ["$two", [1, "$two"]]})
    assert holds({"$eq": [{"$size": "$items"}, 3]})
    assert holds({"$eq": ["$at", {"$date": "2025-01-01T00:00:00Z"}]})
    assert holds({"$and": [{"$lt": ["$absent", None]}, {"$not": ["$absent"]}]})
    assert holds({"$eq": [{"$ifNull": ["$absent", "$two"]}, {"$add": [1, 1]}]})
    assert holds({"$eq": [{"$cmp": ["$two", "text"]}, -1]})
    assert holds({"$eq": [{"$literal": "$two"}, {"$literal": "$two"}]})
    assert not holds({"$add": ["$at", 1]})
    assert not holds({"$size": "$two"})
