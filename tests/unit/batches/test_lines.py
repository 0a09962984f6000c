from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.batches.lines import (
    Line,
    LineFault,
    LineSplitter,
    LineTooLong,
    OpenAILines,
    UniqueIds,
)

ENDPOINT = "/v1/embeddings"


def split(pieces: list[bytes], max_bytes: int = 100) -> list[Line]:
    splitter = LineSplitter(max_bytes)
    found = [line for piece in pieces for line in splitter.feed(piece)]
    return [*found, *splitter.end()]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([], []),
        ([b"a"], [(1, b"a")]),
        ([b"a\n"], [(1, b"a")]),
        ([b"a\r\nb\r\n"], [(1, b"a"), (2, b"b")]),
        ([b"a", b"b\nc", b"\n"], [(1, b"ab"), (2, b"c")]),
        ([b"\n\n  \nx"], [(4, b"x")]),
        ([b"\xef\xbb\xbf{}\n{}"], [(1, b"{}"), (2, b"{}")]),
    ],
)
def test_lines_are_numbered_as_editors_do(
    pieces: list[bytes], lines: list[tuple[int, bytes]]
) -> None:
    assert split(pieces) == [Line(*line) for line in lines]


@given(st.lists(st.text("ab\n\r ", max_size=8).map(str.encode)))
def test_it_does_not_matter_how_a_text_is_cut(pieces: list[bytes]) -> None:
    assert split(pieces) == split([b"".join(pieces)])


@pytest.mark.parametrize("pieces", [[b"\n" + b"x" * 11], [b"\nxxxxx", b"xxxxxx"], [b"\n", b"x" * 11 + b"\n"]])  # fmt: skip  # noqa: E501
def test_long_lines_are_refused_before_they_are_whole(pieces: list[bytes]) -> None:
    with pytest.raises(LineTooLong) as refused:
        split(pieces, max_bytes=10)
    assert refused.value.details == {"line": 2}


def reader() -> OpenAILines:
    return OpenAILines((ENDPOINT,), lambda name: name == "m", UniqueIds())


def line(**changes: Any) -> Line:
    fields: dict[str, Any] = {
        "custom_id": "a",
        "method": "POST",
        "url": ENDPOINT,
        "body": {"model": "m", "input": "x"},
    }
    return Line(7, json.dumps({**fields, **changes}).encode())


def test_a_request_is_kept_as_it_was_written() -> None:
    item = reader().read(line(body={"model": "m", "x": [1.50, None]}), 3)
    assert (item.number, item.custom_id, item.endpoint) == (3, "a", ENDPOINT)
    assert item.body == b'{"model": "m", "x": [1.5, null]}'


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"method": "PUT"}, "invalid_method", "method"),
        ({"url": "/inference"}, "invalid_url", "url"),
        ({"custom_id": ""}, "invalid_custom_id", "custom_id"),
        ({"custom_id": "x" * 513}, "invalid_custom_id", "custom_id"),
        ({"custom_id": "a\0"}, "invalid_custom_id", "custom_id"),
        ({"custom_id": None}, "invalid_type", "custom_id"),
        ({"body": []}, "invalid_type", "body"),
        ({"body": {"model": 1}}, "invalid_type", "body.model"),
        ({"body": {}}, "missing_required_parameter", "body.model"),
        ({"body": {"model": "n"}}, "model_not_found", "body.model"),
        ({"body": {"model": "m", "stream": True}}, "unsupported_parameter", "body.stream"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], code: str, param: str | None) -> None:
    with pytest.raises(LineFault) as found:
        reader().read(line(**changes), 0)
    error = found.value.error
    assert (error.code, error.param, error.line) == (code, param, 7)
    assert error.message


def test_ids_are_told_apart() -> None:
    ids = UniqueIds()
    assert [ids.problem_with(str(number)) for number in range(1000)] == [None] * 1000
    problem = ids.problem_with("7")
    assert problem is not None
    assert problem[0] == "duplicate_custom_id"
