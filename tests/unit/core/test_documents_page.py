"""Runs the examples of docs/reference/query-language.md."""

from __future__ import annotations

import copy
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mongomock
import msgspec
import pytest
from mongomock.filtering import filter_applies

from inferno.core.documents import limits
from inferno.core.documents.applying import apply_update
from inferno.core.documents.filters import REFUSED, parse_filter
from inferno.core.documents.matching import matches
from inferno.core.documents.projections import parse_projection, project
from inferno.core.documents.updates import parse_update
from inferno.core.errors import InvalidRequest

PAGE = (Path(__file__).parents[3] / "docs/reference/query-language.md").read_text("utf-8")
NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
TEXT = (("name",),)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


def _rows(*header: str) -> list[list[str]]:
    """Return the cells of every table whose last columns have these names."""
    tables = ([_cells(line) for line in table.splitlines()] for table in TABLE.findall(PAGE))
    found = [
        line
        for head, _, *lines in tables
        if tuple(head[-len(header) :]) == header
        for line in lines
    ]
    assert found, header
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def _json(cell: str) -> list[Any]:
    """Return the JSON values of a cell; none where it has words."""
    return [
        msgspec.json.decode(text)
        for text in re.findall(r"`(.*?)`(?:, |$)", cell)
        if text.startswith(("{", "["))
    ]


@pytest.mark.parametrize("row", _rows("filter", "finds", "passes by"), ids="|".join)
def test_filter(row: list[str]) -> None:
    _, wanted, found, passed = row
    parsed = parse_filter(_json(wanted)[0], text_paths=TEXT)
    assert _json(found)
    assert _json(passed)
    assert [matches(parsed, document) for document in _json(found)] == [True] * len(_json(found))
    assert [d for d in _json(passed) if matches(parsed, d)] == []


@pytest.mark.parametrize("row", _rows("update", "before", "after"), ids="|".join)
def test_update(row: list[str]) -> None:
    [update], [before], [after] = map(_json, row[1:])
    assert apply_update(parse_update(update), before, now=NOW) == after


@pytest.mark.parametrize("row", _rows("update", "with", "before", "after"), ids="|".join)
def test_positional_update(row: list[str]) -> None:
    [update], [given], [before], [after] = map(_json, row[1:])
    filters, matched = (given, None) if isinstance(given, list) else (None, parse_filter(given))
    parsed = parse_update(update, filters)
    assert apply_update(parsed, before, now=NOW, matched=matched) == after


@pytest.mark.parametrize("row", _rows("refused", "before"), ids="|".join)
def test_refused_update(row: list[str]) -> None:
    [update], [before] = map(_json, row)
    with pytest.raises(InvalidRequest):
        apply_update(parse_update(update), before, now=NOW)


@pytest.mark.parametrize("row", _rows("projection", "document", "shown"), ids="|".join)
def test_projection(row: list[str]) -> None:
    [projection], [document], [shown] = map(_json, row)
    assert project(parse_projection(projection), document) == shown


@pytest.mark.parametrize("row", _rows("filter", "document", "here", "MongoDB", "why"), ids="|".join)
def test_filter_that_differs_from_mongodb(row: list[str]) -> None:
    [wanted], [document] = map(_json, row[:2])
    try:
        answer = _words_for(matches(parse_filter(wanted, text_paths=TEXT), document))
    except InvalidRequest:
        answer = "refuses"
    assert answer == row[2]


@pytest.mark.parametrize("row", _rows("update", "document", "here", "MongoDB", "why"), ids="|".join)
def test_update_that_differs_from_mongodb(row: list[str]) -> None:
    [update], [document] = map(_json, row[:2])
    assert [_updated(update, document)] == (_json(row[2]) or [row[2]])


def _words_for(answer: bool) -> str:
    return "finds" if answer else "passes by"


def _mongomock_finds(wanted: Any, document: Any) -> str:
    try:
        return _words_for(bool(filter_applies(wanted, document)))  # type: ignore[no-untyped-call]
    except Exception:
        return "refuses"


@pytest.mark.parametrize(
    "row", _rows("filter", "document", "here", "mongomock", "why"), ids="|".join
)
def test_filter_that_differs_from_mongomock(row: list[str]) -> None:
    [wanted], [document] = map(_json, row[:2])
    assert _words_for(matches(parse_filter(wanted), document)) == row[2]
    assert _mongomock_finds(wanted, document) == row[3]


def _updated(update: Any, document: Any) -> Any:
    try:
        return apply_update(parse_update(update), document, now=NOW)
    except InvalidRequest:
        return "refuses"


def _mongomock_updated(update: Any, document: Any) -> Any:
    collection = mongomock.MongoClient().db.collection
    collection.insert_one({"_id": 1, **copy.deepcopy(document)})
    try:
        collection.update_one({"_id": 1}, copy.deepcopy(update))
    except Exception:
        return "refuses"
    found = collection.find_one({}, {"_id": 0})
    return {name: value for name, value in found.items() if name != "_id"}


@pytest.mark.parametrize(
    "row", _rows("update", "document", "here", "mongomock", "why"), ids="|".join
)
def test_update_that_differs_from_mongomock(row: list[str]) -> None:
    [update], [document] = map(_json, row[:2])
    assert [_updated(update, document)] == (_json(row[2]) or [row[2]])
    assert [_mongomock_updated(update, document)] == (_json(row[3]) or [row[3]])


def test_says_what_is_refused() -> None:
    section = PAGE.partition("**Refused**")[2].partition("## Updates")[0]
    assert set(re.findall(r"`(\$\w+)`", section)) - {"$type", "$exists"} == set(REFUSED)
    for name in REFUSED:
        with pytest.raises(InvalidRequest, match=re.escape(name)):
            parse_filter({name: 1})
        with pytest.raises(InvalidRequest, match=re.escape(name)):
            parse_filter({"field": {name: 1}})


def test_says_what_the_bounds_are() -> None:
    section = PAGE.partition("## Bounds")[2].partition("## Differences")[0]
    bounds = {int(number.replace(",", "")) for number in re.findall(r"\b[0-9][0-9,]*\b", section)}
    stated = {value for name, value in vars(limits).items() if name.isupper()}
    assert stated - {limits.SIZE, limits.PATTERN_MEMORY} <= bounds
