"""Error codes that take a platform of its own: not loaded, cannot load, too slow, too many."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, InternalServerError

from tests.acceptance.platform import MODEL, Platform, wait_until

ASK = {"model": MODEL, "prompt": "hi", "max_tokens": 1}
LONG = {"model": MODEL, "prompt": "hi", "max_tokens": 1900, "ignore_eos": True}
TALK: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that loads nothing unasked, is impatient, and has a broken model."""
    folder = tmp_path_factory.mktemp("strict")
    models = folder / "models"
    models.mkdir()
    (models / "broken.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 64)
    environment = {
        "INFERNO_LOAD_ON_DEMAND": "false",
        "INFERNO_REQUEST_TIMEOUT": "0.2",
        "INFERNO_CONTEXT_SIZE": "2048",
        "INFERNO_THREADS": "1",
        "INFERNO_MODELS_DIR": str(models),
    }
    with Platform(folder / "data", environment=environment) as running:
        yield running


def test_a_model_that_is_not_loaded_says_how_to_load_it(strict: Platform) -> None:
    with strict.http() as http:
        http.post(f"/models/{MODEL}/unload").raise_for_status()
        answer = http.post("/inference", json=ASK)
        shown = http.post("/v1/completions", json=ASK)
        http.post(f"/models/{MODEL}/load").raise_for_status()
        assert http.post("/inference", json=ASK).status_code == 200
    assert answer.status_code == shown.status_code == 503
    assert answer.json()["error"]["code"] == "MODEL_NOT_LOADED"
    assert f"/models/{MODEL}/load" in answer.json()["error"]["message"]
    assert shown.json()["error"]["code"] == "model_not_loaded"


def test_a_model_that_cannot_be_loaded_says_why(strict: Platform) -> None:
    with strict.http() as http:
        answer = http.post("/models/broken/load")
        wait_until(lambda: "reason" in http.get("/models/broken").json(), 30, "no reason shown")
        listed = http.get("/models/broken").json()
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error["code"] == "MODEL_NOT_LOADED"
    assert error["details"]["reason"]
    assert "broken" in error["message"]
    assert listed["loaded"] is False
    assert listed["reason"] == error["details"]["reason"]
    assert listed["message"]


def test_an_answer_that_takes_too_long_is_given_up(strict: Platform) -> None:
    with strict.http() as http:
        http.post(f"/models/{MODEL}/load").raise_for_status()
        answer = http.post("/inference", json=LONG)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "TIMEOUT"
        assert http.post("/inference", json=ASK).status_code == 200


def test_a_stream_that_takes_too_long_ends_with_an_error(strict: Platform) -> None:
    with strict.http() as http:
        http.post(f"/models/{MODEL}/load").raise_for_status()
        answer = http.post("/inference/stream", json=LONG)
    assert answer.status_code == 200
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n") if line]
    assert "token" in events[0]
    assert events[-1]["error"]["code"] == "TIMEOUT"
    assert events[-1]["request_id"] == answer.headers["x-request-id"]
    assert "done" not in events[-1]


def test_the_sdk_raises_errors_of_answers_and_of_streams(strict: Platform) -> None:
    fields: Any = {"model": MODEL, "messages": TALK, "max_tokens": 1900}
    more: Any = {"extra_body": {"ignore_eos": True}}
    with strict.openai() as client:
        client.post(f"{strict.url}/models/{MODEL}/load", cast_to=object)
        with pytest.raises(InternalServerError) as refused:
            client.chat.completions.create(**fields, **more)
        assert refused.value.status_code == 504
        assert refused.value.code == "timeout"
        with pytest.raises(APIError) as broken:
            list(client.chat.completions.create(stream=True, **fields, **more))
        assert broken.value.code == "timeout"


def test_who_finds_the_queue_full_is_told_when_to_come_back(tmp_path: Path) -> None:
    environment = {"INFERNO_MAX_QUEUE": "1", "INFERNO_PARALLEL": "1", "INFERNO_THREADS": "1"}
    with Platform(tmp_path / "data", environment=environment) as running, running.http() as http:
        http.post("/inference", json=ASK).raise_for_status()

        def ask(_: int) -> httpx.Response:
            return http.post("/inference", json=LONG | {"max_tokens": 300})

        with ThreadPoolExecutor(120) as pool:
            answers = list(pool.map(ask, range(120)))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "INFERENCE_FAILED"
