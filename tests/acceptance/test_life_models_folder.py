"""A models folder that changes while the platform serves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.clients import STREAM, connections, events_of
from tests.acceptance.platform import Platform, wait_until
from tests.acceptance.random_models import quick_model, slow_model
from tests.acceptance.replicas import replica, replicas

APPEARS = 10.0
"""Seconds in which a change in the folder must show; half a second on an idle machine."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform without any model."""
    data = tmp_path_factory.mktemp("folder") / "data"
    settings = {"INFERNO_BUNDLED_MODEL": "false", "INFERNO_CONTEXT_SIZE": "4096"}
    with Platform(data, environment=settings) as platform:
        yield platform


def put(platform: Platform, name: str, content: bytes) -> Path:
    """Put a whole file into the folder at once, as `mv` does."""
    folder = platform.data_dir / "models"
    partial = folder / f".{name}.part"
    partial.write_bytes(content)
    return partial.replace(folder / f"{name}.gguf")


def ask(platform: Platform, model: str, **more: object) -> httpx.Response:
    body = {"model": model, "prompt": "Hello", "max_tokens": 8, "temperature": 0, **more}
    with platform.http() as client:
        return client.post("/inference", json={"ignore_eos": True, **body})


def wait_until_listed(platform: Platform, model: str) -> None:
    wait_until(lambda: model in platform.models(), APPEARS, f"{model} did not appear")


def wait_until_gone(platform: Platform, model: str) -> None:
    wait_until(lambda: model not in platform.models(), APPEARS, f"{model} did not go")
    wait_until(lambda: not replicas(platform, model), 30, f"the replica of {model} did not go")


def test_file_dropped_in_answers_and_goes_when_it_is_removed(platform: Platform) -> None:
    assert ask(platform, "dropped").status_code == 404
    file = put(platform, "dropped", quick_model())
    wait_until_listed(platform, "dropped")
    assert not platform.models()["dropped"]["loaded"]
    assert ask(platform, "dropped").json()["usage"]["completion_tokens"] == 8
    assert platform.models()["dropped"]["loaded"]
    file.unlink()
    wait_until_gone(platform, "dropped")
    refused = ask(platform, "dropped")
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "MODEL_NOT_FOUND"
    assert "dropped" not in refused.json()["error"]["details"]["available_models"]


def test_stream_of_a_removed_model_is_not_harmed(platform: Platform) -> None:
    file = put(platform, "removed", slow_model())
    wait_until_listed(platform, "removed")
    body = {"model": "removed", "prompt": "Hello", "max_tokens": 400, **STREAM}
    with connections(platform, "/inference", [body]) as (client,):
        client.read_until(b"data: {")
        file.unlink()
        wait_until(lambda: "removed" not in platform.models(), APPEARS, "the model did not go")
        assert ask(platform, "removed").status_code == 404
        last = events_of(client.read_all())[-1]
    assert last["usage"]["completion_tokens"] == 400
    wait_until_gone(platform, "removed")


def fingerprint(platform: Platform, model: str) -> object:
    """Return something that two models of random weights do not share."""
    with platform.http() as client:
        answer = client.post("/embeddings", json={"model": model, "input": "Hello"})
    return answer.raise_for_status().json()["data"][0]["embedding"]


def test_replaced_file_is_another_model(platform: Platform) -> None:
    file = put(platform, "replaced", quick_model(seed=1))
    wait_until_listed(platform, "replaced")
    first = fingerprint(platform, "replaced")
    pod = replica(platform, "replaced").pod
    put(platform, "replaced", quick_model(seed=2))
    # Somebody answers all the time, and in the end it is the new model.
    wait_until(lambda: fingerprint(platform, "replaced") != first, 30, "the old model went on")
    wait_until(lambda: len(replicas(platform, "replaced")) == 1, 30, "the old replica stayed")
    assert replica(platform, "replaced").pod != pod
    file.unlink()
    wait_until_gone(platform, "replaced")


def test_file_that_is_copied_slowly_never_answers_with_garbage(platform: Platform) -> None:
    content = quick_model(seed=3)
    put(platform, "whole", content)
    wait_until_listed(platform, "whole")
    is_whole = threading.Event()

    def copy() -> None:
        with (platform.data_dir / "models" / "copied.gguf").open("wb") as file:
            for start in range(0, len(content), 4096):
                time.sleep(0.2)
                if start + 4096 >= len(content):
                    is_whole.set()
                file.write(content[start : start + 4096])
                file.flush()

    copying = threading.Thread(target=copy)
    copying.start()
    answers = []
    while not is_whole.is_set():
        answer = ask(platform, "copied")
        if not is_whole.is_set():
            answers.append(answer)
    copying.join()
    codes = {(a.status_code, a.json().get("error", {}).get("code")) for a in answers}
    assert codes <= {(404, "MODEL_NOT_FOUND"), (503, "MODEL_NOT_LOADED")}
    wait_until(lambda: ask(platform, "copied").status_code == 200, 30, "the copy never answered")
    assert fingerprint(platform, "copied") == fingerprint(platform, "whole")


def test_whole_folder_that_is_replaced(platform: Platform) -> None:
    put(platform, "earlier", quick_model())
    wait_until_listed(platform, "earlier")
    folder = platform.data_dir / "models"
    folder.rename(folder.with_name("models-before"))
    wait_until_gone(platform, "earlier")
    folder.mkdir()
    put(platform, "later", quick_model())
    wait_until_listed(platform, "later")
    assert ask(platform, "later").status_code == 200
