"""The query language over HTTP, in the hands of those who know MongoDB and those who mean harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.access import NO_MODEL, UNLIMITED, as_caller
from tests.acceptance.platform import Platform

ID, NAME, TAGS = "inference_server_id", "inference_server_name", "inference_server_tags"
FACTS = "inference_server_metadata"
DEEP = 30

ENTRIES: dict[str, dict[str, Any]] = {
    "numbers": {
        "big": 2**53 + 1,
        "most": 2**63 - 1,
        "least": -(2**63),
        "double": 1e308,
        "zero": -0.0,
        "half": 5.5,
    },
    "near": {"big": 2**53, "double": 5e-324, "half": 5},
    "dotted": {"a.b": 1, "x": {"y.z": 2, "": 3}, "né": "ü😀"},
    "shaped": {
        "models": [{"name": "bert", "gpus": [1, 2]}, {"name": "llama", "gpus": []}],
        "matrix": [[1, 2], [3]],
        "mixed": [None, 5, "5", {"k": 1}],
        "none": None,
        "empty": {},
    },
    "dated": {
        "at": "2025-01-01T01:00:00+01:00",
        "day": "2025-01-01",
        "times": ["2024-05-01T00:00Z"],
    },
    "texts": {"long": "x" * 5000 + "end", "evil": "a" * 20_000 + "!", "lines": "one\nTwo"},
}  # fmt: skip


def deep(levels: int) -> Any:
    """Return an object of so many levels."""
    value: Any = 1
    for _ in range(levels):
        value = {"d": value}
    return value


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a registry with some entries."""
    data = tmp_path_factory.mktemp("registry") / "data"
    with (
        Platform(data, environment={**NO_MODEL, **UNLIMITED}) as platform,
        as_caller(platform, platform.api_key, management=True) as caller,
    ):
        for name, facts in {**ENTRIES, "deep": deep(DEEP)}.items():
            made = add(caller, name, facts, [name, "all"])
            assert made.status_code == 201, made.text
        yield caller


def add(client: httpx.Client, name: str, facts: Any, tags: list[str]) -> httpx.Response:
    entry = {ID: name, NAME: name, FACTS: facts, TAGS: tags}
    return client.post("/inference_server", json=entry)


def names(client: httpx.Client, filter_: Any, **options: Any) -> list[str]:
    answer = client.post("/inference_servers", json={"filter": filter_, **options})
    assert answer.status_code == 200, answer.text
    return [one[NAME] for one in answer.json()["data"]]


def refusal(client: httpx.Client, content: str, url: str = "/inference_servers") -> dict[str, Any]:
    answer = client.post(url, content=content)
    assert answer.status_code == 400, answer.text
    shown: dict[str, Any] = answer.json()
    assert shown["success"] is False
    return shown


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ({"big": 2**53 + 1}, ["numbers"]),
        ({"big": {"$gt": 2**53}}, ["numbers"]),
        ({"big": {"$gt": float(2**53)}}, ["numbers"]),
        ({"big": {"$lte": 2**53}}, ["near"]),
        ({"big": {"$ne": 2**53}, "double": {"$exists": True}}, ["numbers"]),
        ({"most": {"$gte": 2**63 - 1}}, ["numbers"]),
        ({"most": {"$numberLong": str(2**63 - 1)}}, ["numbers"]),
        ({"most": 9.223372036854775807e18}, []),
        ({"least": {"$lt": -(2**63) + 1}}, ["numbers"]),
        ({"double": {"$gt": 1e307}}, ["numbers"]),
        ({"double": {"$gt": 0, "$lt": 1e-300}}, ["near"]),
        ({"zero": 0}, ["numbers"]),
        ({"half": {"$mod": [2.9, 1.1]}}, ["numbers", "near"]),
        ({"half": {"$type": "double"}}, ["numbers"]),
        ({"a.b": 1}, []),
        ({"x.y.z": 2}, []),
        ({"x": {"y.z": 2, "": 3}}, ["dotted"]),
        ({"né": {"$regex": "^ü.$"}}, ["dotted"]),
        ({"models.name": "llama"}, ["shaped"]),
        ({"models.0.name": "llama"}, []),
        ({"models.1.name": "llama"}, ["shaped"]),
        ({"models.0.gpus.1": 2}, ["shaped"]),
        ({"models": {"$elemMatch": {"name": "bert", "gpus": 2}}}, ["shaped"]),
        ({"models": {"$elemMatch": {"name": "llama", "gpus": 2}}}, []),
        (
            {
                "models": {"$not": {"$elemMatch": {"name": "llama", "gpus": 2}}},
                "matrix": {"$exists": True},
            },
            ["shaped"],
        ),
        ({"models": {"$all": [{"$elemMatch": {"name": "bert"}}, {"$elemMatch": {"gpus": []}}]}},
         ["shaped"]),
        ({"matrix": [3]}, ["shaped"]),
        ({"matrix": {"$elemMatch": {"$elemMatch": {"$gt": 2}}}}, ["shaped"]),
        ({"matrix": 3}, []),
        ({"matrix": {"$type": "array"}}, ["shaped"]),
        ({"mixed": {"$type": ["object", "bool"]}}, ["shaped"]),
        ({"mixed": {"$gt": 4, "$lt": 6}}, ["shaped"]),
        ({"mixed": {"$size": 4}}, ["shaped"]),
        ({"mixed.k": 1}, ["shaped"]),
        ({"none": None, "empty": {"$exists": True}}, ["shaped"]),
        ({"none": {"$type": "null"}}, ["shaped"]),
        ({"none": {"$ne": None}}, []),
        ({"empty": {}}, ["shaped"]),
        ({"at": "2025-01-01T00:00:00Z"}, ["dated"]),
        ({"at": {"$lte": "2025-01-01T00:00:00.000Z"}}, ["dated"]),
        ({"at": {"$lt": {"$date": "2025-01-01T00:00:00Z"}}}, []),
        ({"at": {"$in": [{"$date": 1735689600000}]}}, ["dated"]),
        ({"day": {"$gte": {"$date": "2024-01-01T00:00:00Z"}}}, []),
        ({"day": {"$gte": "2024-01-01T00:00:00Z"}}, ["dated"]),
        ({"times": {"$type": "date"}}, ["dated"]),
        ({"long": {"$regex": "xend$"}}, ["texts"]),
        ({"long": "x" * 5000 + "end"}, ["texts"]),
        ({"long": {"$gt": "x" * 5000}}, ["texts"]),
        ({"evil": {"$regex": "^(a+)+$"}}, []),
        ({"evil": {"$regex": "(a|aa)+!$"}}, ["texts"]),
        ({"lines": {"$regex": "^two$", "$options": "im"}}, ["texts"]),
        ({"lines": {"$regex": "one.T", "$options": "s"}}, ["texts"]),
        ({"lines": {"$regex": "o n e # a comment", "$options": "x"}}, ["texts"]),
        ({"lines": {"$not": {"$regex": "^two$"}, "$exists": True}}, ["texts"]),
        ({"d." * (DEEP - 1) + "d": 1}, ["deep"]),
    ],
)  # fmt: skip
def test_filters(client: httpx.Client, filter_: dict[str, Any], found: list[str]) -> None:
    inside = {f"{FACTS}.{path}": test for path, test in filter_.items()}
    assert names(client, inside) == found


def test_ten_thousand_values(client: httpx.Client) -> None:
    many = [f"name-{number}" for number in range(10_000)]
    assert names(client, {NAME: {"$in": [*many, "deep"]}}) == ["deep"]
    assert len(names(client, {NAME: {"$nin": [*many, "deep"]}})) == len(ENTRIES)
    numbers = {"$in": [*range(9_999), 2**53 + 1]}
    assert names(client, {f"{FACTS}.big": numbers}) == ["numbers"]


def nested(levels: int, operator: str) -> str:
    return f'{{"{operator}":[' * levels + '{"a":1}' + "]}" * levels


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (nested(60, "$and"), "100 levels"),
        (nested(1000, "$and"), "nested too deeply"),
        (nested(60_000, "$nor"), "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ('{"a": NaN}', "not valid JSON"),
        ('{"a": -Infinity}', "not valid JSON"),
        ('{"a": 1e999}', "out of range"),
        ('{"a": 18446744073709551616}', "64 bits"),
        ('{"a": "\\ud800"}', "not valid JSON"),
        ('{"a": "\\u0000"}', "zero character"),
        ('{"a\\u0000": 1}', "zero character"),
        ('{"a.$b": 1}', "$b"),
        ('{"a": {"$regex": "(?=a)b"}}', "RE2"),
        ('{"a": {"$regex": "((a{100}){100}){100}"}}', "RE2"),
        ('{"a": {"$options": "i"}}', "$regex"),
        ('{"a": {"$regex": "a", "$options": "g"}}', "$options"),
        ('{"a": {"$in": 5}}', "$in"),
        ('{"a": {"$mod": [0, 1]}}', "$mod"),
        ('{"a": {"$type": "text"}}', "$type"),
        ('{"a": {"$elemMatch": 5}}', "$elemMatch"),
        ('{"a": {"$size": -1}}', "$size"),
        ('{"$or": []}', "$or"),
        ('{"a": {"$not": 5}}', "$not"),
        ('{"a": {"$date": "yesterday"}}', "$date"),
        ('{"a": {"$oid": "x"}}', "$oid"),
        ('{"$where": "sleep(9)"}', "$where"),
        ('{"$expr": {"$function": {}}}', "$function"),
        ('{"$expr": {"$gt": ["$$ROOT", 1]}}', "$$ROOT"),
        ('{"a": {"$near": [1, 2]}}', "$near"),
        ('{"filter": {}, "sort": {"a": 2}}', "sort"),
        ('{"filter": {}, "sort": {"a": 1}, "skip": 9500, "limit": 501}', "skip"),
        ('{"filter": {}, "limit": 1001}', "limit"),
        ('{"filter": {}, "skip": -1}', "skip"),
        ('{"filter": {}, "sort": {"a": 1}, "cursor": "YWZ0ZXI6Mg"}', "cursor"),
        ('{"filter": {}, "projection": {"a": 1, "b": 0}}', "projection"),
        ('{"filter": {}, "projection": {"a.$": 1}}', "$elemMatch"),
    ],
    ids=lambda text: text[:40],
)
def test_refused_queries(client: httpx.Client, content: str, named: str) -> None:
    assert named in refusal(client, content)["error"]


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ('{"$a": 1}', "$a"),
        ('{"a": {"b": [{"$c": 1}]}}', "$c"),
        ('{"a": "\\u0000"}', "zero character"),
        ('{"\\u0000": 1}', "zero character"),
        ('{"a": "\\udfff"}', "JSON"),
        ('{"a": 9223372036854775808}', "64 bits"),
        ('{"a": -9223372036854775809}', "64 bits"),
        ('{"a": NaN}', "JSON"),
        ('{"a": 1e400}', "out of range"),
        (json.dumps(deep(40)), "deep"),
        (json.dumps({"a": "x" * 70_000}), "bytes"),
        (json.dumps({"a": list(range(3000))}), "values"),
    ],
    ids=lambda text: text[:30],
)
def test_refused_entries(client: httpx.Client, facts: str, named: str) -> None:
    content = f'{{"{NAME}": "refused", "{FACTS}": {facts}}}'
    assert named in refusal(client, content, "/inference_server")["error"]
    assert names(client, {NAME: "refused"}) == []


def test_sorts_projections_and_counts(client: httpx.Client) -> None:
    everything = names(client, {})
    assert names(client, {}, sort={NAME: 1}) == sorted(everything)
    assert names(client, {}, sort={NAME: -1}, skip=2, limit=3) == sorted(everything)[::-1][2:5]
    by_number = names(client, {}, sort={f"{FACTS}.big": -1, NAME: -1})
    assert by_number[:2] == ["numbers", "near"]
    assert by_number[2:] == sorted(set(everything) - {"numbers", "near"}, reverse=True)
    assert names(client, {}, sort={f"{FACTS}.big": 1}, limit=1000, skip=9000) == []
    asked = {
        "filter": {TAGS: "all"},
        "projection": {TAGS: {"$slice": 1}, FACTS: {"models": {"$elemMatch": {"name": "llama"}}}},
        "sort": {f"{FACTS}.models.name": -1},
        "limit": 1,
        "count": True,
    }
    answer = client.post("/inference_servers", json=asked).json()
    models = [{"name": "llama", "gpus": []}]
    assert answer["data"] == [{TAGS: ["shaped"], FACTS: {"models": models}}]
    assert answer["count"] == len(everything)


def test_pages_go_on_while_entries_change(client: httpx.Client) -> None:
    made = [f"page-{number}" for number in range(8)]
    for name in made:
        assert add(client, name, {}, ["paged"]).status_code == 201
    url = "/inference_servers?limit=3"
    first = client.post(url, json={TAGS: "paged"}).json()
    assert client.delete("/inference_server/page-0").status_code == 200
    assert client.delete("/inference_server/page-4").status_code == 200
    changed = client.put("/inference_server/page-1", json={"$set": {f"{FACTS}.new": 1}})
    assert changed.status_code == 200
    assert add(client, "page-8", {}, ["paged"]).status_code == 201
    seen = [one[NAME] for one in first["data"]]
    cursor = first["next_cursor"]
    while cursor is not None:
        page = client.post(f"{url}&cursor={cursor}&count=true", json={TAGS: "paged"}).json()
        assert page["count"] == 7
        seen += [one[NAME] for one in page["data"]]
        cursor = page.get("next_cursor")
    assert seen == ["page-0", "page-1", "page-2", "page-3", "page-5", "page-6", "page-7", "page-8"]
    for name in seen[1:]:
        assert client.delete(f"/inference_server/{name}").status_code == 200


@pytest.fixture
def update(client: httpx.Client) -> Iterator[Callable[..., httpx.Response]]:
    """Update an entry of the test's own."""
    facts = {"n": 5, "list": [1, 2, 3], "models": [{"v": 1}, {"v": 2}], "text": "a"}
    assert add(client, "changing", facts, ["x"]).status_code == 201

    def put(operators: Any, **more: Any) -> httpx.Response:
        body = {"update": operators, **more} if more else operators
        return client.put("/inference_server/changing", json=body)

    yield put
    assert client.delete("/inference_server/changing").status_code == 200


@pytest.mark.parametrize(
    ("operators", "more", "path", "after"),
    [
        ({"$set": {"m.n": [1]}}, {}, "m", {"n": [1]}),
        ({"$set": {}}, {}, "n", 5),
        ({"$unset": {"n": ""}}, {}, "n", None),
        ({"$inc": {"n": -1.5}}, {}, "n", 3.5),
        ({"$inc": {"n": {"$numberLong": "9223372036854775802"}}}, {}, "n", 2**63 - 1),
        ({"$mul": {"n": 2}}, {}, "n", 10),
        ({"$min": {"n": 4}}, {}, "n", 4),
        ({"$max": {"n": 4}}, {}, "n", 5),
        ({"$rename": {"n": "m.n"}}, {}, "m", {"n": 5}),
        ({"$setOnInsert": {"new": 1}}, {}, "new", None),
        ({"$push": {"list": 4}}, {}, "list", [1, 2, 3, 4]),
        (
            {"$push": {"list": {"$each": [0, 9], "$position": 1, "$sort": -1, "$slice": 3}}},
            {}, "list", [9, 3, 2],
        ),
        ({"$addToSet": {"list": {"$each": [3, 4, 4]}}}, {}, "list", [1, 2, 3, 4]),
        ({"$pop": {"list": -1}}, {}, "list", [2, 3]),
        ({"$pull": {"models": {"v": {"$gte": 2}}}}, {}, "models", [{"v": 1}]),
        ({"$pullAll": {"list": [1, 3]}}, {}, "list", [2]),
        ({"$inc": {"models.$[].v": 1}}, {}, "models", [{"v": 2}, {"v": 3}]),
        (
            {"$set": {"models.$[m].v": 9}}, {"arrayFilters": [{"m.v": 2}]},
            "models", [{"v": 1}, {"v": 9}],
        ),
        (
            {"$set": {"models.$.v": 9}}, {"filter": {f"{FACTS}.models.v": 2}},
            "models", [{"v": 1}, {"v": 9}],
        ),
    ],
    ids=str,
)  # fmt: skip
def test_updates(
    client: httpx.Client,
    update: Callable[..., httpx.Response],
    operators: dict[str, Any],
    more: dict[str, Any],
    path: str,
    after: Any,
) -> None:
    inside = {
        operator: {
            f"{FACTS}.{at}": f"{FACTS}.{operand}" if operator == "$rename" else operand
            for at, operand in changes.items()
        }
        for operator, changes in operators.items()
    }
    answer = update(inside, **more)
    assert answer.status_code == 200, answer.text
    facts = client.get("/inference_server/changing").json()["data"][FACTS]
    assert facts.get(path) == after
    assert names(client, {f"{FACTS}.{path}": after, ID: "changing"}) == ["changing"]


def test_current_dates_are_found_as_dates(
    client: httpx.Client, update: Callable[..., httpx.Response]
) -> None:
    moments = {f"{FACTS}.a": True, f"{FACTS}.b": {"$type": "timestamp"}}
    assert update({"$currentDate": moments}).status_code == 200
    recent = {"$gte": {"$date": "2025-01-01T00:00:00Z"}}
    assert names(client, {f"{FACTS}.a": recent, f"{FACTS}.b": {"$type": "date"}}) == ["changing"]


@pytest.mark.parametrize(
    ("operators", "named"),
    [
        ({"$set": {FACTS: {}}, "$inc": {f"{FACTS}.n": 1}}, f"conflict at '{FACTS}'"),
        ({"$rename": {f"{FACTS}.n": f"{FACTS}.n"}}, "conflict"),
        ({"$inc": {f"{FACTS}.text": 1}}, "$inc"),
        ({"$inc": {f"{FACTS}.n": 2**63 - 1}}, "64 bits"),
        ({"$push": {f"{FACTS}.n": 1}}, "$push"),
        ({"$push": {f"{FACTS}.list": {"$slice": 1}}}, "$each"),
        ({"$set": {f"{FACTS}.list.$[x]": 1}}, "'x'"),
        ({"$set": {f"{FACTS}.list.$": 1}}, "positional"),
        ({"$set": {f"{FACTS}.list.5000": 1}}, "nulls"),
        ({"$set": {f"{FACTS}.n.a": 1}}, "'inference_server_metadata.n'"),
        ({"$set": {ID: "another"}}, ID),
        ({"$set": {"registered_at": "2020-01-01T00:00:00.000Z"}}, "registered_at"),
        ({"$unset": {NAME: ""}}, NAME),
        ({"$currentDate": {f"{FACTS}.at": {"$type": "year"}}}, "$currentDate"),
        ({"$bit": {f"{FACTS}.n": {"and": 1}}}, "$bit"),
        ({NAME: "replaced"}, NAME),
    ],
    ids=str,
)  # fmt: skip
def test_refused_updates_change_nothing(
    client: httpx.Client, update: Callable[..., httpx.Response], operators: Any, named: str
) -> None:
    before = client.get("/inference_server/changing").json()
    answer = update(operators)
    assert answer.status_code == 400
    assert named in answer.json()["error"]
    assert client.get("/inference_server/changing").json() == before
