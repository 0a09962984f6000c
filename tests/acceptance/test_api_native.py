"""The native API, call by call, with the fields that it documents."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.platform import MODEL, Platform

ASK = {"model": MODEL, "prompt": "What is the capital of France?", "temperature": 0}


@pytest.fixture(scope="module")
def http(platform: Platform) -> Iterator[httpx.Client]:
    with platform.http() as client:
        yield client


def infer(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = http.post("/inference", json=ASK | fields).raise_for_status().json()
    return answer


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """Decode every event as a strict client does."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, rest = answer.text.split("\n\n")
    assert rest == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
def test_health_needs_no_credentials(platform: Platform, path: str) -> None:
    answer = httpx.get(platform.url + path)
    assert answer.status_code == 200
    health = answer.json()
    assert set(health) == {"status", "version", "uptime_seconds", "models_loaded"}
    assert health["status"] == "healthy"
    assert isinstance(health["uptime_seconds"], int)
    assert isinstance(health["models_loaded"], int)


def test_the_root_describes_the_server(http: httpx.Client) -> None:
    described = http.get("/").raise_for_status().json()
    assert described["name"] == "Inferno"
    assert described["version"] == http.get("/health").json()["version"]
    for path in (
        described["documentation"],
        described["openapi"],
        described["endpoints"]["models"],
    ):
        assert http.get(path).status_code == 200


def test_models_are_listed_with_all_their_fields(http: httpx.Client) -> None:
    listed = http.get("/models").raise_for_status().json()
    (model,) = [model for model in listed["models"] if model["id"] == MODEL]
    assert isinstance(model["name"], str)
    assert model["type"] == "gguf"
    assert model["size_bytes"] > 1_000_000
    assert isinstance(model["loaded"], bool)
    assert model["context_size"] > 0
    assert {"text-generation", "embeddings"} <= set(model["capabilities"])
    assert http.get(f"/models/{MODEL}").json()["id"] == MODEL


def test_an_answer_has_all_its_fields_and_the_right_words(http: httpx.Client) -> None:
    answer = infer(http)
    assert set(answer) == {"id", "model", "choices", "usage", "created", "processing_time_ms"}
    assert answer["id"].startswith("inf_")
    assert answer["model"] == MODEL
    (choice,) = answer["choices"]
    assert set(choice) == {"text", "index", "finish_reason"}
    assert "Paris" in choice["text"]
    assert choice["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["prompt_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert isinstance(answer["created"], int)
    assert isinstance(answer["processing_time_ms"], int)


def test_ids_are_never_repeated(http: httpx.Client) -> None:
    assert len({infer(http, max_tokens=1)["id"] for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/inference/stream", {}),
        ("/inference/stream", {"stream": True}),
        ("/inference/stream", {"stream": False}),
        ("/inference", {"stream": True}),
        ("/v1/inference/stream", {}),
    ],
)
def test_a_stream_is_json_events_up_to_done(
    http: httpx.Client, path: str, fields: dict[str, Any]
) -> None:
    whole = infer(http)
    *tokens, last = events_of(http.post(path, json=ASK | fields))
    assert [event["index"] for event in tokens] == list(range(len(tokens)))
    assert all(set(event) == {"token", "index"} for event in tokens)
    assert "".join(event["token"] for event in tokens) == whole["choices"][0]["text"]
    assert last["done"] is True
    assert last["finish_reason"] == "stop"
    assert last["usage"] == whole["usage"]


def test_a_stream_that_is_cut_says_length(http: httpx.Client) -> None:
    *tokens, last = events_of(http.post("/inference/stream", json=ASK | {"max_tokens": 2}))
    assert len(tokens) == 2
    assert last["finish_reason"] == "length"
    assert last["usage"]["completion_tokens"] == 2


def test_an_error_before_the_first_token_has_its_status(http: httpx.Client) -> None:
    answer = http.post("/inference/stream", json=ASK | {"model": "nope"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "MODEL_NOT_FOUND"


@pytest.mark.parametrize("path", ["/embeddings", "/v1/embeddings"])
def test_embeddings_come_for_a_text_and_for_texts(http: httpx.Client, path: str) -> None:
    def embed(given: Any, **fields: Any) -> dict[str, Any]:
        body = {"model": MODEL, "input": given, **fields}
        answer: dict[str, Any] = http.post(path, json=body).raise_for_status().json()
        return answer

    one, many = embed("Hello world"), embed(["Hello world", "How are you?"])
    assert one["model"] == MODEL
    assert [entry["index"] for entry in many["data"]] == [0, 1]
    assert one["data"][0]["embedding"] == pytest.approx(many["data"][0]["embedding"], abs=1e-3)
    assert many["data"][0]["embedding"] != many["data"][1]["embedding"]
    usage = many["usage"]
    assert usage["prompt_tokens"] == usage["total_tokens"] > one["usage"]["total_tokens"]

    explicit = embed("Hello world", encoding_format="float")
    packed = embed("Hello world", encoding_format="base64")["data"][0]["embedding"]
    raw = base64.b64decode(packed, validate=True)
    unpacked = struct.unpack(f"<{len(raw) // 4}f", raw)
    assert list(unpacked) == pytest.approx(explicit["data"][0]["embedding"], abs=1e-3)
    assert sum(x * x for x in unpacked) == pytest.approx(1, abs=1e-3)


def test_native_calls_are_served_under_v1_too(http: httpx.Client) -> None:
    answer = http.post("/v1/inference", json=ASK)
    assert "Paris" in answer.json()["choices"][0]["text"]
    assert http.post("/v1/models/nope/load").json()["error"]["code"] == "MODEL_NOT_FOUND"
    assert http.post("/v1/models/nope/unload").json()["error"]["code"] == "MODEL_NOT_FOUND"


@pytest.mark.parametrize("path", ["/", "/health", "/models", "/v1/models", "/nope"])
def test_every_response_says_its_version_and_request_id(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.headers["api-version"] == "1.0"
    assert re.fullmatch(r"req_[0-9a-f]{24}", answer.headers["x-request-id"])
    given = http.get(path, headers={"X-Request-ID": "my-id.1:2_3"})
    assert given.headers["x-request-id"] == "my-id.1:2_3"


def test_a_stream_carries_its_request_id(http: httpx.Client) -> None:
    headers = {"X-Request-ID": "mine"}
    answer = http.post("/inference/stream", json=ASK | {"max_tokens": 1}, headers=headers)
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["cache-control"] == "no-cache"


def test_an_error_repeats_the_request_id(http: httpx.Client) -> None:
    answer = http.get("/nope", headers={"X-Request-ID": "mine"})
    assert answer.json()["request_id"] == "mine"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A platform whose models are loaded and unloaded."""
    data: Path = tmp_path_factory.mktemp("own") / "data"
    with Platform(data) as running, running.http() as client:
        yield client


@pytest.mark.parametrize("body", [None, b"null", b"{}", b" "])
def test_a_model_is_unloaded_and_loaded_without_options(
    own: httpx.Client, body: bytes | None
) -> None:
    unloaded = own.post(f"/models/{MODEL}/unload").raise_for_status().json()
    assert unloaded == {"status": "unloaded", "model_id": MODEL}
    assert own.get(f"/models/{MODEL}").json()["loaded"] is False
    assert own.get("/health").json()["models_loaded"] == 0
    loaded = own.post(f"/models/{MODEL}/load", content=body).raise_for_status().json()
    assert loaded["status"] == "loaded"
    assert loaded["model_id"] == MODEL
    assert loaded["memory_usage_bytes"] > 1_000_000
    assert loaded["load_time_ms"] > 0
    assert own.get(f"/models/{MODEL}").json()["loaded"] is True
    assert own.get("/health").json()["models_loaded"] == 1


def test_unloading_twice_is_fine(own: httpx.Client) -> None:
    for _ in range(2):
        assert own.post(f"/models/{MODEL}/unload").status_code == 200


def test_options_of_a_load_take_effect(own: httpx.Client) -> None:
    own.post(f"/models/{MODEL}/unload").raise_for_status()
    options = {"context_size": 256, "batch_size": 64, "gpu_layers": 0, "parallel": 1, "threads": 1}
    loaded = own.post(f"/models/{MODEL}/load", json=options).raise_for_status().json()
    assert loaded["context_size"] == 256
    assert own.get(f"/models/{MODEL}").json()["context_size"] == 256
    refused = own.post("/inference", json=ASK | {"prompt": "word " * 400})
    assert refused.json()["error"]["code"] == "CONTEXT_LENGTH_EXCEEDED"
    assert refused.json()["error"]["details"]["context_size"] == 256
    answer = own.post("/inference", json=ASK | {"max_tokens": 2000, "ignore_eos": True})
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert answer.json()["usage"]["total_tokens"] <= 256


def test_options_of_a_model_that_is_loaded_replace_its_replica(own: httpx.Client) -> None:
    for size in (256, 512):
        body = {"context_size": size}
        own.post(f"/models/{MODEL}/load", json=body).raise_for_status()
        assert own.get(f"/models/{MODEL}").json()["context_size"] == size


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"context_size": 0}, "context_size"),
        ({"gpu_layers": -2}, "gpu_layers"),
        ({"batch_size": "x"}, "batch_size"),
        ({"parallel": 0}, "parallel"),
        ({"contextsize": 1}, "contextsize"),
    ],
)
def test_wrong_options_of_a_load_are_named(
    http: httpx.Client, body: dict[str, Any], field: str
) -> None:
    answer = http.post(f"/models/{MODEL}/load", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == field
