"""Which models are in memory: loaded on demand or by hand, evicted, idle, unloaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.clients import STREAM, connections, events_of
from tests.acceptance.platform import Platform, wait_until
from tests.acceptance.random_models import quick_model, slow_model
from tests.acceptance.replicas import replica, replicas, wait_until_idle, wait_until_open

Start = Callable[..., Platform]
SMALL = {"INFERNO_BUNDLED_MODEL": "false", "INFERNO_CONTEXT_SIZE": "4096"}


@pytest.fixture
def serve(start: Start, tmp_path: Path) -> Callable[..., Platform]:
    """Start a platform with some models and settings."""

    def serve_models(
        models: Sequence[str], *arguments: str, environment: dict[str, str] | None = None
    ) -> Platform:
        folder = tmp_path / "data" / "models"
        folder.mkdir(parents=True)
        for name in models:
            content = slow_model() if name.startswith("slow") else quick_model()
            (folder / f"{name}.gguf").write_bytes(content)
        return start(*arguments, environment={**SMALL, **(environment or {})})

    return serve_models


def ask(platform: Platform, model: str, tokens: int = 3) -> httpx.Response:
    body = {"model": model, "prompt": "Hello", "max_tokens": tokens, "ignore_eos": True}
    with platform.http() as client:
        return client.post("/inference", json=body)


def call(platform: Platform, model: str, action: str, **options: Any) -> httpx.Response:
    with platform.http() as client:
        return client.post(f"/models/{model}/{action}", json=options)


def loaded(platform: Platform) -> set[str]:
    return {name for name, model in platform.models().items() if model["loaded"]}


def starts(platform: Platform, model: str) -> int:
    """Return how many replica processes of a model were ever started."""
    lines = [line for line in platform.log_text().splitlines() if line.startswith("{")]
    events = [json.loads(line) for line in lines]
    return sum(e["event"] == "replica_starting" and e["service"] == model for e in events)


def test_requests_for_an_unloaded_model_wait_for_one_load(serve: Callable[..., Platform]) -> None:
    platform = serve(["slow"])
    assert not platform.models()["slow"]["loaded"]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: ask(platform, "slow"), range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    assert starts(platform, "slow") == 1

    # What loading measured is plausible.
    model = call(platform, "slow", "load").json()
    resident = psutil.Process(replica(platform, "slow").pid).memory_info().rss
    assert model["load_time_ms"] > 0
    assert 0.5 * resident < model["memory_usage_bytes"] < 1.5 * resident
    assert platform.models()["slow"]["memory_usage_bytes"] == model["memory_usage_bytes"]
    assert starts(platform, "slow") == 1  # it was loaded already

    assert call(platform, "slow", "unload").json() == {"status": "unloaded", "model_id": "slow"}
    assert platform.replicas() == []
    assert loaded(platform) == set()
    assert ask(platform, "slow").status_code == 200
    assert starts(platform, "slow") == 2


def test_clients_that_leave_while_their_model_loads(serve: Callable[..., Platform]) -> None:
    platform = serve(["slow"])
    body = {"model": "slow", "prompt": "Hello", "max_tokens": 4000, "ignore_eos": True}
    for stream in (True, False):
        with connections(platform, "/inference", [{**body, "stream": stream}] * 5):
            wait_until(lambda: replicas(platform, "slow"), 10, "nothing was loaded")
        wait_until(lambda: loaded(platform) == {"slow"}, 30, "the load was not finished")
        wait_until_idle(platform, "slow")
        assert ask(platform, "slow").status_code == 200
        assert call(platform, "slow", "unload").status_code == 200


def test_loading_on_demand_can_be_switched_off(serve: Callable[..., Platform]) -> None:
    platform = serve(["quick", "slow"], environment={"INFERNO_LOAD_ON_DEMAND": "false"})
    refused = ask(platform, "quick")
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "MODEL_NOT_LOADED"
    assert "POST /models/quick/load" in refused.json()["error"]["message"]
    assert platform.replicas() == []
    assert call(platform, "quick", "load").status_code == 200
    assert ask(platform, "quick").status_code == 200

    # Who waits in line for a model that is unloaded is told so at once.
    assert call(platform, "slow", "load").status_code == 200
    long = {"model": "slow", "prompt": "Hello", "max_tokens": 4000, **STREAM}
    with ThreadPoolExecutor(1) as pool, connections(platform, "/inference", [long] * 8) as given:
        wait_until_open(platform, "slow", 8)
        with connections(platform, "/inference", [long] * 3) as waiting:
            unloading = pool.submit(call, platform, "slow", "unload")
            for client in waiting:
                assert b"MODEL_NOT_LOADED" in client.read_until(b"}")
            assert not unloading.done()
        for client in given:
            client.leave()
        assert unloading.result(60).status_code == 200


def test_ceiling_on_models_evicts_the_least_recently_used(
    serve: Callable[..., Platform], tmp_path: Path
) -> None:
    config = tmp_path / "inferno.toml"
    config.write_text('[models."pinned"]\npinned = true\n')
    names = ["one", "pinned", "slow", "two"]
    platform = serve(names, "--config", str(config), environment={"INFERNO_MAX_LOADED_MODELS": "2"})
    wait_until(lambda: loaded(platform) == {"pinned"}, 30, "the pinned model was not loaded")
    for name in ("one", "two", "one"):
        assert ask(platform, name).status_code == 200
        assert loaded(platform) == {"pinned", name}

    assert ask(platform, "slow").status_code == 200
    busy = {"model": "slow", "prompt": "Hello", "max_tokens": 3000, **STREAM}
    with connections(platform, "/inference", [busy]) as (client,):
        client.read_until(b"data: {")
        refused = ask(platform, "one")
        assert refused.status_code == 503
        assert "no room" in refused.json()["error"]["message"]
        assert int(refused.headers["Retry-After"]) > 0
        assert call(platform, "two", "load").status_code == 503
        assert loaded(platform) == {"pinned", "slow"}
    wait_until(lambda: ask(platform, "one").status_code == 200, 20, "there is still no room")
    assert loaded(platform) == {"pinned", "one"}

    with ThreadPoolExecutor(3) as pool:  # many at once do not break through the ceiling
        answers = pool.map(lambda name: ask(platform, name), ["one", "two", "slow"])
        assert {answer.status_code for answer in answers} <= {200, 503}
    assert len(loaded(platform)) <= 2
    assert len(platform.replicas()) <= 2


def test_ceiling_on_memory(serve: Callable[..., Platform]) -> None:
    platform = serve(["one", "two"], environment={"INFERNO_MAX_MODEL_MEMORY_BYTES": "30000000"})
    for name in ("one", "two", "one"):
        assert ask(platform, name).status_code == 200
        assert loaded(platform) == {name}


def test_idle_models_are_unloaded(serve: Callable[..., Platform]) -> None:
    platform = serve(["quick", "slow"], environment={"INFERNO_IDLE_UNLOAD_AFTER": "2"})
    assert ask(platform, "quick").status_code == 200
    busy = {"model": "slow", "prompt": "Hello", "max_tokens": 1000, **STREAM}
    with connections(platform, "/inference", [busy]) as (client,):
        client.read_until(b"data: {")
        wait_until(lambda: loaded(platform) == {"slow"}, 30, "the idle model stayed")
        last = events_of(client.read_all())[-1]  # longer than idle models may stay
    assert last["usage"]["completion_tokens"] == 1000
    wait_until(lambda: platform.replicas() == [], 30, "the idle model stayed")
    for _ in range(2):  # a model that is loaded after it was idle for long has its time again
        assert call(platform, "quick", "load").status_code == 200
        assert loaded(platform) == {"quick"}
        wait_until(lambda: platform.replicas() == [], 30, "the idle model stayed")


def test_options_of_a_load_are_taken_over_without_a_gap(serve: Callable[..., Platform]) -> None:
    platform = serve(["slow"])
    assert call(platform, "slow", "load").json()["context_size"] == 4096
    before = replica(platform, "slow").pod
    running = {"model": "slow", "prompt": "Hello", "max_tokens": 500, **STREAM}
    with connections(platform, "/inference", [running]) as (client,):
        client.read_until(b"data: {")
        changed = call(platform, "slow", "load", context_size=1024, parallel=2).json()
        assert changed["context_size"] == 1024
        assert ask(platform, "slow").status_code == 200
        assert events_of(client.read_all())[-1]["usage"]["completion_tokens"] == 500
    wait_until(lambda: len(replicas(platform, "slow")) == 1, 30, "the old replica stayed")
    assert replica(platform, "slow").pod != before
    assert platform.models()["slow"]["context_size"] == 1024
    assert len(replica(platform, "slow").get("/slots").json()) == 2

    for options in ({"context_size": 0}, {"contextsize": 1}, {"parallel": "many"}):
        refused = call(platform, "slow", "load", **options)
        assert refused.status_code == 400
        assert next(iter(options)) in refused.json()["error"]["message"]
    unknown = call(platform, "slower", "load")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["details"]["available_models"] == ["slow"]


def test_unloading_lets_running_requests_finish(serve: Callable[..., Platform]) -> None:
    platform = serve(["slow"])
    running = {"model": "slow", "prompt": "Hello", "max_tokens": 500, **STREAM}
    with connections(platform, "/inference", [running] * 3) as clients:
        for client in clients:
            client.read_until(b"data: {")
        assert call(platform, "slow", "unload").status_code == 200
        for client in clients:
            assert events_of(client.read_all())[-1]["usage"]["completion_tokens"] == 500
    assert platform.replicas() == []


def test_load_that_is_undone_meanwhile_is_told_so(serve: Callable[..., Platform]) -> None:
    platform = serve(["slow"])
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(call, platform, "slow", "load")
        wait_until(lambda: replicas(platform, "slow"), 10, "nothing was loaded")
        assert call(platform, "slow", "unload").status_code == 200
        answer = loading.result(60)
    assert answer.status_code in (200, 503), answer.text
    wait_until(lambda: platform.replicas() == [], 30, "a replica stayed")


def test_names_of_no_model_are_not_remembered(serve: Callable[..., Platform]) -> None:
    platform = serve([])
    process = psutil.Process(platform.pid)
    with platform.http() as client:

        def guess(count: int) -> None:
            for number in range(count):
                body = {"model": f"{'x' * 200}{number}", "prompt": "Hello"}
                assert client.post("/inference", json=body).status_code == 404

        guess(300)
        before = process.memory_info().rss
        guess(1500)
    assert process.memory_info().rss - before < 2_000_000


def test_contexts_that_no_memory_holds_are_refused_at_once(serve: Callable[..., Platform]) -> None:
    platform = serve(["one"])
    with platform.http() as client:
        answer = client.post("/models/one/load", json={"context_size": 131072, "parallel": 1024})
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert (error["code"], error["details"]["reason"]) == ("MODEL_NOT_LOADED", "OutOfMemory")
    assert "context_size" in error["message"]
    assert ask(platform, "one").status_code == 200
