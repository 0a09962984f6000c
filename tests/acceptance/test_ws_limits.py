"""What a WebSocket may take: time, places, requests, and memory where its client does not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket as sockets
import time
from collections.abc import Iterator

import psutil
import pytest
import websockets

from tests.acceptance.access import as_caller, audit, login, make_caller, make_key, make_user
from tests.acceptance.platform import MODEL, Platform, wait_until
from tests.acceptance.random_models import quick_model
from tests.acceptance.replicas import wait_until_idle
from tests.acceptance.sockets import connected
from tests.acceptance.test_ws_messages import raw

SHORT = {"model": MODEL, "prompt": "Hello", "max_tokens": 3, "ignore_eos": True}
LONG = {"model": "quick", "prompt": "Hello", "max_tokens": 100_000, "ignore_eos": True}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that waits for nobody, with a model that says a hundred thousand tokens."""
    data = tmp_path_factory.mktemp("strict") / "data"
    (data / "models").mkdir(parents=True)
    (data / "models" / "quick.gguf").write_bytes(quick_model())
    settings = {
        "INFERNO_AUTH_TIMEOUT": "1",
        "INFERNO_MAX_STREAMS_PER_CONNECTION": "2",
        "INFERNO_WEBSOCKET_IDLE_TIMEOUT": "2",
        "INFERNO_WEBSOCKET_PING_INTERVAL": "0.5",
        "INFERNO_WEBSOCKET_SEND_TIMEOUT": "2",
    }
    with Platform(data, environment=settings) as platform, platform.http() as client:
        options = {"context_size": 100_096, "parallel": 4}
        client.post("/models/quick/load", json=options).raise_for_status()
        yield platform


async def test_nobody_says_who_it_is(strict: Platform) -> None:
    begun = time.monotonic()
    async with connected(strict.url) as socket:
        await socket.send(type="auth", token="wrong")
        await socket.send(type="inference", id="a", **SHORT)
        assert (await socket.receive())["code"] == "AUTHENTICATION_FAILED"
        assert (await socket.receive())["id"] == "a"
        error = await socket.receive()
        assert error["code"] == "AUTHENTICATION_FAILED"
        assert "within 1 seconds" in error["message"]
        assert (await socket.closed())[0] == 4401
    assert 1 <= time.monotonic() - begun < 5


async def test_nobody_asks_for_anything(strict: Platform) -> None:
    """What runs is no idleness, however long it takes; then the time begins anew."""
    async with connected(strict.url, strict.api_key) as socket:
        await socket.send(type="inference", id="a", **LONG)
        begun = time.monotonic()
        while time.monotonic() - begun < 3:
            assert (await socket.receive())["type"] == "token"
        await socket.send(type="cancel", id="a")
        await socket.until("a")
        begun = time.monotonic()
        assert (await socket.closed())[0] == 1000
        assert time.monotonic() - begun > 1.5


async def test_too_many_at_once(strict: Platform) -> None:
    async with connected(strict.url, strict.api_key) as socket:
        for name in ("a", "b", "c"):
            await socket.send(type="inference", id=name, **{**LONG, "max_tokens": 2000})
        found = await socket.until("a", "b", "c")
        assert found["c"][0]["code"] == "RATE_LIMIT_EXCEEDED"
        assert found["c"][0]["details"] == {"limit": "max_streams_per_connection", "maximum": 2}
        assert found["c"][0]["retry_after"] == 1
        assert {found[name][-1]["type"] for name in ("a", "b")} == {"complete"}
        assert (await socket.answer("c", **SHORT))[-1]["type"] == "complete"


def test_client_that_answers_no_pings(strict: Platform) -> None:
    """It is there, and reads, and is taken for dead all the same."""
    begun = time.monotonic()
    with raw(strict.url, f"Authorization: Bearer {strict.api_key}") as connection:
        received = b""
        while part := connection.recv(65536):
            received += part
    assert b"\x89" in received
    assert time.monotonic() - begun < 15


def test_client_that_never_closes(strict: Platform) -> None:
    """It is told that it is idle, takes no part in the closing, and is cut off."""
    answer = bytes([0x8A, 0x80, 0, 0, 0, 0])
    begun = time.monotonic()
    with raw(strict.url) as connection:
        while connection.recv(65536):
            connection.sendall(answer)
    assert time.monotonic() - begun < 15


async def test_clients_that_do_not_read(strict: Platform) -> None:
    """They cost no memory, others are served, and they are cut off in the end."""
    process = psutil.Process(strict.pid)
    async with connected(strict.url, strict.api_key) as other:
        await other.answer("a", **SHORT)
        before, descriptors = process.memory_info().rss, process.num_fds()
        stuck = [await asyncio.to_thread(stuck_client, strict) for _ in range(4)]
        highest = 0
        for _ in range(20):
            assert (await other.answer("a", **SHORT))[-1]["type"] == "complete"
            highest = max(highest, process.memory_info().rss)
            await asyncio.sleep(0.1)
        assert highest - before < 20_000_000
        await asyncio.to_thread(
            wait_until, lambda: process.num_fds() <= descriptors, 60, "they were not cut off"
        )
    for connection in stuck:
        connection.close()
    await asyncio.to_thread(wait_until_idle, strict, "quick")
    assert "Traceback" not in strict.log_text()


def stuck_client(platform: Platform) -> sockets.socket:
    """Return a connection on which two long answers come, and that nobody reads."""
    authorization = f"Authorization: Bearer {platform.api_key}"
    connection = raw(platform.url, authorization, receive_buffer=4096)
    for name in ("a", "b"):
        content = json.dumps({"type": "inference", "id": name, **LONG}).encode()
        head = bytes([0x81, 0xFE, 0, 200, 0, 0, 0, 0])
        connection.sendall(head + content.ljust(200))
    return connection


class TestCallers:
    async def test_requests_per_minute(self, platform: Platform) -> None:
        key = make_caller(platform, "ws-rpm", limits={"requests_per_minute": 3})
        async with connected(platform.url, key.secret) as socket:
            for _ in range(2):
                assert (await socket.answer("a", **SHORT))[-1]["type"] == "complete"
            with as_caller(platform, key.secret) as client:
                assert client.post("/inference", json=SHORT).status_code == 200
            error = (await socket.answer("a", **SHORT))[0]
            assert error["code"] == "RATE_LIMIT_EXCEEDED"
            assert 0 < error["retry_after"] <= 60
            assert error["details"]["limit"] == "requests_per_minute"
            await socket.send(type="ping")
            assert (await socket.receive())["type"] == "pong"
        wait_until(
            lambda: any(e["actor"] == "ws-rpm" for e in audit(platform, action="limit")),
            5,
            "the refusal was not recorded",
        )

    async def test_concurrent_requests(self, strict: Platform) -> None:
        key = make_caller(strict, "ws-busy", limits={"concurrent_requests": 1})
        async with connected(strict.url, key.secret) as socket:
            fields = {**LONG, "max_tokens": 3000}
            await socket.send(type="inference", id="a", **fields)
            await socket.send(type="inference", id="b", **fields)
            found = await socket.until("a", "b")
            assert found["b"][0]["details"]["limit"] == "concurrent_requests"
            await socket.send(type="inference", id="a", **LONG | {"max_tokens": 5000})
            await socket.send(type="cancel", id="a")
            await socket.until("a")
            assert (await socket.answer("c", **SHORT))[-1]["type"] == "complete"

    async def test_tokens_are_settled(self, platform: Platform) -> None:
        """What an answer took counts, and what was reserved beyond it does not."""
        key = make_caller(platform, "ws-tpm", limits={"tokens_per_minute": 600})
        async with connected(platform.url, key.secret) as socket:
            for _ in range(5):
                fields = {**SHORT, "max_tokens": 100, "stop": ["\n"], "ignore_eos": False}
                assert (await socket.answer("a", **fields))[-1]["type"] == "complete"
            spent = (await socket.answer("a", **{**SHORT, "max_tokens": 400}))[-1]
            assert spent["type"] == "complete"
            error = (await socket.answer("a", **{**SHORT, "max_tokens": 500}))[-1]
            assert error["details"]["limit"] == "tokens_per_minute"

    async def test_permissions(self, platform: Platform) -> None:
        make_user(platform, "ws-narrow")
        reads = make_key(platform, "ws-narrow", permissions=["read_models"])
        whole = make_key(platform, "ws-narrow", permissions=["run_inference"])
        async with connected(platform.url, reads.secret) as socket:
            error = (await socket.answer("a", **SHORT))[0]
            assert error["code"] == "AUTHORIZATION_FAILED"
            assert error["details"] == {"permission": "run_inference"}
        async with connected(platform.url, whole.secret) as socket:
            error = (await socket.answer("a", **SHORT))[0]
            assert error["details"] == {"permission": "use_streaming"}
            answer = await socket.answer("a", stream=False, **SHORT)
            assert answer[0]["type"] == "complete"
        wait_until(
            lambda: len(audit(platform, action="permission")) >= 2, 5, "nothing was recorded"
        )

    async def test_revoked_key(self, platform: Platform) -> None:
        """Later inferences are refused; another key may be shown on the same connection."""
        make_user(platform, "ws-revoked")
        keys = [make_key(platform, "ws-revoked") for _ in range(2)]
        async with connected(platform.url, keys[0].secret) as socket:
            assert (await socket.answer("a", **SHORT))[-1]["type"] == "complete"
            with platform.http() as admin:
                admin.delete(f"/auth/api-keys/{keys[0].id}").raise_for_status()
            await asyncio.sleep(1.2)
            error = (await socket.answer("a", **SHORT))[0]
            assert error["code"] == "AUTHENTICATION_FAILED"
            await socket.send(type="auth", token=keys[0].secret)
            assert (await socket.receive())["code"] == "AUTHENTICATION_FAILED"
            await socket.send(type="auth", token=keys[1].secret)
            assert (await socket.receive())["type"] == "auth"
            assert (await socket.answer("a", **SHORT))[-1]["type"] == "complete"

    async def test_disabled_user_with_a_token(self, platform: Platform) -> None:
        user = make_user(platform, "ws-disabled")
        token = login(platform, "ws-disabled").json()["token"]
        async with connected(platform.url, token) as socket:
            assert (await socket.answer("a", **SHORT))[-1]["type"] == "complete"
            with platform.http() as admin:
                change = {"disabled": True}
                admin.patch(f"/auth/users/{user['id']}", json=change).raise_for_status()
            await asyncio.sleep(1.2)
            assert (await socket.answer("a", **SHORT))[0]["code"] == "AUTHENTICATION_FAILED"

    async def test_guesses_have_an_end(self, strict: Platform) -> None:
        """Wrong tokens count against the address, as over HTTP."""
        codes = list[str]()
        while "RATE_LIMIT_EXCEEDED" not in codes:
            async with connected(strict.url) as socket:
                for _ in range(10):
                    await socket.send(type="auth", token="inf_guess")
                with contextlib.suppress(websockets.ConnectionClosed):
                    codes += [(await socket.receive())["code"] for _ in range(10)]
            assert len(codes) < 100
