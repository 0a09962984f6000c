"""The platform's end: asked for, insisted on, or sudden."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.clients import STREAM, connections, events_of
from tests.acceptance.platform import MODEL, Platform, is_alive, wait_until
from tests.acceptance.random_models import slow_model
from tests.acceptance.replicas import wait_until_open

Start = Callable[..., Platform]

TOKENS = 300


@pytest.fixture
def start_slow(start: Start, tmp_path: Path) -> Callable[..., Platform]:
    """Start a platform with the bundled model and a slow one, both loaded."""

    def start_one(grace: float) -> Platform:
        (tmp_path / "data" / "models").mkdir(parents=True)
        (tmp_path / "data" / "models" / "slow.gguf").write_bytes(slow_model())
        settings = {"INFERNO_GRACE_PERIOD": str(grace), "INFERNO_CONTEXT_SIZE": "8192"}
        platform = start(environment=settings)
        for model in (MODEL, "slow"):
            load(platform, model)
        return platform

    return start_one


def load(platform: Platform, model: str) -> None:
    with platform.http() as client:
        client.post(f"/models/{model}/load").raise_for_status()


def body(model: str, tokens: int, **more: Any) -> dict[str, Any]:
    return {"model": model, "prompt": "Hello", "max_tokens": tokens, **STREAM, **more}


def is_refused(url: str) -> bool:
    try:
        httpx.get(f"{url}/health", timeout=5)
    except httpx.TransportError:
        return True
    return False


@contextlib.contextmanager
def gone_afterwards(platform: Platform) -> Iterator[None]:
    """Check that no replica outlives the block."""
    processes = platform.replicas()
    assert len(processes) == 2
    yield
    assert [one for one in processes if is_alive(one)] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_requests_finish(start_slow: Callable[..., Platform], number: int) -> None:
    platform = start_slow(grace=60)
    inference_url, management_url = platform.url, platform.management_url
    answers: list[httpx.Response] = []

    def ask() -> None:
        with platform.http() as client:
            answers.append(client.post("/inference", json=body(MODEL, TOKENS, stream=False)))

    bodies = [body("slow", TOKENS), body(MODEL, TOKENS)] * 2
    with gone_afterwards(platform), connections(platform, "/inference", bodies) as clients:
        for client in clients:
            client.read_until(b"data: {")
        whole = threading.Thread(target=ask)
        whole.start()
        time.sleep(0.5)  # for the request to arrive
        assert platform.process is not None
        platform.process.send_signal(number)
        for url in (inference_url, management_url):
            wait_until(lambda url=url: is_refused(url), 10, "new connections are accepted")  # type: ignore[misc]
        assert not (platform.data_dir / "run.json").exists()
        for client in clients:
            last = events_of(client.read_all())[-1]
            assert last["usage"]["completion_tokens"] == TOKENS
        whole.join(60)
        assert answers[0].json()["usage"]["completion_tokens"] == TOKENS
        assert platform.process.wait(60) == 0
    assert "unexpected" not in platform.log_text()
    assert "Traceback" not in platform.log_text()


def test_grace_period_ends_what_does_not(start_slow: Callable[..., Platform]) -> None:
    platform = start_slow(grace=1)
    long = body("slow", 8000)
    with gone_afterwards(platform), connections(platform, "/inference", [long] * 10) as clients:
        clients[0].read_until(b"data: {")
        wait_until_open(platform, "slow", 8)
        assert platform.stop(timeout=30) == 0
        for client in clients:
            while part := client.socket.recv(1 << 20):
                client.received += part
    answers = [client.received for client in clients]
    assert not any(b'"done":true' in answer for answer in answers)
    refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503")]
    assert len(refused) >= 2  # those that waited in line for a slot
    assert all(b"shutting down" in answer for answer in refused)
    assert "Traceback" not in platform.log_text()


def test_second_signal_does_not_hurt(start_slow: Callable[..., Platform]) -> None:
    platform = start_slow(grace=60)
    with (
        gone_afterwards(platform),
        connections(platform, "/inference", [body("slow", TOKENS)]) as (client,),
    ):
        client.read_until(b"data: {")
        assert platform.process is not None
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            platform.process.send_signal(number)
            time.sleep(0.2)
        assert platform.process.wait(60) == 0


def test_signal_right_after_the_start(tmp_path: Path) -> None:
    with Platform(tmp_path / "data") as platform:
        processes = platform.replicas()  # the bundled model is still being loaded
        assert platform.stop() == 0
    assert [one for one in processes if is_alive(one)] == []


def test_killed_platform_takes_its_replicas_along(start_slow: Callable[..., Platform]) -> None:
    platform = start_slow(grace=60)
    before = platform.replicas()
    assert len(before) == 2
    with connections(platform, "/inference", [body("slow", 8000)]) as (client,):
        client.read_until(b"data: {")
        platform.kill()
        wait_until(lambda: not any(map(is_alive, before)), 5, "a replica outlived the platform")

    (platform.data_dir / "run.json").unlink()
    platform.start()
    assert set(platform.models()) == {MODEL, "slow"}
    for model in (MODEL, "slow"):  # both were loaded, and are again
        wait_until(lambda m=model: platform.models()[m]["loaded"], 30, f"{model} is not loaded")  # type: ignore[misc]
        with platform.http() as http:
            answer = http.post("/inference", json=body(model, 5, stream=False))
        assert answer.json()["usage"]["completion_tokens"] == 5
    assert len(platform.replicas()) == 2
    assert platform.stop() == 0


def test_frozen_replica_of_an_earlier_run_is_not_left(start_slow: Callable[..., Platform]) -> None:
    """One that is stopped, as a debugger does, dies with the platform all the same."""
    platform = start_slow(grace=60)
    processes = platform.replicas()
    os.kill(processes[0].pid, signal.SIGSTOP)
    platform.kill()
    wait_until(lambda: not any(map(is_alive, processes)), 5, "a replica outlived the platform")
