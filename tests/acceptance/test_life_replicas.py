"""Replicas that die, and model files that cannot be loaded: nobody else notices."""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.acceptance.clients import STREAM, connections, events_of
from tests.acceptance.platform import MODEL, Platform, wait_until
from tests.acceptance.random_models import quick_model, slow_model
from tests.acceptance.replicas import replica, wait_until_open

GENERATED = 150
"""Tokens of the stream that must not notice what happens to others."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with the bundled model and a slow one, both loaded."""
    data = tmp_path_factory.mktemp("replicas") / "data"
    (data / "models").mkdir(parents=True)
    (data / "models" / "slow.gguf").write_bytes(slow_model())
    with Platform(data, environment={"INFERNO_CONTEXT_SIZE": "4096"}) as platform:
        load(platform, MODEL).raise_for_status()
        load(platform, "slow").raise_for_status()
        yield platform


def load(platform: Platform, model: str, **options: Any) -> httpx.Response:
    with platform.http() as client:
        return client.post(f"/models/{model}/load", json=options)


def kill_replica(platform: Platform, model: str) -> None:
    os.kill(replica(platform, model).pid, signal.SIGKILL)


def wait_until_restarted(platform: Platform, model: str, restarts: int) -> None:
    wait_until(
        lambda: platform.models()[model].get("restarts") == restarts,
        30,
        f"{model} was not restarted",
        lambda: str(platform.models()[model]),
    )


def restarts_of(platform: Platform, model: str) -> int:
    wait_until(lambda: platform.models()[model]["loaded"], 30, f"{model} is not loaded")
    return int(platform.models()[model]["restarts"])


class Neighbour:
    """A stream of another model that goes on meanwhile."""

    def __init__(self, platform: Platform) -> None:
        body = {"model": MODEL, "prompt": "Hello", "max_tokens": GENERATED, **STREAM}
        self.events: list[Any] = []
        self._opened = connections(platform, "/inference", [body])

    def __enter__(self) -> Neighbour:
        (self.connection,) = self._opened.__enter__()
        self.connection.read_until(b"data: {")
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None:
                last = events_of(self.connection.read_all())[-1]
                assert last["usage"]["completion_tokens"] == GENERATED
        finally:
            self._opened.__exit__(*error)


@pytest.mark.parametrize(
    ("path", "code"),
    [("/inference/stream", "INFERENCE_FAILED"), ("/v1/completions", "inference_failed")],
)
def test_stream_of_a_killed_replica_ends_with_an_error_event(
    platform: Platform, path: str, code: str
) -> None:
    before = restarts_of(platform, "slow")
    body = {"model": "slow", "prompt": "Hello", "max_tokens": 4000, **STREAM}
    with Neighbour(platform), connections(platform, path, [body]) as (client,):
        client.read_until(b"data: {")
        kill_replica(platform, "slow")
        text = client.read_all()
        wait_until_restarted(platform, "slow", before + 1)
    error = events_of(text)[-1]["error"]
    assert error["code"] == code
    assert "failed" in error["message"]
    assert restarts_of(platform, MODEL) == 0


def test_sdk_raises_when_the_replica_of_its_stream_is_killed(platform: Platform) -> None:
    before = restarts_of(platform, "slow")
    with platform.openai() as client:
        stream = client.chat.completions.create(
            model="slow",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            max_tokens=4000,
            extra_body={"ignore_eos": True},
        )
        chunks = iter(stream)
        next(chunks)
        kill_replica(platform, "slow")
        with pytest.raises(openai.APIError, match="failed"):
            list(chunks)
    wait_until_restarted(platform, "slow", before + 1)


def test_requests_without_a_stream_survive_a_killed_replica(platform: Platform) -> None:
    """Those that the replica worked on and those that came while it was away are answered."""
    before = restarts_of(platform, "slow")
    answers: list[httpx.Response] = []

    def ask() -> None:
        body = {"model": "slow", "prompt": "Hi", "max_tokens": 200, "ignore_eos": True}
        with platform.http() as client:
            answers.append(client.post("/inference", json=body))

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    wait_until_open(platform, "slow", 3)
    kill_replica(platform, "slow")
    late = threading.Thread(target=ask)
    late.start()
    for thread in [*asking, late]:
        thread.join(60)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert {answer.json()["usage"]["completion_tokens"] for answer in answers} == {200}
    wait_until_restarted(platform, "slow", before + 1)


def unusable_files() -> dict[str, tuple[bytes, str, str]]:
    """File contents, and the reason and words with which loading them must be refused."""
    whole = quick_model()
    version = whole[:4] + struct.pack("<I", 99) + whole[8:]
    return {
        "not-a-gguf": (b"<!doctype html><title>404</title>" * 100, "NotGGUF", "not a GGUF"),
        "empty": (b"", "NotGGUF", "not a GGUF"),
        "wrong-version": (version, "UnsupportedVersion", "version 99"),
        "cut-header": (whole[:2000], "Corrupt", "damaged or incomplete"),
        "cut-weights": (whole[:-20000], "Corrupt", "damaged or incomplete"),
        "garbled": (whole[:64] + os.urandom(4000) + whole[4064:], "Corrupt", "damaged"),
    }


@pytest.mark.parametrize("name", list(unusable_files()))
def test_file_that_cannot_be_loaded(platform: Platform, name: str) -> None:
    content, reason, words = unusable_files()[name]
    file = platform.data_dir / "models" / f"{name}.gguf"
    file.write_bytes(content)
    wait_until(lambda: name in platform.models(), 10, "the file was not listed")
    assert_refused(platform, load(platform, name), name, reason, words)
    ask = {"model": name, "prompt": "Hello", "max_tokens": 2, "ignore_eos": True}
    with platform.http() as client:
        assert_refused(platform, client.post("/inference", json=ask), name, reason, words)
        openai_error = client.post("/v1/completions", json=ask)
    assert openai_error.status_code == 503
    assert openai_error.json()["error"]["code"] == "model_load_failed"
    listed = platform.models()[name]
    assert (listed["loaded"], listed["status"], listed["reason"]) == (False, "failed", reason)

    whole = file.with_suffix(".part")
    whole.write_bytes(quick_model())
    whole.replace(file)
    wait_until(lambda: load(platform, name).status_code == 200, 20, "the mended file was refused")
    with platform.http() as client:
        assert client.post("/inference", json=ask).status_code == 200
    file.unlink()
    wait_until(lambda: name not in platform.models(), 10, "the file was still listed")
    assert restarts_of(platform, MODEL) == 0


def assert_refused(
    platform: Platform, answer: httpx.Response, model: str, reason: str, words: str
) -> None:
    """It says what is wrong so that a person can act on it, and nothing of the server's folders."""
    assert answer.status_code == 503, answer.text
    error = answer.json()["error"]
    assert error["code"] == "MODEL_NOT_LOADED"
    assert error["details"]["reason"] == reason, answer.text
    assert words in error["message"], answer.text
    assert model in error["message"]
    assert str(platform.data_dir) not in answer.text
    assert "/tmp" not in answer.text


def test_file_that_vanishes_behind_a_link(platform: Platform, tmp_path: Path) -> None:
    """The listing has it still when the load finds nothing there."""
    target = tmp_path / "elsewhere.gguf"
    target.write_bytes(quick_model())
    (platform.data_dir / "models" / "linked.gguf").symlink_to(target)
    wait_until(lambda: "linked" in platform.models(), 10, "the link was not listed")
    target.unlink()
    answer = load(platform, "linked")
    assert answer.status_code in (404, 503), answer.text
    assert str(tmp_path) not in answer.text
    wait_until(lambda: "linked" not in platform.models(), 10, "the link was still listed")
