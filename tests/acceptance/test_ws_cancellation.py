"""On a WebSocket too, whoever no longer wants an answer stops the work in the replica."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.acceptance.platform import MODEL, Platform
from tests.acceptance.random_models import slow_model
from tests.acceptance.replicas import replica, wait_until_idle, wait_until_open
from tests.acceptance.sockets import Socket, connected, many, text_of

SLOTS = 2
CAPACITY = 2 * SLOTS
LONG = {"model": "slow", "prompt": "Hello", "max_tokens": 7000, "ignore_eos": True}
SHORT = {**LONG, "max_tokens": 3}


def slow_platform(data: Path, **settings: str) -> Platform:
    (data / "models").mkdir(parents=True)
    (data / "models" / "slow.gguf").write_bytes(slow_model())
    return Platform(
        data,
        environment={"INFERNO_PARALLEL": str(SLOTS), "INFERNO_CONTEXT_SIZE": "8192"} | settings,
    )


def load(platform: Platform, model: str = "slow") -> None:
    with platform.http() as client:
        client.post(f"/models/{model}/load").raise_for_status()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a slow model of two slots, loaded."""
    with slow_platform(tmp_path_factory.mktemp("ws") / "data") as platform:
        load(platform)
        yield platform


@pytest.fixture
async def socket(slow: Platform) -> AsyncIterator[Socket]:
    """A connection; when it is closed, the replica has nothing to do."""
    async with connected(slow.url, slow.api_key) as socket:
        yield socket
    await idle(slow)
    assert replica(slow, "slow").restarts == 0


async def idle(platform: Platform, model: str = "slow") -> None:
    await asyncio.to_thread(wait_until_idle, platform, model)


async def open_requests(platform: Platform, requests: int) -> None:
    await asyncio.to_thread(wait_until_open, platform, "slow", requests)


async def test_cancelled_stream(slow: Platform, socket: Socket) -> None:
    await socket.send(type="inference", id="a", **LONG)
    first = [await socket.receive() for _ in range(3)]
    await socket.send(type="cancel", id="a")
    received = first + (await socket.until("a"))["a"]
    text_of(received)
    last = received[-1]
    assert (last["type"], last["finish_reason"]) == ("complete", "cancelled")
    assert len(received) - 1 <= last["usage"]["completion_tokens"] < 7000
    assert last["usage"]["prompt_tokens"] > 0
    await idle(slow)
    assert (await socket.answer("a", **SHORT))[-1]["finish_reason"] == "length"


async def test_cancelled_without_streaming(slow: Platform, socket: Socket) -> None:
    await socket.send(type="inference", id="a", stream=False, **LONG)
    await open_requests(slow, 1)
    await socket.send(type="cancel", id="a")
    assert (await socket.receive())["finish_reason"] == "cancelled"
    await idle(slow)


async def test_cancelled_at_once(slow: Platform, socket: Socket) -> None:
    """Also where the work has not begun: each inference has one last message, and only one."""
    for number in range(50):
        await socket.send(type="inference", id=f"{number}", **LONG)
        await socket.send(type="cancel", id=f"{number}")
    for number in range(50):
        received = (await socket.until(f"{number}"))[f"{number}"]
        assert received[-1]["finish_reason"] == "cancelled"
    await socket.send(type="ping")
    assert (await socket.receive())["type"] == "pong"
    await idle(slow)


async def test_cancelled_in_line(slow: Platform, socket: Socket) -> None:
    """Two are generated for, two wait in the replica, two wait in the platform."""
    for number in range(CAPACITY + 2):
        await socket.send(type="inference", id=f"{number}", stream=False, **LONG)
    await open_requests(slow, CAPACITY)
    for number in reversed(range(CAPACITY + 2)):
        await socket.send(type="cancel", id=f"{number}")
        assert (await socket.receive())["id"] == f"{number}"
    await idle(slow)


async def test_cancelling_what_does_not_run(socket: Socket) -> None:
    await socket.answer("a", **SHORT)
    for name in ("a", "b"):
        await socket.send(type="cancel", id=name)
        error = await socket.receive()
        assert (error["code"], error["id"]) == ("INVALID_REQUEST", name)


async def test_cancelling_one_of_several(slow: Platform, socket: Socket) -> None:
    await socket.send(type="inference", id="stays", **{**LONG, "max_tokens": 300})
    await socket.send(type="inference", id="goes", **LONG)
    while (await socket.receive())["id"] != "goes":
        pass
    await socket.send(type="cancel", id="goes")
    found = await socket.until("stays", "goes")
    assert found["goes"][-1]["finish_reason"] == "cancelled"
    assert found["stays"][-1]["usage"]["completion_tokens"] == 300


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("politely", [True, False], ids=["closed", "cut"])
async def test_client_that_leaves(slow: Platform, stream: bool, politely: bool) -> None:
    async with connected(slow.url, slow.api_key, close_timeout=1) as socket:
        for number in range(CAPACITY + 2):
            await socket.send(type="inference", id=f"{number}", stream=stream, **LONG)
        await open_requests(slow, CAPACITY)
        if not politely:
            socket.connection.transport.abort()
    await idle(slow)


async def test_many_clients_of_which_half_cancel(slow: Platform) -> None:
    """Fifty clients, four inferences each; a user beside them is served meanwhile."""
    fields = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 8, "ignore_eos": True}
    load(slow, MODEL)
    crowd = asyncio.ensure_future(many(slow.url, slow.api_key, clients=50, inferences=4, **fields))
    slowest = 0.0
    async with slow.async_http() as client:
        while not crowd.done():
            begun = time.monotonic()
            (await client.get("/health")).raise_for_status()
            slowest = max(slowest, time.monotonic() - begun)
            await asyncio.sleep(0.05)
    outcome = await crowd
    assert outcome.completed >= 100  # a cancel may come too late
    assert outcome.completed + outcome.cancelled == 200
    assert slowest < 2
    await idle(slow, MODEL)
    assert replica(slow, MODEL).restarts == 0
    assert "unexpected_error" not in slow.log_text()


async def test_killed_replica(tmp_path: Path) -> None:
    """Its inferences end with an error each, and the connection lives on."""
    with slow_platform(tmp_path / "data") as platform:
        load(platform)
        async with connected(platform.url, platform.api_key) as socket:
            await socket.send(type="inference", id="a", **LONG)
            await socket.send(type="inference", id="b", **LONG)
            heard = set[str]()
            while len(heard) < 2:
                heard.add((await socket.receive())["id"])
            os.kill(replica(platform, "slow").pid, signal.SIGKILL)
            found = await socket.until("a", "b")
            for name in ("a", "b"):
                assert found[name][-1]["code"] == "INFERENCE_FAILED"
            assert (await socket.answer("a", **SHORT))[-1]["finish_reason"] == "length"


class TestShutdown:
    async def test_running_inferences_finish(self, tmp_path: Path) -> None:
        with slow_platform(tmp_path / "data", INFERNO_GRACE_PERIOD="60") as platform:
            load(platform)
            url, key = platform.url, platform.api_key
            async with connected(url, key) as socket, connected(url, key) as bored:
                await socket.send(type="inference", id="a", **{**LONG, "max_tokens": 300})
                first = await socket.receive()
                assert platform.process is not None
                platform.process.send_signal(signal.SIGTERM)
                assert (await bored.closed())[0] == 1001
                await socket.send(type="inference", id="late", **SHORT)
                found = await socket.until("a", "late")
                assert "shutting down" in found["late"][0]["message"]
                assert found["late"][0]["retry_after"] > 0
                assert text_of([first, *found["a"]])
                assert found["a"][-1]["usage"]["completion_tokens"] == 300
                assert (await socket.closed())[0] == 1001
            assert await asyncio.to_thread(platform.stop) == 0
            assert "Traceback" not in platform.log_text()

    async def test_grace_period_ends_what_does_not(self, tmp_path: Path) -> None:
        with slow_platform(tmp_path / "data", INFERNO_GRACE_PERIOD="1") as platform:
            load(platform)
            async with connected(platform.url, platform.api_key) as socket:
                await socket.send(type="inference", id="a", **LONG)
                await socket.receive()
                assert platform.process is not None
                platform.process.send_signal(signal.SIGTERM)
                last = (await socket.until("a"))["a"][-1]
                assert "shutting down" in last["message"]
                assert (await socket.closed())[0] == 1001
            assert await asyncio.to_thread(platform.stop) == 0
            assert "Traceback" not in platform.log_text()
