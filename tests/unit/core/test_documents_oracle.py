"""Compares the document language with mongomock, a second implementation of MongoDB's.

The examples are the same in each run: a fault of mongomock that is not on our list yet should not
stop somebody else's work on another day.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import mongomock
from hypothesis import given, settings
from hypothesis import strategies as st
from mongomock.filtering import filter_applies

from inferno.core.documents.applying import apply_update
from inferno.core.documents.filters import parse_filter
from inferno.core.documents.matching import matches
from inferno.core.documents.projections import parse_projection, project
from inferno.core.documents.sorting import parse_sort, sorted_documents
from inferno.core.documents.updates import parse_update
from inferno.core.documents.values import identity
from tests.unit.core.generated_documents import (
    agreed_filters,
    agreed_updates,
    documents,
    shaped_documents,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(agreed_filters(), st.lists(documents(), min_size=1, max_size=8))
def test_filters_find_what_mongomock_finds(
    wanted: dict[str, Any], stored: list[dict[str, Any]]
) -> None:
    parsed = parse_filter(wanted)
    for document in stored:
        expected = bool(filter_applies(wanted, document))  # type: ignore[no-untyped-call]
        assert matches(parsed, document) == expected, document


@settings(max_examples=150, deadline=None, derandomize=True)
@given(agreed_updates(), shaped_documents())
def test_updates_make_what_mongomock_makes(update: dict[str, Any], stored: dict[str, Any]) -> None:
    collection = mongomock.MongoClient().db.collection
    collection.insert_one({"_id": 1, **copy.deepcopy(stored)})
    collection.update_one({"_id": 1}, copy.deepcopy(update))
    expected = collection.find_one()
    del expected["_id"]
    ours = apply_update(parse_update(update), stored, now=datetime.now(UTC))
    assert identity(ours) == identity(expected)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(shaped_documents(), max_size=6),
    st.dictionaries(
        st.sampled_from(("n", "o.n", "text")), st.sampled_from((1, -1)), min_size=1, max_size=3
    ),
)
def test_sorts_as_mongomock_sorts(stored: list[dict[str, Any]], sort: dict[str, int]) -> None:
    collection = mongomock.MongoClient().db.collection
    numbered = [{"_id": number, **document} for number, document in enumerate(stored)]
    if numbered:
        collection.insert_many(copy.deepcopy(numbered))
    expected = [document["_id"] for document in collection.find().sort(list(sort.items()))]
    ours = sorted_documents(numbered, parse_sort(sort))
    assert [document["_id"] for document in ours] == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shaped_documents(),
    st.sampled_from((0, 1)).flatmap(
        lambda kind: st.dictionaries(
            st.sampled_from(("n", "o.n", "items.k", "list", "absent")), st.just(kind), min_size=1
        )
    ),
)
def test_shows_what_mongomock_shows(stored: dict[str, Any], projection: dict[str, int]) -> None:
    collection = mongomock.MongoClient().db.collection
    collection.insert_one({"_id": 1, **copy.deepcopy(stored)})
    expected = collection.find_one({}, {"_id": 0, **projection})
    assert project(parse_projection(projection), stored) == expected
