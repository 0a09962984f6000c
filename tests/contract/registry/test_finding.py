"""Queries over the database answer as the pure language does, however they are compiled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferno.core.documents.matching import matches
from inferno.core.documents.sorting import parse_sort, sorted_documents
from inferno.core.errors import InvalidRequest
from inferno.registry import finding
from inferno.registry.calls import cursor_of, query_of
from inferno.registry.catalog import Catalog
from inferno.registry.compiling import Probe, candidates, compiled
from inferno.registry.entries import Document
from inferno.registry.finding import Finder, Query, leader, parse
from inferno.storage.database import Database
from tests.contract.registry.conftest import ADMIN, Clock

FACTS, TAGS, NAME = "inference_server_metadata", "inference_server_tags", "inference_server_name"
KEYS = ("a", "b", "0", "c.d")
LONG = "x" * 199

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, -0.0, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 1e300]),
    st.sampled_from(
        ["", "a", "b", "ä", "Z", "z", "\U0001f600", "\uffff", LONG + "xa", LONG + "xb"]
    ),
    st.sampled_from(["2025-01-01T00:00:00Z", "2025-01-01T01:00:00+01:00", "2025-06-01", "1"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)
facts = st.dictionaries(st.sampled_from(KEYS), values, max_size=4)
tags = st.lists(st.sampled_from(["NLP", "LLM", "BERT", "ä", ""]), max_size=3)

paths = st.one_of(
    st.sampled_from([TAGS, f"{TAGS}.0", NAME, "registered_at", "state", "inference_server_id"]),
    st.lists(st.sampled_from(["a", "b", "0", "c"]), min_size=1, max_size=3).map(
        lambda parts: ".".join([FACTS, *parts])
    ),
)
operands = st.one_of(scalars, st.sampled_from(["NLP", "LLM", "active", "2026-01-31T12:00:00Z"]))
comparisons = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), operands),
    st.tuples(st.sampled_from(["$in", "$nin", "$all"]), st.lists(operands, min_size=1, max_size=3)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$size"), st.integers(0, 2)),
    st.tuples(st.just("$regex"), st.sampled_from(["^a", "L", "."])),
    st.tuples(st.just("$type"), st.sampled_from(["string", "number", "null", "array", "object"])),
    st.tuples(st.just("$not"), st.tuples(st.sampled_from(["$gt", "$eq"]), operands).map(
        lambda pair: {pair[0]: pair[1]}
    )),
    st.tuples(st.just("$elemMatch"), st.one_of(
        st.tuples(st.sampled_from(["$gt", "$lt", "$eq"]), operands).map(lambda p: {p[0]: p[1]}),
        st.tuples(st.sampled_from(["a", "b"]), operands).map(lambda p: {p[0]: p[1]}),
    )),
)  # fmt: skip
tests = st.lists(comparisons, min_size=1, max_size=2, unique_by=lambda pair: pair[0]).map(dict)
fields = st.one_of(
    st.tuples(paths, operands).map(lambda pair: {pair[0]: pair[1]}),
    st.tuples(paths, values).map(lambda pair: {pair[0]: {"$eq": pair[1]}}),
    st.tuples(paths, tests).map(lambda pair: {pair[0]: pair[1]}),
)
filters = st.recursive(
    fields,
    lambda inner: st.tuples(
        st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)
    ).map(lambda pair: {pair[0]: pair[1]}),
    max_leaves=4,
)


class Corner:
    """A registry in a loop of its own, for tests that are no coroutines.

    Args:
        url: of an empty database.
    """

    def __init__(self, url: str) -> None:
        self._loop = asyncio.Runner()
        self.run = self._loop.run
        self.database: Database = self.run(Database.open(url))
        self.catalog = Catalog(self.database, most=0)
        self.finder = Finder(self.database)
        self.documents: list[Document] = []

    async def fill(self, contents: list[tuple[dict[str, Any], list[str]]]) -> None:
        """Replace all entries."""
        for one in self.documents:
            await self.catalog.delete(one["inference_server_id"], ADMIN)
        self.documents = [
            await self.catalog.create({FACTS: facts, TAGS: tags}, ADMIN) for facts, tags in contents
        ]

    def close(self) -> None:
        """Close the database."""
        self.run(self.database.close())
        self._loop.close()


@pytest.fixture
def corner(url: str) -> Iterator[Corner]:
    corner = Corner(url)
    yield corner
    corner.close()


@given(st.data())
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_compiled_and_pure_answers_agree(corner: Corner, data: st.DataObject) -> None:
    contents = data.draw(st.lists(st.tuples(facts, tags), min_size=3, max_size=8))
    corner.run(corner.fill(contents))
    few = finding.FEW
    for filter_ in data.draw(st.lists(filters, min_size=12, max_size=12)):
        try:
            parsed = parse(filter_)
        except InvalidRequest:
            continue
        expected = [one for one in corner.documents if matches(parsed, one)]
        for limit in (few, 0, 2):  # the index names few, leads, or names those that are fewer
            finding.FEW = limit
            try:
                page = corner.run(corner.finder.find(Query(filter=parsed)))
            finally:
                finding.FEW = few
            assert page.documents == expected, filter_


@given(st.data())
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sorting_in_pieces_is_sorting(corner: Corner, data: st.DataObject) -> None:
    contents = data.draw(st.lists(st.tuples(facts, tags), min_size=3, max_size=8))
    corner.run(corner.fill(contents))
    sort = parse_sort(data.draw(st.dictionaries(paths, st.sampled_from([1, -1]), min_size=1)))
    expected = sorted_documents(corner.documents, sort)
    page = finding.PAGE
    finding.PAGE = 1
    try:
        found = corner.run(corner.finder.find(Query(sort=sort, skip=1, limit=2, count=True)))
    finally:
        finding.PAGE = page
    assert found.documents == expected[1:3]
    assert found.total == len(corner.documents)


@pytest.mark.parametrize(
    ("filter_", "probes"),
    [
        ({f"{FACTS}.provider": "AWS"}, 1),
        ({TAGS: {"$in": ["NLP", "LLM"]}}, 1),
        ({"registered_at": {"$gte": "2025-01-01T00:00:00Z"}}, 1),
        ({"registered_at": {"$gte": {"$date": "2025-01-01T00:00:00Z"}}}, 1),
        ({f"{FACTS}.zone": "a", f"{FACTS}.gpu": True}, 2),
        ({FACTS: {"$elemMatch": {"n": {"$gt": 5, "$lt": 9}}}}, 2),
        ({"$or": [{NAME: "a"}, {f"{FACTS}.n": 5}]}, 1),
        ({"$or": [{NAME: "a"}, {f"{FACTS}.n": None}]}, 0),
        ({NAME: {"$ne": "a"}}, 0),
        ({f"{TAGS}.0": "a"}, 0),
        ({f"{FACTS}.at": "2025-01-01T00:00:00Z"}, 0),
        ({NAME: {"$in": ["a", None]}}, 0),
        ({f"{FACTS}.n": {"$in": list(range(10_000))}}, 1),
        ({}, 0),
    ],
)
def test_what_the_index_is_asked(filter_: dict[str, Any], probes: int) -> None:
    parts = compiled(parse(filter_)).parts
    assert len(parts) == probes
    assert (candidates(compiled(parse(filter_))) is not None) is (probes > 0)


def test_equality_leads() -> None:
    parts = compiled(parse({"registered_at": {"$gte": "2025"}, f"{FACTS}.zone": "a"})).parts
    found = leader(parts)
    assert isinstance(found, Probe)
    assert found.path == f"{FACTS}.zone"


async def test_hostile_filters_are_answered(catalog: Catalog, finder: Finder) -> None:
    await catalog.create({FACTS: {"n": 7, "s": "a" * 5000}}, ADMIN)

    async def count(filter_: object) -> int:
        return len((await finder.find(Query(filter=parse(filter_)))).documents)

    assert await count({f"{FACTS}.n": {"$in": list(range(10_000))}}) == 1
    assert await count({f"{FACTS}.n": {"$in": [*map(str, range(30_000)), 7]}}) == 1
    assert await count({"$or": [{f"{FACTS}.n": number} for number in range(1000)]}) == 1
    assert await count({f"{FACTS}.n": {"$lt": 1e300}}) == 1
    assert await count({f"{FACTS}.s": {"$regex": "^(a+)+$"}}) == 1
    assert await count({f"{FACTS}.s": {"$regex": "(a|aa)+b$"}}) == 0
    deep: Any = {NAME: "x"}
    for _ in range(1000):
        deep = {"$and": [deep]}
    with pytest.raises(InvalidRequest):
        parse(deep)


async def test_pages_go_on_where_the_last_one_ended(catalog: Catalog, finder: Finder) -> None:
    made = [(await catalog.create({}, ADMIN))["inference_server_id"] for _ in range(7)]
    seen: list[str] = []
    url = b"limit=3"
    while True:
        page = await finder.find(query_of(url, b"{}", owner=None))
        seen += [one["inference_server_id"] for one in page.documents]
        if page.next is None:
            break
        url = f"limit=3&cursor={cursor_of(page.next)}".encode()
    assert seen == made


@pytest.mark.parametrize("direction", [1, -1])
async def test_the_newest_come_first_and_those_of_one_moment_in_order(
    catalog: Catalog,
    finder: Finder,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    direction: int,
) -> None:
    monkeypatch.setattr(finding, "PAGE", 2)
    documents = []
    for number in range(9):
        tags = ["x"] if number % 4 else []
        documents.append(await catalog.create({TAGS: tags}, ADMIN))
        clock.forward(-3600 if number == 6 else number % 2)
    sort = parse_sort({"registered_at": direction})
    for filter_ in ({}, {TAGS: "x"}, {TAGS: {"$ne": "x"}}):
        parsed = parse(filter_)
        wanted = sorted_documents([one for one in documents if matches(parsed, one)], sort)
        page = await finder.find(Query(filter=parsed, sort=sort, skip=1, limit=5))
        assert page.documents == wanted[1:6]
        monkeypatch.setattr(finding, "FEW", 0)
        page = await finder.find(Query(filter=parsed, sort=sort))
        assert page.documents == wanted


async def test_an_answer_has_a_largest_size(
    catalog: Catalog, finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "MAX_ANSWER_BYTES", 25_000)
    for _ in range(3):
        await catalog.create({FACTS: {"x": "y" * 10_000}}, ADMIN)
    page = await finder.find(Query())
    assert len(page.documents) == 2
    assert page.next is not None
    assert len((await finder.find(Query(after=page.next))).documents) == 1
    monkeypatch.setattr(finding, "MAX_SORTED_BYTES", 25_000)
    with pytest.raises(InvalidRequest, match="sorts too much"):
        await finder.find(Query(sort=parse_sort({NAME: 1})))
