"""Chat completions through the official SDK, synchronous and asynchronous."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.acceptance.platform import MODEL, Platform

FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[OpenAI]:
    with platform.openai() as client:
        yield client


@pytest.fixture(scope="module")
def http(platform: Platform) -> Iterator[httpx.Client]:
    with platform.http() as client:
        yield client


def ask(client: OpenAI, **fields: Any) -> ChatCompletion:
    fields = {"temperature": 0, "messages": FRANCE, **fields}
    answer = client.chat.completions.create(model=MODEL, **fields)
    assert isinstance(answer, ChatCompletion)
    return answer


def stream(client: OpenAI, **fields: Any) -> list[ChatCompletionChunk]:
    fields = {"temperature": 0, "messages": FRANCE, **fields}
    return list(client.chat.completions.create(model=MODEL, stream=True, **fields))


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    return "".join(
        choice.delta.content or ""
        for chunk in chunks
        for choice in chunk.choices
        if choice.index == index
    )


def test_an_answer_has_its_shape_and_the_right_words(client: OpenAI) -> None:
    answer = ask(client)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    (choice,) = answer.choices
    assert choice.index == 0
    assert choice.message.role == "assistant"
    assert "Paris" in (choice.message.content or "")
    assert choice.message.tool_calls is None
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_has_its_shape_and_says_the_same(client: OpenAI) -> None:
    chunks = stream(client)
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in chunks)
    assert text_of(chunks) == ask(client).choices[0].message.content


def test_streams_end_with_done(http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": FRANCE, "stream": True, "max_tokens": 1}
    for fields in ({}, {"n": 2}, {"stream_options": {"include_usage": True}}):
        answer = http.post("/v1/chat/completions", json=body | fields)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.endswith("\n\ndata: [DONE]\n\n")
        assert answer.text.count("[DONE]") == 1


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("limit", [2, 40])
def test_streamed_usage_is_that_of_the_whole_answer(client: OpenAI, n: int, limit: int) -> None:
    options: Any = {"include_usage": True}
    whole = ask(client, n=n, max_tokens=limit)
    chunks = stream(client, n=n, max_tokens=limit, stream_options=options)
    assert chunks[-1].choices == []
    assert all(chunk.usage is None for chunk in chunks[:-1])
    streamed = chunks[-1].usage
    assert streamed is not None
    assert whole.usage is not None
    assert streamed.prompt_tokens == whole.usage.prompt_tokens
    assert streamed.completion_tokens == whole.usage.completion_tokens
    assert streamed.total_tokens == whole.usage.total_tokens


def test_without_being_asked_for_there_is_no_usage_chunk(client: OpenAI) -> None:
    options: Any = {"include_usage": False}
    for chunks in (stream(client), stream(client, n=2), stream(client, stream_options=options)):
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_n_gives_so_many_choices(client: OpenAI, n: int) -> None:
    one = ask(client, max_tokens=5).usage
    answer = ask(client, n=n, max_tokens=5)
    assert [choice.index for choice in answer.choices] == list(range(n))
    assert all(choice.message.content for choice in answer.choices)
    assert answer.usage is not None
    assert one is not None
    assert answer.usage.prompt_tokens == one.prompt_tokens
    assert answer.usage.completion_tokens == n * one.completion_tokens

    chunks = stream(client, n=n, max_tokens=5)
    assert len({chunk.id for chunk in chunks}) == 1
    for index in range(n):
        own = [c.choices[0] for c in chunks if c.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert own[-1].finish_reason == "length"
        assert text_of(chunks, index) == answer.choices[index].message.content


def test_a_seed_is_repeatable_and_its_choices_differ(client: OpenAI) -> None:
    hot: Any = {
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "temperature": 2,
        "top_p": 1,
        "extra_body": {"top_k": 0, "min_p": 0},
        "max_tokens": 20,
    }
    # One at a time: what an engine computes together differs in the last digits.
    texts = [ask(client, seed=7, **hot).choices[0].message.content for _ in range(3)]
    assert len(set(texts[1:])) == 1
    choices = ask(client, n=4, seed=7, **hot).choices
    assert len({choice.message.content for choice in choices}) > 1


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_cuts_the_answer(client: OpenAI, name: str) -> None:
    answer = ask(client, **{name: 3})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert stream(client, **{name: 3})[-1].choices[0].finish_reason == "length"


def test_stop_cuts_the_answer(client: OpenAI) -> None:
    for stop in ("Paris", ["never", "Paris"]):
        answer = ask(client, stop=stop)
        assert "Paris" not in (answer.choices[0].message.content or "")
        assert answer.choices[0].finish_reason == "stop"
        chunks = stream(client, stop=stop)
        assert text_of(chunks) == answer.choices[0].message.content


def test_logprobs_are_those_of_the_tokens(client: OpenAI) -> None:
    choice = ask(client, logprobs=True, top_logprobs=3, max_tokens=5).choices[0]
    assert choice.logprobs is not None
    content = choice.logprobs.content
    assert content is not None
    assert len(content) == 5
    assert "".join(entry.token for entry in content) == choice.message.content
    for entry in content:
        assert entry.logprob <= 0
        assert bytes(entry.bytes or []).decode() == entry.token
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token
    assert ask(client, max_tokens=1).choices[0].logprobs is None


@pytest.mark.parametrize("fields", [{}, {"top_logprobs": 0}])
def test_logprobs_come_without_alternatives(client: OpenAI, fields: dict[str, Any]) -> None:
    answers = [
        ask(client, logprobs=True, max_tokens=3, **fields).choices[0].logprobs,
        *(
            chunk.choices[0].logprobs
            for chunk in stream(client, logprobs=True, max_tokens=3, **fields)
        ),
    ]
    entries = [entry for given in answers if given for entry in given.content or []]
    assert len(entries) == 6
    assert all(entry.top_logprobs == [] for entry in entries)
    assert all(entry.logprob <= 0 for entry in entries)


def test_logprobs_are_streamed(client: OpenAI) -> None:
    chunks = stream(client, logprobs=True, top_logprobs=2, max_tokens=4)
    entries = [
        entry
        for chunk in chunks
        if chunk.choices[0].logprobs is not None
        for entry in chunk.choices[0].logprobs.content or []
    ]
    assert "".join(entry.token for entry in entries) == text_of(chunks)
    assert all(len(entry.top_logprobs) == 2 for entry in entries)


def test_a_json_object_is_one(client: OpenAI) -> None:
    form: Any = {"type": "json_object"}
    for seed in range(3):
        answer = ask(client, response_format=form, seed=seed, max_tokens=300, temperature=1)
        text = answer.choices[0].message.content or ""
        assert text.lstrip().startswith("{")
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(text), dict)


SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Paris", "Rome"]},
        "big": {"type": "boolean"},
        "size": {"$ref": "#/$defs/size"},
    },
    "required": ["city", "big", "size"],
    "additionalProperties": False,
    "$defs": {"size": {"type": "string", "enum": ["small", "large"]}},
}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_json_schema_is_matched(client: OpenAI, streamed: bool) -> None:
    form: Any = {
        "type": "json_schema",
        "json_schema": {"name": "city", "schema": SCHEMA, "strict": True},
    }
    for seed in range(3):
        fields: Any = {"response_format": form, "seed": seed, "temperature": 1, "max_tokens": 200}
        if streamed:
            text = text_of(stream(client, **fields))
        else:
            text = ask(client, **fields).choices[0].message.content or ""
        answer = json.loads(text)
        assert set(answer) == {"city", "big", "size"}
        assert answer["city"] in ("Paris", "Rome")
        assert isinstance(answer["big"], bool)
        assert answer["size"] in ("small", "large")


def test_a_schema_that_is_none_is_refused(client: OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    with pytest.raises(BadRequestError) as refused:
        ask(client, response_format=form)
    assert "schema" in str(refused.value)


def test_developers_speak_as_the_system_does(client: OpenAI) -> None:
    def prompt_tokens(role: str) -> int:
        messages: Any = [{"role": role, "content": "Be nice."}, *FRANCE]
        usage = ask(client, messages=messages, max_tokens=1).usage
        assert usage is not None
        return usage.prompt_tokens

    assert prompt_tokens("developer") == prompt_tokens("system")


def test_parts_of_text_count_as_text(client: OpenAI) -> None:
    parts: Any = [{"type": "text", "text": "What is the capital of France?"}]
    answer = ask(client, messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == ask(client).choices[0].message.content


def test_earlier_turns_are_seen(client: OpenAI) -> None:
    said: Any = [*FRANCE, {"role": "assistant", "content": "Paris."}, *FRANCE]
    long, short = ask(client, messages=said, max_tokens=1).usage, ask(client, max_tokens=1).usage
    assert long is not None
    assert short is not None
    assert long.prompt_tokens > short.prompt_tokens


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"verbosity": "low"}, "verbosity"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [AUDIO]}]}, "messages[0].content[0].type"),
    ],
)
def test_what_is_not_served_is_refused_by_name(
    client: OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        ask(client, **fields)
    assert refused.value.param == param
    assert refused.value.code == "unsupported_parameter"
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "me"},
        {"metadata": {"a": "b"}},
        {"store": False},
        {"service_tier": "auto"},
        {"safety_identifier": "x"},
        {"prompt_cache_key": "x"},
        {"modalities": ["text"]},
        {"stop": None},
        {"tools": [], "max_tokens": None},
    ],
)
def test_bookkeeping_and_nothing_at_all_change_no_answer(
    client: OpenAI, fields: dict[str, Any]
) -> None:
    answer = ask(client, extra_body=fields)
    assert answer.choices[0].message.content == ask(client).choices[0].message.content


def test_pydantic_models_are_parsed_by_the_sdk(client: OpenAI) -> None:
    from typing import Literal

    from pydantic import BaseModel

    class City(BaseModel):
        city: Literal["Paris", "Rome"]
        capital: bool

    parsed = client.chat.completions.parse(
        model=MODEL, messages=FRANCE, response_format=City, max_tokens=100, temperature=0
    )
    city = parsed.choices[0].message.parsed
    assert isinstance(city, City)
    assert city.city in ("Paris", "Rome")


def test_the_stream_helper_of_the_sdk_gathers_an_answer(client: OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=FRANCE, temperature=0) as events:
        kinds = {event.type for event in events}
        final = events.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert "Paris" in (final.choices[0].message.content or "")
    assert final.choices[0].finish_reason == "stop"


async def test_the_asynchronous_sdk_gets_the_same_answers_at_once(platform: Platform) -> None:
    async with platform.async_openai() as client:

        async def whole() -> str:
            answer = await client.chat.completions.create(
                model=MODEL, messages=FRANCE, temperature=0
            )
            return answer.choices[0].message.content or ""

        async def streamed() -> str:
            chunks = await client.chat.completions.create(
                model=MODEL, messages=FRANCE, temperature=0, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

        texts = await asyncio.gather(*(work() for work in (whole, streamed) * 6))
    assert len(set(texts)) == 1
    assert "Paris" in texts[0]
