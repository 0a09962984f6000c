import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.server.tool_calls import CallReader, schema_of, show_answer, show_chunk
from inferno.server.types import Function, Tool

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet='{}[]",:\\ \nab'),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(alphabet='{}"\\a', max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def tool(name: str, **parameters: Any) -> Tool:
    return Tool(type="function", function=Function(name=name, parameters=parameters))


def pieces_of(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[edges[i] : edges[i + 1]] for i in range(len(edges) - 1)]


@given(
    st.dictionaries(st.text(max_size=5), json_values, max_size=4),
    st.lists(st.integers(min_value=0, max_value=500), max_size=10),
    st.sampled_from([None, 2]),
    st.sampled_from(["", " ", "\n  "]),
)
def test_any_cut_of_a_call_gives_its_name_and_arguments(
    arguments: dict[str, Any], places: list[int], indent: int | None, space: str
) -> None:
    call = json.dumps({"name": "f", "arguments": arguments}, indent=indent)
    reader = CallReader()
    deltas = [reader.feed(piece) for piece in pieces_of(space + call + space, places)]
    given = [delta for delta in deltas if delta is not None]
    assert given[0]["function"]["name"] == "f"
    assert given[0]["type"] == "function"
    assert given[0]["id"].startswith("call_")
    assert all("id" not in delta for delta in given[1:])
    assert {delta["index"] for delta in given} == {0}
    assert json.loads("".join(delta["function"]["arguments"] for delta in given)) == arguments


def test_a_call_that_is_cut_off_shows_what_there_is() -> None:
    answer = answer_of('{"name": "f", "arguments": {"city": "Par', "length")
    show_answer(answer)
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"] == {
        "name": "f",
        "arguments": '{"city": "Par',
    }


def test_a_call_that_is_cut_off_in_its_name_shows_none() -> None:
    answer = answer_of('{"name": "f', "length")
    show_answer(answer)
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": None}


def test_a_whole_answer_becomes_a_call() -> None:
    answer = answer_of('{"name": "f", "arguments": {"a": "}"} }', "stop")
    show_answer(answer)
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert set(call) == {"id", "type", "function"}
    assert json.loads(call["function"]["arguments"]) == {"a": "}"}


def test_chunks_without_news_are_not_shown() -> None:
    reader = CallReader()
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": None},
        {"content": '{"na'},
        {"content": 'me": "f", "arguments": {'},
        {"content": "}"},
        {"content": "}"},
    ]
    chunks: list[dict[str, Any]] = [{"delta": delta, "finish_reason": None} for delta in deltas]
    chunks.append({"delta": {}, "finish_reason": "stop"})
    shown = [chunk for chunk in chunks if show_chunk(chunk, reader)]
    assert shown[0]["delta"] == {"role": "assistant", "content": None}
    texts = [chunk["delta"]["tool_calls"][0]["function"]["arguments"] for chunk in shown[1:-1]]
    assert texts == ["{", "}"]
    assert shown[-1] == {"delta": {}, "finish_reason": "tool_calls"}


def test_the_schema_offers_every_tool_and_moves_references() -> None:
    place = {"$ref": "#/$defs/place"}
    schema = schema_of(
        [
            Tool(type="function", function=Function(name="now")),
            tool("go", type="object", properties={"to": place}, **{"$defs": {"place": {}}}),
        ]
    )
    now, go = schema["anyOf"]
    assert now["properties"]["name"] == {"const": "now"}
    assert now["properties"]["arguments"] == {"type": "object"}
    reference = go["properties"]["arguments"]["properties"]["to"]["$ref"]
    found: Any = schema
    for step in reference.removeprefix("#/").split("/"):
        found = found[int(step)] if isinstance(found, list) else found[step]
    assert found == {}


@pytest.mark.parametrize("name", ["a.b-c_1", "x" * 64])
def test_names_are_constants(name: str) -> None:
    (only,) = schema_of([tool(name)])["anyOf"]
    assert only["properties"]["name"] == {"const": name}
    assert only["required"] == ["name", "arguments"]


def answer_of(text: str, reason: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}
