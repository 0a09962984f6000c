"""Queries over the database answer as the pure language does, however they are compiled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inferno.core.documents.matching import matches
from inferno.core.documents.sorting import parse_sort, sorted_documents
from inferno.core.errors import InvalidRequest
from inferno.registry import finding, planning, walking
from inferno.registry.calls import cursor_of, query_of
from inferno.registry.catalog import Catalog
from inferno.registry.compiling import possible
from inferno.registry.finding import Finder, Query, parse
from inferno.registry.parts import Probe, branches
from inferno.registry.planning import leader
from tests.contract.registry.conftest import ADMIN, Clock

FACTS, TAGS, NAME = "inference_server_metadata", "inference_server_tags", "inference_server_name"
STATE = "state"


@pytest.mark.parametrize(
    ("filter_", "parts", "is_named"),
    [
        ({f"{FACTS}.provider": "AWS"}, 1, True),
        ({TAGS: {"$in": ["NLP", "LLM"]}}, 1, True),
        ({"registered_at": {"$gte": "2025-01-01T00:00:00Z"}}, 1, True),
        ({"registered_at": {"$gte": {"$date": "2025-01-01T00:00:00Z"}}}, 1, True),
        ({f"{FACTS}.zone": "a", f"{FACTS}.gpu": True}, 2, True),
        ({f"{FACTS}.n": {"$gt": 5, "$lt": 9}}, 1, True),
        ({"$and": [{f"{FACTS}.n": {"$gt": 5}}, {f"{FACTS}.n": {"$lt": 9}}]}, 1, True),
        ({FACTS: {"$elemMatch": {"n": {"$gt": 5, "$lt": 9}}}}, 1, True),
        ({"$or": [{NAME: "a"}, {f"{FACTS}.n": 5}]}, 1, True),
        ({"$or": [{NAME: "a"}, {f"{FACTS}.n": None}]}, 1, False),
        ({NAME: {"$ne": "a"}}, 1, False),
        ({NAME: {"$ne": None}}, 2, True),
        ({NAME: {"$exists": False}}, 1, False),
        ({"$nor": [{NAME: "a"}, {STATE: "expired"}]}, 2, False),
        ({"$nor": [{NAME: {"$ne": "a"}}]}, 1, True),
        ({NAME: {"$regex": "^a"}}, 1, True),
        ({NAME: {"$not": {"$regex": "^a"}}}, 0, False),
        ({f"{TAGS}.0": "a"}, 0, False),
        ({f"{FACTS}.at": "2025-01-01T00:00:00Z"}, 1, True),
        ({f"{FACTS}.at": {"$gte": "2025-01-01T00:00:00Z"}}, 1, True),
        ({NAME: {"$in": ["a", None]}}, 1, False),
        ({NAME: {"$in": []}}, 1, True),
        ({TAGS: {"$all": ["a", "b"]}}, 2, True),
        ({TAGS: ["a", "b"]}, 2, True),
        ({TAGS: {"$size": 2}}, 1, True),
        ({TAGS: {"$type": "array"}}, 1, True),
        ({FACTS: {"$elemMatch": {"n": {"$ne": 5}}}}, 0, False),
        ({"$text": {"$search": "large model"}}, 1, True),
        ({"$text": {"$search": '"arge mod"'}}, 0, False),
        ({"$expr": {"$eq": [f"${FACTS}.n", 5]}}, 1, True),
        ({"$expr": {"$gt": [f"${FACTS}.n", 5]}}, 0, False),
        ({f"{FACTS}.n": {"$in": list(range(10_000))}}, 1, True),
        ({}, 0, False),
    ],
)
def test_what_the_index_is_asked(filter_: dict[str, Any], parts: int, is_named: bool) -> None:
    found = possible(parse(filter_))
    assert len(found.parts) == parts
    assert (branches(found) is not None) is is_named


def test_equality_leads() -> None:
    parts = possible(parse({"registered_at": {"$gte": "2025"}, f"{FACTS}.zone": "a"})).parts
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


@pytest.mark.parametrize("sort", [None, {f"{FACTS}.a.n": 1}])
async def test_much_work_on_one_entry_keeps_nobody_waiting(
    catalog: Catalog, finder: Finder, sort: Any
) -> None:
    await catalog.create({NAME: "a", FACTS: {"a": [{"n": n} for n in range(900)]}}, ADMIN)
    hopeless = [{f"{FACTS}.a": {"$elemMatch": {"n": {"$gt": 900 + n}}}} for n in range(150)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    waiting = asyncio.ensure_future(others())
    page = await finder.find(Query(parse({"$or": [*hopeless, {NAME: "a"}]}), sort=parse_sort(sort)))
    waiting.cancel()
    assert [one[NAME] for one in page.documents] == ["a"]
    assert turns > 5


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
    monkeypatch.setattr(walking, "PAGE", 2)
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
        monkeypatch.setattr(planning, "FEW", 0)
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
