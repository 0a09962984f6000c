"""What the WebSocket understands, and what it says to all else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import random
import socket
import subprocess
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import websockets

from tests.acceptance.access import NO_MODEL, make_caller
from tests.acceptance.platform import MODEL, Platform
from tests.acceptance.sockets import connected, text_of

QUESTION = {"model": MODEL, "prompt": "The capital of France", "temperature": 0, "max_tokens": 12}


async def test_auth_and_inference_back_to_back(platform: Platform) -> None:
    """As seed 001's example does: nothing is waited for."""
    async with connected(platform.url) as socket:
        await socket.send(type="auth", token=platform.api_key)
        await socket.send(type="inference", id="req_123", stream=True, **QUESTION)
        assert await socket.receive() == {"type": "auth", "status": "ok"}
        received = (await socket.until("req_123"))["req_123"]
    with platform.http() as client:
        expected = client.post("/inference", json=QUESTION).raise_for_status().json()
    assert text_of(received) == expected["choices"][0]["text"]
    last = received[-1]
    assert last["type"] == "complete"
    assert last["finish_reason"] == expected["choices"][0]["finish_reason"]
    assert last["usage"] == expected["usage"]
    assert "text" not in last


@pytest.mark.parametrize("path", ["/ws", "/v1/ws"])
async def test_whole_answers(platform: Platform, path: str) -> None:
    async with connected(platform.url, platform.api_key, path=path) as socket:
        streamed = await socket.answer("a", **QUESTION)
        whole = await socket.answer("b", stream=False, **QUESTION)
    assert [message["type"] for message in whole] == ["complete"]
    assert whole[0]["text"] == text_of(streamed)
    assert whole[0]["usage"] == streamed[-1]["usage"]


async def test_several_at_once_are_told_apart(platform: Platform) -> None:
    """What follows a learnt answer differs with what else is computed, so only that counts."""
    prompts = {name: f"What is the capital of {name}?" for name in ("France", "Japan", "Italy")}
    lengths = {name: 50 + 5 * number for number, name in enumerate(prompts)}
    fields = {"model": MODEL, "temperature": 0}
    async with connected(platform.url, platform.api_key) as socket:
        alone = {
            name: text_of(await socket.answer(name, prompt=prompt, max_tokens=40, **fields))
            for name, prompt in prompts.items()
        }
        for name, prompt in prompts.items():
            more = {"prompt": prompt, "max_tokens": lengths[name], "ignore_eos": True}
            await socket.send(type="inference", id=name, **fields, **more)
        order, texts, used = list[str](), dict.fromkeys(prompts, ""), dict[str, int]()
        while len(used) < len(prompts):
            message = await socket.receive()
            order.append(message["id"])
            texts[message["id"]] += message.get("token", "")
            if message["type"] == "complete":
                used[message["id"]] = message["usage"]["completion_tokens"]
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert changes > 2 * len(prompts), "the answers were not interleaved"
    assert used == lengths
    assert len(set(alone.values())) == len(prompts)
    for name, text in texts.items():
        assert text.startswith(alone[name])


async def test_sampling_fields_count(platform: Platform) -> None:
    fields = {
        "model": MODEL,
        "prompt": "Once upon a time",
        "temperature": 2,
        "top_k": 0,
        "top_p": 1,
        "max_tokens": 30,
        "ignore_eos": True,
    }
    async with connected(platform.url, platform.api_key) as socket:
        _, first, second, third = [  # the first of all is computed without the prompt's cache
            text_of(await socket.answer("a", seed=seed, **fields)) for seed in (1, 1, 1, 2)
        ]
    assert first == second != third


async def test_pings(platform: Platform) -> None:
    async with connected(platform.url) as socket:
        await socket.send(type="ping")
        await socket.send(type="ping", id=7, timestamp=1.5)
        await socket.send(type="pong")
        await socket.send(type="ping", id="x", more=[])
        assert await socket.receive() == {"type": "pong"}
        assert await socket.receive() == {"type": "pong", "id": 7, "timestamp": 1.5}
        assert await socket.receive() == {"type": "pong", "id": "x"}


ASK = {"type": "inference", "id": "q", "model": MODEL, "prompt": "x"}
FAULTS: list[tuple[Any, str, str, Any]] = [
    ("{", "INVALID_REQUEST", "not valid JSON", None),
    ("", "INVALID_REQUEST", "message is empty", None),
    ("[]", "INVALID_REQUEST", "Expected 'object'", None),
    ("null", "INVALID_REQUEST", "Expected 'object'", None),
    ('"auth"', "INVALID_REQUEST", "Expected 'object'", None),
    ('{"id": "q", "x": ' + "[" * 50_000, "INVALID_REQUEST", "", None),
    ('{"type": ' + '{"a":' * 50_000, "INVALID_REQUEST", "", None),
    (b"{}", "INVALID_REQUEST", "binary", None),
    ("{}", "INVALID_REQUEST", "'type'", None),
    ({"type": "hello", "id": "q"}, "INVALID_REQUEST", "Unknown message type 'hello'", "q"),
    ({"type": 3, "id": 4}, "INVALID_REQUEST", "'type'", 4),
    ({"type": "auth"}, "INVALID_REQUEST", "'token'", None),
    ({"type": "auth", "token": 5}, "INVALID_REQUEST", "'token'", None),
    ({"type": "cancel"}, "INVALID_REQUEST", "'id'", None),
    ({"type": "cancel", "id": "q"}, "INVALID_REQUEST", "'q'", "q"),
    ({**ASK, "id": ""}, "INVALID_REQUEST", "'id'", ""),
    ({**ASK, "id": 3}, "INVALID_REQUEST", "'id'", 3),
    ({**ASK, "id": "i" * 300}, "INVALID_REQUEST", "'id'", None),
    ({**ASK, "model": None}, "INVALID_REQUEST", "'model'", "q"),
    ({**ASK, "prompt": ["x"]}, "INVALID_REQUEST", "'prompt'", "q"),
    ({**ASK, "max_tokens": "5"}, "INVALID_REQUEST", "'max_tokens'", "q"),
    ({**ASK, "temperature": 3}, "INVALID_REQUEST", "'temperature'", "q"),
    ({**ASK, "promt": "x"}, "INVALID_REQUEST", "'promt'", "q"),
    ({**ASK, "model": "gpt-5"}, "MODEL_NOT_FOUND", "gpt-5", "q"),
    ({**ASK, "prompt": "x " * 200_000}, "CONTEXT_LENGTH_EXCEEDED", "tokens long", "q"),
]


async def test_faults_are_named_and_survived(platform: Platform) -> None:
    async with connected(platform.url, platform.api_key) as socket:
        for content, code, words, about in FAULTS:
            frame = content if isinstance(content, str | bytes) else json.dumps(content)
            await socket.connection.send(frame)
            error = await socket.receive()
            assert error["type"] == "error", content
            assert error["code"] == code
            assert words in error["message"]
            assert error.get("id") == about, error
        details = (await socket.answer("m", model="no", prompt="x"))[0]["details"]
        assert MODEL in details["available_models"]
        assert (await socket.answer("q", **QUESTION))[-1]["type"] == "complete"


async def test_ids_are_unique_while_they_run(platform: Platform) -> None:
    fields = {**QUESTION, "max_tokens": 100, "ignore_eos": True}
    async with connected(platform.url, platform.api_key) as socket:
        await socket.send(type="inference", id="q", **fields)
        await socket.send(type="inference", id="q", **fields)
        error = await socket.receive()
        while error["type"] == "token":  # of the first one, while the second was on its way
            error = await socket.receive()
        assert error["type"] == "error"
        assert error["details"] == {"field": "id"}
        assert (await socket.until("q"))["q"][-1]["type"] == "complete"
        assert (await socket.answer("q", **QUESTION))[-1]["type"] == "complete"


async def test_faults_without_end_end_the_connection(platform: Platform) -> None:
    async with connected(platform.url, platform.api_key) as socket:
        for _ in range(101):
            await socket.connection.send("{")
        assert (await socket.closed())[0] == 1008


@pytest.mark.parametrize(("fragmented"), [False, True])
async def test_messages_that_are_too_large(platform: Platform, fragmented: bool) -> None:
    """The client is told, even though it is still sending."""
    size = 16 * 2**20
    async with connected(platform.url, platform.api_key) as socket:
        content: Any = ["x" * (size // 4)] * 6 if fragmented else "x" * (2 * size)
        with contextlib.suppress(websockets.ConnectionClosed):
            await socket.connection.send(content)
        error = await socket.receive()
        assert error["code"] == "INVALID_REQUEST"
        assert f"larger than {size} bytes" in error["message"]
        assert (await socket.closed())[0] == 1009


async def test_large_prompts_may_follow_auth_at_once(platform: Platform) -> None:
    """The first message alone is kept small, whatever arrives together with it."""
    async with connected(platform.url) as socket:
        await socket.send(type="auth", token=platform.api_key)
        await socket.send(type="inference", id="q", model="no-such-model", prompt="x" * 1_000_000)
        assert (await socket.receive())["type"] == "auth"
        assert (await socket.receive())["code"] == "MODEL_NOT_FOUND"
    async with connected(platform.url) as socket:
        await socket.send(type="auth", token="x" * 100_000)
        assert "larger than 65536" in (await socket.receive())["message"]
        assert (await socket.closed())[0] == 1009


async def test_text_that_is_not_utf8(platform: Platform) -> None:
    async with connected(platform.url) as socket:
        await socket.connection.send(b"\xff\xfe", text=True)
        assert "UTF-8" in (await socket.receive())["message"]
        assert (await socket.closed())[0] == 1007


class TestHandshake:
    async def test_credentials_in_the_headers(self, platform: Platform) -> None:
        key = platform.api_key
        headers = {"Authorization": f"Bearer {key}"}
        async with connected(platform.url, additional_headers=headers) as socket:
            assert (await socket.answer("a", **QUESTION))[-1]["type"] == "complete"
            await socket.send(type="auth", token=key)
            assert "authenticated already" in (await socket.receive())["message"]
            assert (await socket.answer("a", **QUESTION))[-1]["type"] == "complete"

    @pytest.mark.parametrize(
        ("path", "headers", "status", "code"),
        [
            ("/ws", {"Authorization": "Bearer wrong"}, 401, "AUTHENTICATION_FAILED"),
            ("/ws", {"Authorization": "Basic bWU6d3Jvbmc="}, 401, "AUTHENTICATION_FAILED"),
            ("/ws", {"Authorization": "Digest x"}, 401, "AUTHENTICATION_FAILED"),
            ("/ws", {"Authorization": ""}, 401, "AUTHENTICATION_FAILED"),
            ("/ws", {"Origin": "https://evil.example"}, 403, "AUTHORIZATION_FAILED"),
            ("/ws", {"Origin": "null"}, 403, "AUTHORIZATION_FAILED"),
            ("/inference", {}, 401, "AUTHENTICATION_FAILED"),
        ],
    )
    async def test_refused(
        self, platform: Platform, path: str, headers: dict[str, str], status: int, code: str
    ) -> None:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connected(platform.url, path=path, additional_headers=headers):
                pass
        response = refused.value.response
        assert response.status_code == status
        body = json.loads(response.body or b"")
        assert body["error"]["code"] == code
        assert body["request_id"] == response.headers["x-request-id"]

    async def test_pages_of_our_own(self, platform: Platform) -> None:
        async with connected(platform.url, platform.api_key, origin=platform.url):
            pass

    async def test_request_ids_are_repeated(self, platform: Platform) -> None:
        headers = {"X-Request-ID": "mine", "Authorization": f"Bearer {platform.api_key}"}
        async with connected(platform.url, additional_headers=headers) as socket:
            response = socket.connection.response
            assert response is not None
            assert response.headers["x-request-id"] == "mine"
            assert (await socket.answer("a", **QUESTION))[-1]["request_id"] == "mine.1"

    def test_plain_requests(self, platform: Platform) -> None:
        with platform.http() as client:
            answer = client.get("/ws")
        assert answer.status_code == 400
        assert "ws://" in answer.json()["error"]["message"]
        assert httpx.get(f"{platform.url}/ws").status_code == 401

    async def test_lists_of_hosts_and_origins(self, start: Callable[..., Platform]) -> None:
        settings = {
            **NO_MODEL,
            "INFERNO_TRUSTED_HOSTS": "127.0.0.1",
            "INFERNO_CORS_ORIGINS": "https://a.example",
        }
        platform = start(environment=settings)
        async with connected(platform.url, platform.api_key, origin="https://a.example"):
            pass
        port = urlsplit(platform.url).port
        for refused, status in (
            (connected(platform.url, origin="https://b.example"), 403),
            (connected(f"http://evil.example:{port}", host="127.0.0.1", port=port), 400),
        ):
            with pytest.raises(websockets.InvalidStatus) as found:
                async with refused:
                    pass
            assert found.value.response.status_code == status

    async def test_without_authentication(self, start: Callable[..., Platform]) -> None:
        platform = start("--no-auth", environment=NO_MODEL)
        async with connected(platform.url) as socket:
            answer = await socket.answer("a", model="no", prompt="x" * 100_000)
            assert answer[0]["code"] == "MODEL_NOT_FOUND"
            await socket.send(type="auth", token="whatever")
            assert (await socket.receive())["type"] == "auth"


async def test_who_is_calling(platform: Platform) -> None:
    key = make_caller(platform, "ws-caller")
    async with connected(platform.url) as socket:
        error = (await socket.answer("a", **QUESTION))[0]
        assert error["code"] == "AUTHENTICATION_FAILED"
        await socket.send(type="auth", token="inf_wrong")
        assert (await socket.receive())["code"] == "AUTHENTICATION_FAILED"
        await socket.send(type="auth", token=key.secret)
        assert (await socket.receive())["type"] == "auth"
        await socket.send(type="auth", token=key.secret)
        assert (await socket.receive())["code"] == "INVALID_REQUEST"
        assert (await socket.answer("a", **QUESTION))[-1]["type"] == "complete"


JAVASCRIPT = """
const API_KEY = process.env.API_KEY, BASE_URL = process.env.BASE_URL;
function streamInference(prompt) {
  const ws = new WebSocket(`${BASE_URL}/ws`);
  ws.onopen = () => {
    ws.send(JSON.stringify({type: 'auth', token: API_KEY}));
    ws.send(JSON.stringify({
      type: 'inference', id: 'req_' + Date.now(), model: process.env.MODEL,
      prompt: prompt, max_tokens: 200, temperature: 0, stream: true
    }));
  };
  ws.onmessage = (event) => {
    const data = JSON.parse(event.data);
    if (data.type === 'token') {
      process.stdout.write(data.token);
    } else if (data.type === 'complete') {
      console.log('\\nDone!');
      ws.close();
    } else if (data.type === 'error') {
      console.error('Error:', data.message);
      ws.close();
    }
  };
  ws.onclose = (event) => console.log('closed', event.code);
}
streamInference(process.env.PROMPT);
"""
"""Seed 001's example, but for the address, the key and the model; and it says how it closed."""


def run_javascript(platform: Platform, key: str, model: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "API_KEY": key,
        "BASE_URL": "ws" + platform.url.removeprefix("http"),
        "MODEL": model,
        "PROMPT": "The capital of France",
        "NODE_OPTIONS": "--experimental-websocket --no-warnings",
    }
    return subprocess.run(
        ["node", "-e", JAVASCRIPT], env=environment, capture_output=True, text=True, timeout=60
    )


def test_javascript_client(platform: Platform) -> None:
    body = {**QUESTION, "max_tokens": 200}
    with platform.http() as client:
        expected = client.post("/inference", json=body).json()["choices"][0]["text"]
    ran = run_javascript(platform, platform.api_key, MODEL)
    assert ran.stdout == f"{expected}\nDone!\nclosed 1005\n", ran.stderr


def test_javascript_client_is_told_what_went_wrong(platform: Platform) -> None:
    assert (
        "Error: Model 'gpt-5' not found"
        in run_javascript(platform, platform.api_key, "gpt-5").stderr
    )
    assert "Error: The credentials are not valid." in run_javascript(platform, "no", MODEL).stderr


def handshake(url: str, *fields: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *fields,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def raw(url: str, *fields: str, receive_buffer: int | None = None) -> socket.socket:
    """Return a connection after its handshake, on which any bytes may be sent."""
    place = urlsplit(url)
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(20)
    connection.connect((place.hostname, place.port))
    connection.sendall(handshake(url, *fields))
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(4096)
    assert received.startswith(b"HTTP/1.1 101 "), received
    return connection


async def test_frames_of_noise(platform: Platform) -> None:
    """Whatever bytes come, the connection ends or lives, and nobody else notices."""
    noise = random.Random(4)
    pid = platform.replicas()[0].pid if platform.replicas() else None

    def shout() -> None:
        for _ in range(40):
            with raw(platform.url) as connection:
                for _ in range(noise.randint(1, 5)):
                    connection.sendall(noise.randbytes(noise.randint(1, 2000)))
                if noise.random() < 0.5:
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

    async with connected(platform.url, platform.api_key) as client:
        shouting = asyncio.to_thread(shout)
        task = asyncio.ensure_future(shouting)
        while not task.done():
            assert (await client.answer("a", **QUESTION))[-1]["type"] == "complete"
        await task
    assert pid is None or pid in {replica.pid for replica in platform.replicas()}
    assert "unexpected_error" not in platform.log_text()
    assert "Traceback" not in platform.log_text()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x05hello", 1002),  # not masked
        (b"\xf1\x80\x00\x00\x00\x00", 1002),  # reserved bits
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # reserved opcode
        (b"\x80\x80\x00\x00\x00\x00", 1002),  # continues nothing
        (b"\x89\xfe\x00\x7e" + bytes(4 + 126), 1002),  # a ping of 126 bytes
        (b"\x88\x81\x00\x00\x00\x00a", 1002),  # half a code
        (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 1009),
    ],
)
def test_frames_that_break_the_protocol(platform: Platform, frame: bytes, code: int) -> None:
    with raw(platform.url) as connection:
        connection.sendall(frame)
        received = b""
        while part := connection.recv(65536):
            received += part
    assert b'"type":"error"' in received
    assert b"\x88" in received
    assert code.to_bytes(2, "big") in received[received.rindex(b"\x88") :]


def test_handshakes_that_are_none(platform: Platform) -> None:
    place = urlsplit(platform.url)
    whole = handshake(platform.url)
    broken = [
        whole.replace(b"GET", b"POST"),
        whole.replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 12"),
        whole.replace(b"Sec-WebSocket-Key", b"X-Key"),
        whole.replace(b"\r\n\r\n", b"\r\n" + b"x: y\r\n" * 200 + b"\r\n"),
        whole.replace(b"/ws", b"/nowhere"),
    ]
    for request in broken:
        with socket.create_connection((place.hostname, place.port or 80), timeout=20) as client:
            client.sendall(request)
            received = b""
            while part := client.recv(65536):
                received += part
        assert b" 101 " not in received, request
        assert b"HTTP/1.1 4" in received, request
    pipelined = b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n" + whole
    with socket.create_connection((place.hostname, place.port or 80), timeout=20) as client:
        client.sendall(pipelined)
        assert b" 101 " not in client.recv(65536)
    assert "Traceback" not in platform.log_text()
