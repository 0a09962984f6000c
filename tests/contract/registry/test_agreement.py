"""What the database answers is what the language says: of filters, sorts, pages and counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferno.core.documents.matching import matches
from inferno.core.documents.sorting import parse_sort, sorted_documents
from inferno.core.documents.tree import Filter
from inferno.core.errors import InvalidRequest
from inferno.registry import finding, planning, walking
from inferno.registry.finding import Query, parse
from tests.contract.registry.corner import Corner
from tests.contract.registry.corpus import Questions

seeds = st.integers(0, 2**32)


def parsed(filter_: Any) -> Filter | None:
    """Return a filter; None where it is refused."""
    try:
        return parse(filter_)
    except InvalidRequest:
        return None


@given(seeds)
@settings(max_examples=100, deadline=None)
def test_filters(corner: Corner, seed: int) -> None:
    questions = Questions(seed)
    wanted = questions.filter()
    filter_ = parsed(wanted)
    if filter_ is None:
        return
    expected = [one for one in corner.documents if matches(filter_, one)]
    with pytest.MonkeyPatch.context() as patch:
        # The index names the entries, or leads to them, or has to be asked again.
        patch.setattr(planning, "FEW", questions.number(0, 200))
        patch.setattr(planning, "DISTINCT", 10)
        patch.setattr(planning, "TEXTS", 7)
        page = corner.find(Query(filter=filter_))
        counted = corner.find(Query(filter=filter_, limit=1, count=True))
    assert page.documents == expected, wanted
    assert counted.total == len(expected), wanted


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_sorts(corner: Corner, seed: int) -> None:
    questions = Questions(seed)
    wanted = questions.filter() if seed % 3 else {}
    filter_, sort = parsed(wanted), questions.sort()
    if filter_ is None:
        return
    by = parse_sort(sort)
    found = [one for one in corner.documents if matches(filter_, one)]
    skip, limit = questions.number(0, 9), questions.number(1, 220)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "FEW", questions.number(0, 30))  # gathered, or walked
        patch.setattr(walking, "PAGE", 25)
        patch.setattr(finding, "PAGE", 25)
        patch.setattr(planning, "PAGE", 25)
        page = corner.find(Query(filter=filter_, sort=by, skip=skip, limit=limit))
    assert page.documents == sorted_documents(found, by)[skip : skip + limit], (wanted, sort)


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_pages(corner: Corner, seed: int) -> None:
    questions = Questions(seed)
    filter_ = parsed(questions.filter())
    if filter_ is None:
        return
    skip, limit = questions.number(0, 9), questions.number(1, 70)
    expected = [one for one in corner.documents if matches(filter_, one)][skip:]
    seen = []
    query = Query(filter=filter_, limit=limit, skip=skip)
    while True:
        page = corner.find(query)
        seen += page.documents
        if page.next is None:
            break
        query = Query(filter=filter_, limit=limit, after=page.next)
    assert seen == expected
