"""Errors in both envelopes: what is wrong is said by name, and nothing wrong is a 5xx."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.acceptance.platform import MODEL, Platform

NATIVE = "/inference"
CHAT = "/v1/chat/completions"
LEGACY = "/v1/completions"
ASK = {"model": MODEL, "prompt": "hi", "max_tokens": 1}
TALK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
BODIES = {NATIVE: ASK, LEGACY: ASK, CHAT: TALK}


@pytest.fixture(scope="module")
def http(platform: Platform) -> Iterator[httpx.Client]:
    with platform.http() as client:
        yield client


def native_error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check the native envelope and return its error."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "request_id", "timestamp"}
    assert body["request_id"] == answer.headers["x-request-id"]
    assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
    error: dict[str, Any] = body["error"]
    assert set(error) <= {"code", "message", "details", "retry_after"}
    assert error["code"] == code
    assert error["message"]
    return error


def openai_error(answer: httpx.Response, status: int, code: str | None) -> dict[str, Any]:
    """Check OpenAI's envelope and return its error."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    return error


RAW_BODIES = {
    "empty": b"",
    "cut": b'{"model": "a", ',
    "word": b"hello",
    "array": b"[]",
    "text": b'"a"',
    "null": b"null",
    "number": b"1",
    "two values": b"{} {}",
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "UTF-16": '{"model": "a"}'.encode("utf-16"),
    "lone surrogate": b'{"model": "\\ud800"}',
    "NaN": b'{"model": "a", "temperature": NaN}',
    "Infinity": b'{"model": "a", "temperature": Infinity}',
    "comment": b'{"model": "a" /* no */}',
    "trailing comma": b'{"model": "a",}',
    "single quotes": b"{'model': 'a'}",
    "deep array": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep field": b'{"model": "a", "prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "huge number": b'{"model": "a", "max_tokens": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", RAW_BODIES)
def test_what_is_no_request_is_refused(http: httpx.Client, name: str) -> None:
    native_error(http.post(NATIVE, content=RAW_BODIES[name]), 400, "INVALID_REQUEST")
    for path in (CHAT, LEGACY, "/v1/embeddings"):
        error = openai_error(http.post(path, content=RAW_BODIES[name]), 400, None)
        assert error["type"] == "invalid_request_error"


def test_the_last_of_duplicate_keys_counts(http: httpx.Client) -> None:
    body = json.dumps(ASK)[:-1].encode() + b', "max_tokens": 2}'
    answer = http.post(NATIVE, content=body)
    assert answer.json()["usage"]["completion_tokens"] == 2


WRONG: list[tuple[str, dict[str, Any], str]] = [
    *(
        (path, {name: value}, name)
        for path in (NATIVE, LEGACY, CHAT)
        for name, value in [
            ("model", 1),
            ("model", ""),
            ("model", None),
            ("max_tokens", "x"),
            ("max_tokens", 0),
            ("max_tokens", -1),
            ("max_tokens", 1.5),
            ("max_tokens", True),
            ("max_tokens", 2_000_001),
            ("temperature", -0.1),
            ("temperature", 2.1),
            ("temperature", "hot"),
            ("top_p", 1.1),
            ("top_k", -1),
            ("min_p", 2),
            ("repeat_penalty", 0),
            ("repeat_last_n", -1),
            ("presence_penalty", 3),
            ("frequency_penalty", -3),
            ("seed", -1),
            ("seed", "x"),
            ("stop", 1),
            ("stop", ""),
            ("stream", "yes"),
            ("modle", 1),
        ]
    ),
    (NATIVE, {"stop": ["a", 1]}, "stop[1]"),
    (NATIVE, {"prompt": ""}, "prompt"),
    (NATIVE, {"prompt": ["a"]}, "prompt"),
    (LEGACY, {"prompt": 1}, "prompt"),
    (LEGACY, {"n": 0}, "n"),
    (LEGACY, {"n": 129}, "n"),
    (LEGACY, {"logprobs": 21}, "logprobs"),
    (LEGACY, {"logit_bias": {"1": 101}}, "logit_bias[...]"),
    (LEGACY, {"stream_options": {"include_usage": True}}, "stream_options"),
    (CHAT, {"stream": True, "stream_options": {"usage": 1}}, "stream_options.usage"),
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": "hi"}, "messages"),
    (CHAT, {"messages": [{"content": "hi"}]}, "messages[0].role"),
    (CHAT, {"messages": [{"role": "boss", "content": "hi"}]}, "messages[0].role"),
    (CHAT, {"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": [{"text": "a"}]}]},
     "messages[0].content[0].type"),
    (CHAT, {"top_logprobs": 3}, "top_logprobs"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    (CHAT, {"response_format": {"type": "xml"}}, "response_format.type"),
    (CHAT, {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}},
     "response_format.json_schema.schema"),
    (CHAT, {"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
    (CHAT, {"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "fields", "field"), WRONG)
def test_a_wrong_value_names_its_field(
    http: httpx.Client, path: str, fields: dict[str, Any], field: str
) -> None:
    answer = http.post(path, json=BODIES[path] | fields)
    if path == NATIVE:
        error = native_error(answer, 400, "INVALID_REQUEST")
        assert error["details"]["field"] == field
    else:
        error = openai_error(answer, 400, None)
        assert error["param"] == field
    assert field in error["message"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (NATIVE, "model"), (NATIVE, "prompt"), (LEGACY, "model"), (LEGACY, "prompt"),
        (CHAT, "model"), (CHAT, "messages"),
    ],
)  # fmt: skip
def test_a_missing_field_is_named(http: httpx.Client, path: str, field: str) -> None:
    body = {name: value for name, value in BODIES[path].items() if name != field}
    answer = http.post(path, json=body)
    if path == NATIVE:
        error = native_error(answer, 400, "INVALID_REQUEST")
        assert error["details"]["field"] == field
    else:
        assert openai_error(answer, 400, None)["param"] == field


LONG = "word " * 5000


@pytest.mark.parametrize("streamed", [False, True])
def test_a_prompt_that_is_too_long_says_both_lengths(http: httpx.Client, streamed: bool) -> None:
    size = http.get(f"/models/{MODEL}").json()["context_size"]
    error = native_error(
        http.post(NATIVE, json=ASK | {"prompt": LONG, "stream": streamed}),
        400,
        "CONTEXT_LENGTH_EXCEEDED",
    )
    assert error["details"]["context_size"] == size
    assert error["details"]["prompt_tokens"] > size
    assert str(size) in error["message"]
    assert str(error["details"]["prompt_tokens"]) in error["message"]
    talk = TALK | {"messages": [{"role": "user", "content": LONG}], "stream": streamed}
    for path, body in ((LEGACY, ASK | {"prompt": LONG, "stream": streamed}), (CHAT, talk)):
        shown = openai_error(http.post(path, json=body), 400, "context_length_exceeded")
        assert shown["type"] == "invalid_request_error"
        assert str(size) in shown["message"]
        assert len(re.findall(r"\d+", shown["message"])) >= 2


def test_an_unknown_model_lists_those_there_are(http: httpx.Client) -> None:
    for answer in (
        http.post(NATIVE, json=ASK | {"model": "gpt-5"}),
        http.post("/embeddings", json={"model": "gpt-5", "input": "a"}),
        http.post("/models/gpt-5/load"),
        http.post("/models/gpt-5/unload"),
        http.get("/models/gpt-5"),
    ):
        error = native_error(answer, 404, "MODEL_NOT_FOUND")
        assert error["message"] == "Model 'gpt-5' not found"
        assert MODEL in error["details"]["available_models"]
    shown = openai_error(http.post(CHAT, json=TALK | {"model": "gpt-5"}), 404, "model_not_found")
    assert shown["param"] == "model"
    assert MODEL in shown["message"]


@pytest.mark.parametrize(
    "model", ["../../etc/passwd", "/etc/passwd", "a\0b", "x" * 300, "é☃", "'; DROP TABLE", "a\nb"]
)
def test_strange_names_of_models_are_only_unknown(http: httpx.Client, model: str) -> None:
    answer = http.post(NATIVE, json=ASK | {"model": model})
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["code"] in ("MODEL_NOT_FOUND", "INVALID_REQUEST")


@pytest.mark.parametrize(
    "path",
    [
        "/models/..%2f..%2fetc/load",
        "/models/%2e%2e/load",
        "/models/..%5c..%5cetc/load",
        "/models/%00/load",
        "/models/%ff/load",
        "/models//load",
        f"/models/{'x' * 3000}/load",
    ],
)
def test_paths_cannot_leave_the_models(http: httpx.Client, path: str) -> None:
    answer = http.post(path)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["code"] in ("MODEL_NOT_FOUND", "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("path", "native"),
    [("/nope", True), ("/health/", True), ("/v2/x", True), ("/v1/chat/nope", False)],
)
def test_an_unknown_path_is_not_found(http: httpx.Client, path: str, native: bool) -> None:
    answer = http.get(path)
    if native:
        native_error(answer, 404, "INVALID_REQUEST")
    else:
        openai_error(answer, 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", NATIVE, {"POST"}),
        ("DELETE", NATIVE, {"POST"}),
        ("PUT", CHAT, {"POST"}),
        ("POST", "/health", {"GET", "HEAD"}),
        ("PATCH", "/v1/models", {"GET", "HEAD"}),
        ("GET", f"/models/{MODEL}/load", {"POST"}),
    ],
)
def test_a_wrong_method_says_which_are_right(
    http: httpx.Client, method: str, path: str, allowed: set[str]
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == 405
    assert set(re.split(r", *", answer.headers["allow"])) == allowed
    assert method in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", [NATIVE, CHAT])
def test_other_origins_get_no_permission(platform: Platform, path: str) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    with platform.http() as client:
        for answer in (
            client.options(path, headers=headers),
            client.post(path, json=BODIES[path], headers=headers),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("given", ["", "a b", "x" * 200, "<script>", "a;b", "%0d%0aX-Evil: 1"])
def test_a_hostile_request_id_is_replaced(http: httpx.Client, given: str) -> None:
    answer = http.get("/health", headers={"X-Request-ID": given})
    assert re.fullmatch(r"req_[0-9a-f]{24}", answer.headers["x-request-id"])
    assert "x-evil" not in answer.headers


def test_nothing_of_the_inside_is_told(http: httpx.Client) -> None:
    texts: list[Callable[[], httpx.Response]] = [
        lambda: http.post(NATIVE, json=ASK | {"grammar": "root ::= ((("}),
        lambda: http.post(NATIVE, content=b"[" * 100_000),
        lambda: http.post("/models/nope/load"),
        lambda: http.post(CHAT, json=TALK | {"response_format": {"type": "json_schema"}}),
    ]
    for ask in texts:
        answer = ask()
        assert 400 <= answer.status_code < 500
        assert not re.search(r"Traceback|\.py\b|site-packages|/home/|/tmp/|/usr/", answer.text)
