"""Documents, filters and updates, generated for property tests of `core.documents`.

The domains are small, so that filters meet documents that they match. What is compared with
mongomock leaves out what it cannot do or is known to get wrong: docs/reference/query-language.md
has the list, and `test_documents_page.py` holds it to be true.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b")
SCALARS: st.SearchStrategy[Any] = st.sampled_from([True, 7, 3, 2, -1, 1.5, "", "a", "b", "ab"])
WITH_NULL = st.one_of(SCALARS, st.none())


def values(leaves: st.SearchStrategy[Any] = WITH_NULL) -> st.SearchStrategy[Any]:
    """Return small values of all types."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
        ),
        max_leaves=6,
    )


def documents() -> st.SearchStrategy[dict[str, Any]]:
    """Return documents of any shape."""
    return st.dictionaries(st.sampled_from(("a", "b", "c")), values(), max_size=3)


ROOTS = st.sampled_from(("a", "b", "c"))
PATHS = st.builds(
    lambda root, rest: ".".join([root, *rest]),
    ROOTS,
    st.lists(st.sampled_from(("a", "b", "0", "1")), max_size=2),
)
OPERANDS = st.one_of(SCALARS, st.lists(SCALARS, max_size=2))
"""Neither null nor objects, which mongomock orders differently and finds where nothing is."""


def _positive_tests() -> st.SearchStrategy[Any]:
    return st.one_of(
        OPERANDS,
        st.builds(
            lambda operator, operand: {operator: operand},
            st.sampled_from(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")),
            SCALARS,
        ),
        st.builds(
            lambda operator, operands: {operator: operands},
            st.sampled_from(("$in", "$nin", "$all")),
            st.lists(SCALARS, min_size=1, max_size=3),
        ),
        st.just({"$exists": True}),
        st.builds(
            lambda name: {"$type": name},
            st.sampled_from(("string", "object", "array", "bool", "number", "int", "double")),
        ),
        st.builds(
            lambda operator, operand: {"$elemMatch": {operator: operand}},
            st.sampled_from(("$eq", "$gt", "$gte", "$lt", "$lte")),
            SCALARS,
        ),
        st.builds(lambda name, v: {"$elemMatch": {name: v}}, st.sampled_from(NAMES), SCALARS),
        st.builds(lambda p: {"$regex": p}, st.sampled_from(("^a", "b$", "a|b", "."))),
    )


def agreed_filters() -> st.SearchStrategy[dict[str, Any]]:
    """Return filters that mean the same to mongomock as here."""
    fields = st.dictionaries(PATHS, _positive_tests(), max_size=2)
    # In arrays mongomock asks $exists of each object, and its $not looks only through objects.
    absences = st.builds(lambda root: {root: {"$exists": False}}, ROOTS)
    negations = st.builds(
        lambda root, operator, operand: {root: {"$not": {operator: operand}}},
        ROOTS,
        st.sampled_from(("$eq", "$gt", "$lte", "$regex")),
        st.sampled_from(("a", "b", "ab")),
    )
    simple = st.one_of(fields, negations, absences)
    combined = st.builds(
        lambda operator, inner: {operator: inner},
        st.sampled_from(("$and", "$or", "$nor")),
        st.lists(simple, min_size=1, max_size=3),
    )
    return st.one_of(simple, combined)


NUMBERS = st.sampled_from((-2, 1, 2.5, 4))
ELEMENTS: st.SearchStrategy[Any] = st.sampled_from([1, 2, 3, "x"])


def shaped_documents() -> st.SearchStrategy[dict[str, Any]]:
    """Return documents in which each field has its type, if it is there."""
    return st.fixed_dictionaries(
        {"list": st.lists(ELEMENTS, max_size=4), "o": st.fixed_dictionaries({"n": NUMBERS})},
        optional={
            "n": NUMBERS,
            "text": st.sampled_from(("a", "b")),
            "items": st.lists(st.fixed_dictionaries({"k": st.integers(0, 3)}), max_size=3),
        },
    )


def _pushes() -> st.SearchStrategy[Any]:
    modified = st.fixed_dictionaries(
        {"$each": st.lists(st.integers(0, 5), max_size=3)},
        optional={"$position": st.integers(0, 3), "$slice": st.integers(-3, 3)},
    )
    return st.one_of(ELEMENTS, modified)


def agreed_updates() -> st.SearchStrategy[dict[str, Any]]:
    """Return updates of shaped documents that mean the same to mongomock as here."""
    return st.fixed_dictionaries(
        {},
        optional={
            "$set": st.dictionaries(
                st.sampled_from(("text", "new", "deep.er.still")), values(), min_size=1
            ),
            "$inc": st.dictionaries(st.sampled_from(("n", "o.n", "o.more")), NUMBERS, min_size=1),
            "$max": st.fixed_dictionaries({"o.most": NUMBERS}),
            "$unset": st.sampled_from(({"gone": ""}, {"o.gone": ""})),
            "$rename": st.just({"absent": "renamed"}),
            "$push": st.fixed_dictionaries({"list": _pushes()}),
            "$addToSet": st.fixed_dictionaries({"set": ELEMENTS}),
            "$pull": st.fixed_dictionaries(
                {"items": st.sampled_from(({"k": 2}, {"k": {"$gte": 1}}, {"k": {"$in": [0, 3]}}))}
            ),
        },
    ).filter(bool)


OPERATORS = st.sampled_from(
    (
        *("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$and", "$or", "$nor", "$not"),
        *("$exists", "$type", "$all", "$elemMatch", "$size", "$regex", "$options", "$mod", "$expr"),
        *("$text", "$where", "$date", "$numberLong", "$set", "$unset", "$inc", "$mul", "$min"),
        *("$max", "$rename", "$setOnInsert", "$currentDate", "$push", "$each", "$position"),
        *("$slice", "$sort", "$addToSet", "$pop", "$pull", "$pullAll", "$search", "$literal"),
        *("$regularExpression", "$comment", "$meta", "$", "$[]", "$[e]", "$add", "$cmp", "$ifNull"),
    )
)


def hostile_json() -> st.SearchStrategy[Any]:
    """Return JSON of any shape, in which operators turn up where nobody expects them."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=4),
        st.sampled_from(
            ("$a", "$$a", "\ud800", "\x00", "a.b", "a.$", "a.$[].b", "2025-01-01T00:00Z")
        ),
        st.sampled_from((2**63, -(2**63) - 1, 1e308, 10**30)),
    )
    keys = st.one_of(OPERATORS, PATHS, st.text(max_size=3), st.sampled_from(("a.$", "a.$[e].b")))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)
        ),
        max_leaves=12,
    )
