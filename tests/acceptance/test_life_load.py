"""Many clients at once, some of which leave or do not read, and more than there is room for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.clients import STREAM, connections, events_of
from tests.acceptance.platform import MODEL, Platform, wait_until
from tests.acceptance.random_models import quick_model, slow_model
from tests.acceptance.replicas import replica, wait_until_idle, wait_until_open

Start = Callable[..., Platform]

CAPITALS = ("France", "Italy", "Spain", "Japan")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with the bundled model and one that says a hundred thousand tokens."""
    data = tmp_path_factory.mktemp("load") / "data"
    (data / "models").mkdir(parents=True)
    (data / "models" / "quick.gguf").write_bytes(quick_model())
    with Platform(data) as platform, platform.http() as client:
        options = {"context_size": 100_096, "parallel": 4}
        client.post("/models/quick/load", json=options).raise_for_status()
        yield platform


def question(country: str, **more: Any) -> dict[str, Any]:
    content = f"What is the capital of {country}?"
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 40,
        "temperature": 0,
        **more,
    }


def test_clients_that_do_not_read_cost_no_memory(platform: Platform) -> None:
    """The platform holds next to nothing for them, and others are served meanwhile."""
    process = psutil.Process(platform.pid)
    body = {"model": "quick", "prompt": "Hello", "max_tokens": 100_000, **STREAM}
    with platform.http() as client:
        client.post("/v1/chat/completions", json=question("France")).raise_for_status()
        before = process.memory_info().rss
        paths = ["/inference", "/v1/completions"]
        with (
            connections(platform, paths[0], [body] * 2, receive_buffer=4096),
            connections(platform, paths[1], [body] * 2, receive_buffer=4096),
        ):
            wait_until_open(platform, "quick", 4)
            highest = 0
            for _ in range(10):
                answer = client.post("/v1/chat/completions", json=question("France"))
                assert "Paris" in answer.json()["choices"][0]["message"]["content"]
                highest = max(highest, process.memory_info().rss)
        assert highest - before < 20_000_000
    wait_until_idle(platform, "quick")


def test_client_that_reads_slowly_gets_everything(platform: Platform) -> None:
    body = {"model": "quick", "prompt": "Hello", "max_tokens": 3000, **STREAM}
    with connections(platform, "/inference", [body], receive_buffer=4096) as (client,):
        wait_until_open(platform, "quick", 1)
        one = replica(platform, "quick")  # the engine need not wait for the reader
        wait_until(lambda: one.processing() == 0, 60, "the engine did not finish")
        last = events_of(client.read_all())[-1]
    assert last["usage"]["completion_tokens"] == 3000
    assert last["finish_reason"] == "length"


async def test_two_hundred_streams_of_which_half_leave(platform: Platform) -> None:
    process = psutil.Process(platform.pid)
    async with platform.async_http() as client:
        expected = {}
        for country in CAPITALS:
            whole = await client.post("/v1/chat/completions", json=question(country))
            expected[country] = whole.json()["choices"][0]["message"]["content"]
    descriptors = process.num_fds()
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)

    async with platform.async_http(limits=limits) as client:

        async def stream(number: int) -> None:
            country = CAPITALS[number % len(CAPITALS)]
            body = question(country, stream=True)
            leaves_after = None if number % 2 else (number // 2) % 7
            async with client.stream(
                "POST", "/v1/chat/completions", json=body, timeout=300
            ) as answer:
                assert answer.status_code == 200
                text, events = "", 0
                async for line in answer.aiter_lines():
                    if leaves_after is not None and events >= leaves_after:
                        return
                    if not line.startswith("data: "):
                        continue
                    events += 1
                    if line == "data: [DONE]":
                        assert text == expected[country]
                        return
                    for choice in json.loads(line.removeprefix("data: "))["choices"]:
                        text += choice["delta"].get("content") or ""
            raise AssertionError("the stream ended before it was done")

        await asyncio.gather(*(stream(number) for number in range(200)))
    await asyncio.to_thread(wait_until_idle, platform, MODEL)
    assert replica(platform, MODEL).restarts == 0
    await asyncio.to_thread(
        wait_until,
        lambda: process.num_fds() <= descriptors + 20,
        30,
        "connections were left open",
        lambda: f"{descriptors} descriptors before, {process.num_fds()} now",
    )


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform where one is answered, one waits in the replica, and two wait in line."""
    data = tmp_path_factory.mktemp("narrow") / "data"
    (data / "models").mkdir(parents=True)
    (data / "models" / "slow.gguf").write_bytes(slow_model())
    settings = {
        "INFERNO_BUNDLED_MODEL": "false",
        "INFERNO_PARALLEL": "1",
        "INFERNO_CONTEXT_SIZE": "8192",
        "INFERNO_MAX_QUEUE": "2",
        "INFERNO_QUEUE_TIMEOUT": "4",
    }
    with Platform(data, environment=settings) as platform, platform.http() as client:
        client.post("/models/slow/load").raise_for_status()
        yield platform


@pytest.mark.parametrize(
    ("path", "code"), [("/inference", "INFERENCE_FAILED"), ("/v1/completions", "overloaded")]
)
def test_line_has_an_end(narrow: Platform, path: str, code: str) -> None:
    body = {"model": "slow", "prompt": "Hello", "max_tokens": 8000, **STREAM}
    with connections(narrow, "/inference", [body] * 2), narrow.http() as client:
        wait_until_open(narrow, "slow", 2)
        with connections(narrow, "/inference", [body] * 2) as waiting:
            refused = client.post(path, json=body)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == code
            assert "2 requests are waiting" in refused.json()["error"]["message"]
            assert int(refused.headers["Retry-After"]) > 0

            # Those in line are told when they have waited for too long.
            for one in waiting:
                answer = one.read_until(b"}")
                assert answer.startswith(b"HTTP/1.1 503")
                assert b"was free within 4 seconds" in answer
                assert b"retry-after" in answer.lower()
    wait_until_idle(narrow, "slow")


def test_requests_that_take_too_long_are_ended(start: Start) -> None:
    platform = start(environment={"INFERNO_REQUEST_TIMEOUT": "2"})
    wait_until(lambda: platform.models()[MODEL]["loaded"], 30, "the model was not loaded")
    body = {"model": MODEL, "prompt": "Hello", "max_tokens": 1900, "ignore_eos": True, "n": 16}
    with platform.http() as client:
        answer = client.post("/v1/completions", json=body)
        assert answer.status_code == 504, answer.text[:300]
        assert answer.json()["error"]["code"] == "timeout"
        with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as stream:
            events = events_of(stream.read().decode())
    assert events[-1]["error"]["code"] == "timeout"
    wait_until_idle(platform, MODEL)
