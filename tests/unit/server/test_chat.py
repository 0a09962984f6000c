from typing import Any

import msgspec
import pytest

from inferno.core.errors import InvalidRequest, Unsupported
from inferno.server.chat import IGNORED, REFUSED, REPLACED, check, is_forced, is_usage, merge, total
from inferno.server.types import ChatRequest, Usage

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f"}}


def request(**fields: Any) -> ChatRequest:
    return msgspec.convert({"model": "m", "messages": HI, **fields}, ChatRequest)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_no_engine_honours_is_refused_by_name(name: str) -> None:
    given = msgspec.structs.replace(request(), **{name: "x"})
    with pytest.raises(Unsupported) as refused:
        check(given)
    assert refused.value.field == name


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"grammar": "root ::= [a]", "tools": [TOOL]}, "grammar"),
        ({"grammar": "root ::= [a]", "response_format": {"type": "json_object"}}, "grammar"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [*HI, {"role": "assistant"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]},
         "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
         "messages[0].content[0].type"),
        *(
            ({"messages": [{"role": "assistant", "content": "",
                            "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]},
             "messages[0].tool_calls[0].function.arguments")
            for arguments in ("", "x", "[]", "{", "[" * 100_000)
        ),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_met_names_the_field(fields: dict[str, Any], field: str) -> None:
    assert refused_field(request(**fields)) == field


@pytest.mark.parametrize(
    "fields",
    [
        {"modalities": ["text"]},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"logprobs": True, "top_logprobs": 1},
        {"tool_choice": "none"},
        {"grammar": "root ::= [a]", "response_format": {"type": "text"}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        {
            "messages": [
                *HI,
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "1", "content": "x"},
            ]
        },
    ],
)
def test_a_request_that_can_be_met_is_taken(fields: dict[str, Any]) -> None:
    assert refused_field(request(**fields)) is None


def refused_field(given: ChatRequest) -> str | None:
    try:
        check(given)
    except InvalidRequest as refused:
        return refused.field
    return None


def test_every_field_is_passed_on_replaced_refused_or_ignored_on_purpose() -> None:
    known = set(ChatRequest.__struct_fields__)
    assert known >= set(REFUSED) | IGNORED | REPLACED
    assert not set(REFUSED) & IGNORED


@pytest.mark.parametrize(
    ("choice", "forced"),
    [
        (None, False),
        ("none", False),
        ("auto", False),
        ("required", True),
        ({"type": "function", "function": {"name": "f"}}, True),
    ],
)
def test_a_choice_of_tools_is_forced_or_free(choice: Any, forced: bool) -> None:
    assert is_forced(request(tools=[TOOL], tool_choice=choice)) is forced


def test_the_usage_event_is_told_apart_by_having_no_choice() -> None:
    assert is_usage(b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n')
    assert not is_usage(b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n')
    text = b'data: {"choices":[{"delta":{"content":"\\"choices\\":[],\\"usage\\":{"}}]}\n\n'
    assert not is_usage(text)


def test_the_prompt_of_several_choices_counts_once() -> None:
    usages = [
        Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7),
        Usage(prompt_tokens=5, completion_tokens=3, total_tokens=8),
    ]
    assert total(usages) == Usage(prompt_tokens=5, completion_tokens=5, total_tokens=10)
    assert total([]) == Usage()


def test_answers_merge_into_one_with_an_index_each() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    answers = [
        {"id": name, "choices": [{"index": 0, "message": {"content": name}}], "usage": usage}
        for name in ("a", "b")
    ]
    merged = merge(answers)
    assert merged["id"] == "a"
    assert [choice["index"] for choice in merged["choices"]] == [0, 1]
    assert [choice["message"]["content"] for choice in merged["choices"]] == ["a", "b"]
    assert merged["usage"] == Usage(prompt_tokens=1, completion_tokens=4, total_tokens=5)
