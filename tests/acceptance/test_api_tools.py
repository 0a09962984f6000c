"""Tools: chosen freely, forced, named, and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import BadRequestError, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageFunctionToolCall

from tests.acceptance.platform import MODEL, Platform

ASKED: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"$ref": "#/$defs/city"},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
            "$defs": {"city": {"type": "string", "enum": ["Paris", "{}", 'a "b" \\ }']}},
        },
    },
}
TIME: Any = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}
NAMED: Any = {"type": "function", "function": {"name": "get_time"}}


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[OpenAI]:
    with platform.openai() as client:
        yield client


def ask(client: OpenAI, **fields: Any) -> ChatCompletion:
    fields = {"messages": ASKED, "tools": [WEATHER, TIME], "temperature": 0, **fields}
    fields = {"max_tokens": 200, **fields}
    answer = client.chat.completions.create(model=MODEL, **fields)
    assert isinstance(answer, ChatCompletion)
    return answer


def calls_of(answer: ChatCompletion) -> list[ChatCompletionMessageFunctionToolCall]:
    calls = answer.choices[0].message.tool_calls or []
    return [call for call in calls if isinstance(call, ChatCompletionMessageFunctionToolCall)]


def check_arguments(name: str, arguments: str) -> None:
    given = json.loads(arguments)
    if name == "get_time":
        assert given == {}
    else:
        assert name == "get_weather"
        assert set(given) == {"city", "unit"}
        assert given["unit"] in ("C", "F")
        cities = WEATHER["function"]["parameters"]["$defs"]["city"]["enum"]
        assert given["city"] in cities


@pytest.mark.parametrize("seed", range(4))
def test_a_required_call_is_made(client: OpenAI, seed: int) -> None:
    answer = ask(client, tool_choice="required", seed=seed, temperature=1.5)
    (call,) = calls_of(answer)
    assert call.id
    assert call.type == "function"
    check_arguments(call.function.name, call.function.arguments)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert not answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_a_named_call_is_made(client: OpenAI) -> None:
    for tool in (WEATHER, TIME):
        name = tool["function"]["name"]
        choice: Any = {"type": "function", "function": {"name": name}}
        (call,) = calls_of(ask(client, tool_choice=choice))
        assert call.function.name == name
        check_arguments(name, call.function.arguments)


def test_none_means_none(client: OpenAI) -> None:
    answer = ask(client, tool_choice="none")
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")


@pytest.mark.parametrize("choice", [None, "auto"])
def test_auto_leaves_it_to_the_model_and_shows_it_the_tools(
    client: OpenAI, choice: str | None
) -> None:
    fields: Any = {"tool_choice": choice} if choice else {}
    answer, without = ask(client, **fields), ask(client, tool_choice="none")
    calls, reason = calls_of(answer), answer.choices[0].finish_reason
    if reason == "tool_calls":
        assert all(call.id for call in calls)
        for call in calls:
            check_arguments(call.function.name, call.function.arguments)
    assert bool(calls) is (reason == "tool_calls") or reason == "length"
    assert calls or answer.choices[0].message.content
    assert answer.usage is not None
    assert without.usage is not None
    assert answer.usage.prompt_tokens > without.usage.prompt_tokens


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("choice", ["required", NAMED])
def test_streamed_deltas_assemble_to_the_call(client: OpenAI, choice: Any, n: int) -> None:
    whole = ask(client, tool_choice=choice, n=n)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=ASKED,
            tools=[WEATHER, TIME],
            tool_choice=choice,
            n=n,
            temperature=0,
            max_tokens=200,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    if n == 1:  # what an engine computes together differs in the last digits
        assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    for index in range(n):
        own = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert own[-1].finish_reason == "tool_calls"
        assert all(not choice.delta.content for choice in own)
        deltas = [delta for choice in own for delta in choice.delta.tool_calls or []]
        assert {delta.index for delta in deltas} == {0}
        assert deltas[0].id
        assert deltas[0].type == "function"
        assert [delta.id for delta in deltas[1:]] == [None] * (len(deltas) - 1)
        functions = [delta.function for delta in deltas if delta.function is not None]
        assert [f.name for f in functions[1:]] == [None] * (len(functions) - 1)
        name = functions[0].name or ""
        arguments = "".join(function.arguments or "" for function in functions)
        check_arguments(name, arguments)
        message = whole.choices[index].message.tool_calls
        assert message is not None
        assert isinstance(message[0], ChatCompletionMessageFunctionToolCall)
        assert message[0].function.name == name
        assert json.loads(message[0].function.arguments) == json.loads(arguments)


def test_a_free_answer_is_the_same_streamed(client: OpenAI) -> None:
    """The token is forced: a prompt that is cached may be answered otherwise in the last digits."""
    fields: Any = {"model": MODEL, "messages": ASKED, "tools": [WEATHER, TIME], "temperature": 0}
    first = client.chat.completions.create(max_tokens=1, logprobs=True, **fields).choices[0]
    assert first.logprobs is not None
    (token,) = (entry.model_dump()["id"] for entry in first.logprobs.content or [])
    fields |= {"max_tokens": 20, "logit_bias": {str(token): 100}}
    whole = client.chat.completions.create(**fields).choices[0]
    assert whole.message.content
    chunks = list(client.chat.completions.create(stream=True, **fields))
    streamed = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in streamed) == whole.message.content
    assert streamed[-1].finish_reason == whole.finish_reason == "length"
    assert not any(choice.delta.tool_calls for choice in streamed)


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_the_stream_helper_of_the_sdk_gathers_calls(client: OpenAI, choice: Any) -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=ASKED,
        tools=[WEATHER, TIME],
        tool_choice=choice,
        temperature=0,
        max_tokens=200,
    ) as events:
        kinds = {event.type for event in events}
        final = events.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    (call,) = final.choices[0].message.tool_calls or []
    check_arguments(call.function.name, call.function.arguments)


def test_a_call_and_its_result_are_seen_by_the_model(client: OpenAI) -> None:
    (call,) = calls_of(ask(client, tool_choice="required"))
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "It is sunny in Paris."}
    said: Any = {
        "role": "assistant",
        "content": None,
        "tool_calls": [call.model_dump()],
    }
    answer, before = ask(client, messages=[*ASKED, said, result]), ask(client)
    assert answer.choices[0].message.content or calls_of(answer)
    assert answer.usage is not None
    assert before.usage is not None
    assert answer.usage.prompt_tokens > before.usage.prompt_tokens + 10


def test_a_call_that_is_cut_off_says_length(client: OpenAI) -> None:
    whole = ask(client, tool_choice="required")
    assert whole.usage is not None
    answer = ask(
        client, tool_choice="required", max_tokens=max(1, whole.usage.completion_tokens // 2)
    )
    assert answer.choices[0].finish_reason == "length"
    assert not answer.choices[0].message.content


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"extra_body": {"grammar": "root ::= [a]"}}, "grammar"),
    ],
)
def test_wrong_tools_are_named(client: OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        ask(client, **fields)
    assert refused.value.param == param
