"""Whatever JSON a request is made of, it never causes a 5xx, a hang, or an answer without JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferno.server.types import ChatRequest, CompletionRequest, EmbeddingRequest, InferenceRequest
from tests.acceptance.platform import MODEL, Platform

texts = st.text(max_size=12) | st.sampled_from(
    [MODEL, "user", "auto", "required", "json_object", "text", "function", "\0", "é☃", "{{", "%s"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.sampled_from([0, 1, -1, 2, 16, 2**31, 2**32, 2**63])
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            texts | st.sampled_from(["role", "content", "type", "name", "function", "schema"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
tools = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.fixed_dictionaries(
                {"name": st.sampled_from(["f", "g-1"])},
                optional={"parameters": st.dictionaries(texts, values, max_size=3)},
            ),
        }
    ),
    max_size=2,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "developer", "function"])},
        optional={
            "content": texts | st.none() | st.just([{"type": "text", "text": "a"}]),
            "name": texts,
            "tool_call_id": texts,
            "tool_calls": st.lists(
                st.fixed_dictionaries(
                    {
                        "function": st.fixed_dictionaries(
                            {"name": texts, "arguments": texts | st.just("{}")}
                        )
                    }
                ),
                max_size=2,
            ),
        },
    ),
    max_size=3,
)
formats = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "json_object", "json_schema"])},
    optional={
        "schema": st.dictionaries(texts, values, max_size=2),
        "json_schema": st.fixed_dictionaries(
            {}, optional={"name": texts, "schema": st.dictionaries(texts, values, max_size=3)}
        ),
    },
)
good = {
    "prompt": st.just("hi") | st.just(["a", "b"]) | st.lists(st.integers(0, 2**33), max_size=3),
    "input": st.just("hi") | st.just(["a", "b"]) | st.lists(st.integers(0, 2**33), max_size=3),
    "messages": messages,
    "tools": tools,
    "tool_choice": st.sampled_from(["auto", "none", "required"]),
    "response_format": formats,
    "stream": st.booleans(),
    "stop": st.lists(texts, max_size=2),
    "n": st.integers(1, 3),
    "logit_bias": st.dictionaries(st.integers(0, 10**9).map(str), st.floats(-100, 100), max_size=2),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "top_k": st.integers(0, 100),
    "seed": st.integers(0, 2**63),
    "grammar": st.just('root ::= "a"') | texts,
    "suffix": texts,
    "logprobs": st.booleans() | st.integers(0, 5),
    "chat_template_kwargs": st.dictionaries(texts, values, max_size=2),
    "reasoning_effort": texts,
}


def requests(kind: type[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return bodies with known fields and plausible values, one of them perhaps any value."""
    names = set(kind.__struct_fields__)
    needed = {"model", "prompt", "input", "messages"} & names
    base = st.fixed_dictionaries(
        {name: good.get(name, st.just(MODEL)) for name in sorted(needed)}
        | ({"max_tokens": st.integers(1, 3)} if "max_tokens" in names else {}),
        optional={name: good[name] for name in sorted(set(good) & names - needed)},
    )
    odd = st.dictionaries(st.sampled_from(sorted(names)), values, max_size=1)
    odd = odd.filter(lambda fields: not {"max_tokens", "max_completion_tokens"} & set(fields))
    return st.builds(lambda body, more: body | more, base, odd)


@pytest.fixture(scope="module")
def http(platform: Platform) -> Iterator[httpx.Client]:
    with platform.http() as client:
        yield client


def check(http: httpx.Client, path: str, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    answer = http.post(path, content=content)
    assert answer.status_code < 500, answer.text
    if answer.headers["content-type"].startswith("text/event-stream"):
        events = [line for line in answer.text.split("\n") if line]
        for event in events:
            payload = event.removeprefix("data: ")
            assert payload == "[DONE]" or json.loads(payload)
        assert events
    else:
        answer.json()
    if answer.status_code != 200:
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]["message"]


patient = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@patient
@given(body=requests(InferenceRequest))
@pytest.mark.parametrize("path", ["/inference", "/inference/stream"])
def test_inference(http: httpx.Client, path: str, body: dict[str, Any]) -> None:
    check(http, path, body)


@patient
@given(body=requests(ChatRequest))
def test_chat(http: httpx.Client, body: dict[str, Any]) -> None:
    check(http, "/v1/chat/completions", body)


@patient
@given(body=requests(CompletionRequest))
def test_completions(http: httpx.Client, body: dict[str, Any]) -> None:
    check(http, "/v1/completions", body)


@patient
@given(body=requests(EmbeddingRequest))
def test_embeddings(http: httpx.Client, body: dict[str, Any]) -> None:
    check(http, "/v1/embeddings", body)


@patient
@given(body=values)
@pytest.mark.parametrize("path", ["/inference", "/v1/chat/completions", f"/models/{MODEL}x/load"])
def test_any_json_at_all(http: httpx.Client, path: str, body: Any) -> None:
    answer = http.post(path, content=json.dumps(body).encode())
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["message"]
