"""The document language in the hands of those who want to break it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferno.core.documents import limits
from inferno.core.documents.applying import apply_update
from inferno.core.documents.filters import parse_filter
from inferno.core.documents.matching import matches
from inferno.core.documents.projections import parse_projection, project
from inferno.core.documents.sorting import parse_sort, sorted_documents
from inferno.core.documents.updates import parse_update
from inferno.core.documents.values import check_document
from inferno.core.documents.weight import weight
from inferno.core.errors import InvalidRequest
from tests.unit.core.generated_documents import OPERATORS, documents, hostile_json

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def nested(levels: int, leaf: Any, wrap: Callable[[Any], Any]) -> Any:
    for _ in range(levels):
        leaf = wrap(leaf)
    return leaf


@settings(max_examples=80, deadline=None)
@given(st.one_of(hostile_json(), st.dictionaries(OPERATORS, hostile_json())), documents())
def test_any_json_is_a_filter_or_refused(wanted: Any, document: dict[str, Any]) -> None:
    try:
        parsed = parse_filter(wanted, text_paths=(("a",),))
    except InvalidRequest as error:
        error.message.encode()
        str(error.details).encode()
    else:
        assert matches(parsed, document) in (True, False)


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        OPERATORS, st.dictionaries(st.sampled_from(("a", "b.a", "a.$[]", "c.0")), hostile_json())
    ),
    documents(),
)
def test_any_json_is_an_update_or_refused(update: Any, document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    try:
        after = apply_update(parse_update(update), document, now=NOW)
    except InvalidRequest as error:
        error.message.encode()
        str(error.details).encode()
    else:
        check_document(after)
    assert document == before


@settings(max_examples=40, deadline=None)
@given(hostile_json(), documents())
def test_any_json_is_a_projection_and_a_sort_or_refused(
    value: Any, document: dict[str, Any]
) -> None:
    try:
        project(parse_projection(value), document)
    except InvalidRequest as error:
        error.message.encode()
    try:
        sorted_documents([document, {}], parse_sort(value))
    except InvalidRequest as error:
        error.message.encode()


WRAPS: dict[str, Callable[[Any], Any]] = {
    "$and": lambda inner: {"$and": [inner]},
    "$nor": lambda inner: {"$nor": [inner]},
    "$elemMatch": lambda inner: {"a": {"$elemMatch": inner}},
    "$all": lambda inner: {"a": {"$all": [{"$elemMatch": inner}]}},
    "object": lambda inner: {"a": inner},
    "array": lambda inner: {"a": [inner]},
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("levels", [101, 5000])
def test_filters_nested_too_deep_are_refused(wrap: Callable[[Any], Any], levels: int) -> None:
    with pytest.raises(InvalidRequest, match="100 levels"):
        parse_filter(nested(levels, {"a": 1}, wrap))


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_filters_nested_as_deep_as_may_be_work(wrap: Callable[[Any], Any]) -> None:
    accepted = 0
    for levels in range(100):
        try:
            parsed = parse_filter(nested(levels, {"a": 1}, wrap))
        except InvalidRequest:
            continue
        matches(parsed, {"a": nested(98, 1, lambda inner: [inner])})
        accepted = levels
    assert accepted >= 24


def test_deep_documents_are_refused() -> None:
    for wrap in (lambda inner: {"a": inner}, lambda inner: [inner]):
        check_document({"a": nested(limits.DEPTH - 1, 1, wrap)})
        with pytest.raises(InvalidRequest, match="100 levels"):
            check_document({"a": nested(limits.DEPTH, 1, wrap)})
        with pytest.raises(InvalidRequest, match="100 levels"):
            check_document({"a": nested(50_000, 1, wrap)})


def test_an_update_cannot_nest_deeper_than_documents_may_be() -> None:
    document = {"a": nested(80, {}, lambda inner: {"a": inner})}
    path = ".".join(["a"] * 82)
    with pytest.raises(InvalidRequest, match="100 levels"):
        apply_update(
            parse_update({"$set": {path: nested(30, 1, lambda inner: [inner])}}),
            document,
            now=NOW,
        )


EVIL = [
    "(a+)+$",
    "(a|aa)+$",
    "^(a|a?)+$",
    "(.*a){20}$",
    "(a?){50}a{50}$",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "^([a-zA-Z]+)*$",
    "(.*)*b$",
    "(x+x+)+y",
]


@pytest.mark.parametrize("pattern", EVIL)
def test_patterns_that_explode_elsewhere_end(pattern: str) -> None:
    """With `re` most of these run for longer than anybody waits."""
    parsed = parse_filter({"a": {"$regex": pattern}})
    assert not matches(parsed, {"a": "a" * 20_000 + "!"})


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)b", r"(a)\1", "a{1001}", "((a{100}){100}){100}", "[", "(", "a" * 1001, "\ud800"],
)
def test_patterns_without_a_bound_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_filter({"name": {"$regex": pattern}})
    assert caught.value.details == {"field": "name.$regex", "operator": "$regex"}


def test_ten_thousand_values_are_looked_up() -> None:
    parsed = parse_filter({"a": {"$in": list(range(10_000))}, "b": {"$nin": ["x"] * 10_000}})
    assert sum(matches(parsed, {"a": number}) for number in range(0, 20_000, 2)) == 5000


@pytest.mark.parametrize(
    "wanted",
    [
        {"$or": [{"a": 1}] * 3000},
        {"a": {"$all": [1] * 3000}},
        {"$expr": {"$or": [{"$gt": ["$a", 1]}] * 3000}},
        {f"a{number}": 1 for number in range(3000)},
        {"$text": {"$search": "a " * 3000}},
        {"$or": [{"a": {"$regex": "a"}}] * 33},
    ],
)
def test_filters_of_too_many_tests_are_refused(wanted: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse_filter(wanted, text_paths=(("a",),))


def test_a_document_of_indices_is_walked_once() -> None:
    """Each level could be reached both by its index and through its object."""
    document = nested(49, 1, lambda inner: {"0": [inner]})
    assert matches(parse_filter({".".join("0" * 98): 1}), document)
    assert not matches(parse_filter({".".join("0" * 75): 5}), document)


def test_a_large_value_in_many_places_is_refused_before_it_takes_memory() -> None:
    update = parse_update({"$set": {"a.$[].b": "x" * 1_000_000, "c": [{}] * 10}})
    with pytest.raises(InvalidRequest, match="bytes"):
        apply_update(update, {"a": [{} for _ in range(10_000)]}, now=NOW)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"a": 2**63}, "a"),
        ({"a": {"$in": [1, -(2**63) - 1]}}, "a.$in[1]"),
        ({"a": {"$gt": float("inf")}}, "a.$gt"),
        ({"a": {"$eq": "\ud800"}}, "a.$eq"),
        ({"a": {"$eq": {"b": ["\x00"]}}}, "a.$eq.b.0"),
        ({"a\x00": 1}, "a\ufffd"),
        ({"a.$b": 1}, "a.$b"),
        ({"$or": [{"a": {"b": {"$gt": 1}}}]}, "$or[0].a.b.$gt"),
        ({"a": {"$size": 1e300}}, "a.$size"),
        ({"a": {"$mod": [1e300, 0]}}, "a.$mod"),
        ({"a": {"$type": "regexp"}}, "a.$type"),
        ({"$expr": {"$gt": ["$a", {"$function": {}}]}}, "$expr.$gt[1].$function"),
        ({"a": {"$elemMatch": {"$text": {"$search": "x"}}}}, "a.$elemMatch.$text"),
    ],
)
def test_errors_name_the_place(wanted: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_filter(wanted)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("update", "operator", "field"),
    [
        ({}, None, None),
        ([], None, None),
        ({"name": "x"}, "name", "name"),
        ({"$set": {"a": 1}, "b": 1}, "b", "b"),
        ({"$bit": {"a": 1}}, "$bit", "$bit"),
        ({"$where": {"a": 1}}, "$where", "$where"),
        ({"$set": 5}, "$set", "$set"),
        ({"$set": {"a..b": 1}}, None, "$set.a..b"),
        ({"$set": {"$a": 1}}, "$a", "$set.$a"),
        ({"$set": {"$": 1}}, "$", "$set.$"),
        ({"$set": {"a.$.b.$": 1}}, "$", "$set.a.$.b.$"),
        ({"$set": {"a.$[X]": 1}}, "$[X]", "$set.a.$[X]"),
        ({"$set": {"a.$[e]": 1}}, "$[e]", "$set.a.$[e]"),
        ({"$set": {"a": {"$b": 1}}}, None, "$set.a.$b"),
        ({"$set": {"a": 2**64}}, None, "$set.a"),
        ({"$inc": {"a": "1"}}, "$inc", "$inc.a"),
        ({"$inc": {"a": True}}, "$inc", "$inc.a"),
        ({"$pop": {"a": 2}}, "$pop", "$pop.a"),
        ({"$push": {"a": {"$each": 1}}}, "$each", "$push.a.$each"),
        ({"$push": {"a": {"$each": [], "$foo": 1}}}, "$foo", "$push.a.$foo"),
        ({"$push": {"a": {"$slice": 1}}}, "$push", "$push.a"),
        ({"$push": {"a": {"$each": [], "$slice": 1.5}}}, "$slice", "$push.a.$slice"),
        ({"$pull": {"a": {"$foo": 1}}}, "$foo", "$pull.a.$foo"),
        ({"$pullAll": {"a": 1}}, "$pullAll", "$pullAll.a"),
        ({"$rename": {"a": 1}}, "$rename", "$rename.a"),
        ({"$rename": {"a.$[]": "b"}}, "$[]", "$rename.a.$[]"),
        ({"$currentDate": {"a": {"$type": "year"}}}, "$currentDate", "$currentDate.a"),
    ],
)
def test_malformed_updates_are_refused(
    update: Any, operator: str | None, field: str | None
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_update(update)
    assert caught.value.details.get("operator") == operator
    assert caught.value.field == field


@pytest.mark.parametrize(
    "array_filters",
    [{}, [1], [{}], [{"E.a": 1}], [{"e.a": 1, "f.a": 1}], [{"e": 1}, {"e": 2}], [{"$expr": 1}]],
)
def test_malformed_array_filters_are_refused(array_filters: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_update({"$set": {"a.$[e]": 1}}, array_filters)
    assert caught.value.field is not None


def test_array_filters_have_to_be_used() -> None:
    with pytest.raises(InvalidRequest, match="No path uses"):
        parse_update({"$set": {"a.$[e]": 1}}, [{"e": 1}, {"f": 1}])


def test_patterns_are_bounded_by_what_they_compile_to() -> None:
    """A count is short to write, and may be a step for each character of a text."""
    many = [{"a": {"$regex": f"(a|b|ab)*[ab ]{{0,900}}x{number}"}} for number in range(5)]
    parse_filter({"$or": many[:2]})
    with pytest.raises(InvalidRequest, match="too large"):
        parse_filter({"$or": many})


@pytest.mark.parametrize(
    ("wanted", "least"),
    [
        ({"a": 1}, 1),
        ({"$or": [{"a": {"$gt": 1}}] * 50}, 50),
        ({"a": {"$elemMatch": {"$nor": [{"b": 1}] * 50}}}, 50),
        ({"a": {"$not": {"$elemMatch": {"$gt": 1, "$lt": 2}}}}, 2),
        ({"a": {"$regex": "[ab]{0,500}x"}}, 500),
        ({"a": {"$in": [1, {"$regularExpression": {"pattern": "[ab]{0,500}x"}}]}}, 500),
        ({"$expr": {"$or": [{"$eq": ["$a", 1]}] * 50}}, 50),
        ({"$or": [{"$text": {"$search": "a"}}] * 50}, 500),
    ],
)
def test_what_is_much_work_weighs_much(wanted: dict[str, Any], least: int) -> None:
    assert least <= weight(parse_filter(wanted, text_paths=(("a",),))) <= 3 * least + 10


def test_what_values_are_compared_with_is_worked_out_once() -> None:
    """Else it would be as often as there are values: a product of three sizes."""
    wanted = parse_filter({"a": {"$gt": {"b": [*range(20_000)]}}})
    assert not matches(wanted, {"a": [{"b": number} for number in range(2000)]})
