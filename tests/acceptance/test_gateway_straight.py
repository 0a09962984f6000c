"""Requests that are passed on without a task, and what makes one take them over: byte by byte."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.acceptance.access import NO_MODEL, UNLIMITED, bearer, make_key, make_user
from tests.acceptance.model_servers import Cluster, Fault, ModelServer, model_servers, within
from tests.acceptance.platform import Platform

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
CHUNKED_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"

Script = Callable[[socket.socket, dict[str, Any]], bool]
"""Answers a request by hand; returns whether the connection goes on."""


class Scripted(ModelServer):
    """A model server that does what a test says."""

    script: Script | None = None

    def _answer(self, one: socket.socket, headers: dict[str, str], request: dict[str, Any]) -> bool:
        if self.script is None:
            return super()._answer(one, headers, request)
        self.requests.append(request)
        return self.script(one, request)


def event(text: str) -> bytes:
    """Return a chunk with an event that has a text."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    payload = {"object": "chat.completion.chunk", "model": "base", "choices": [choice]}
    line = b"data: " + json.dumps(payload).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(line), line)


def whole(text: str) -> bytes:
    """Return a whole answer."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    message = {"role": "assistant", "content": text}
    answer = {"model": "base", "choices": [{"index": 0, "message": message}], "usage": usage}
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform without models of its own."""
    environment = {
        **NO_MODEL,
        **UNLIMITED,
        "INFERNO_PROBE_INTERVAL": "3600",
        "INFERNO_SCRAPE_INTERVAL": "3600",
        "INFERNO_REQUEST_TIMEOUT": "3",
        "INFERNO_MAX_BODY_BYTES": "100000",
    }
    with Platform(tmp_path_factory.mktemp("front") / "data", environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def only(front: Platform) -> Iterator[Scripted]:
    """The one server of the pool that serves `theirs`."""
    with model_servers(Scripted("only")) as (server,):
        cluster = Cluster(front)
        cluster.pool("only", server)
        cluster.model("theirs", "only", targets={"base": 1})
        assert isinstance(server, Scripted)
        yield server


@pytest.fixture
def server(front: Platform, only: Scripted) -> Iterator[Scripted]:
    """The same, with a connection to it that is idle."""
    only.script = None
    assert ask(front).status_code == 200
    only.requests.clear()
    yield only
    only.script = None


def body_of(**more: Any) -> dict[str, Any]:
    return {"model": "theirs", "messages": MESSAGES} | more


def ask(front: Platform, **more: Any) -> httpx.Response:
    with front.http() as client:
        return client.post("/v1/chat/completions", json=body_of(**more))


def connection(front: Platform, **options: int) -> socket.socket:
    """Return a connection of which every byte is the test's affair."""
    host, port = front.url.removeprefix("http://").split(":")
    one = socket.socket()
    for name, value in options.items():
        one.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    one.settimeout(20)
    one.connect((host, int(port)))
    return one


def request(
    front: Platform, *fields: str, key: str = "", version: str = "1.1", **more: Any
) -> bytes:
    """Return a chat request as it goes over the wire."""
    body = json.dumps(body_of(**more)).encode()
    lines = [
        f"POST /v1/chat/completions HTTP/{version}",
        f"Host: {front.url.removeprefix('http://')}",
        f"Authorization: Bearer {key or front.api_key}",
        f"Content-Length: {len(body)}",
        *fields,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_all(one: socket.socket) -> bytes:
    received = bytearray()
    while piece := one.recv(1 << 16):
        received += piece
    return bytes(received)


def texts(stream: str) -> list[str]:
    """Return the texts of a stream's events."""
    events = [line[6:] for line in stream.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", events[-1]
    return [json.loads(event)["choices"][0]["delta"].get("content", "") for event in events[:-1]]


def counted(front: Platform, name: str) -> float:
    with front.http() as client:
        page = client.get("/metrics").text
    found = [line for line in page.splitlines() if line.startswith(name + '{model="theirs"')]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def used(front: Platform, key: str) -> dict[str, int]:
    """Return what a key has used of its limits; the question counts too."""
    with front.http() as client:
        return dict(client.get("/auth/me", headers=bearer(key)).json()["used"])


def test_what_is_passed_on_is_counted(front: Platform, server: Scripted) -> None:
    """The engine's own count is what the caller is charged."""
    make_user(front, "counted")
    key = make_key(front, "counted", limits={"tokens_per_minute": 10_000})
    headers = bearer(key.secret)
    with front.http() as client:
        for stream in (False, True, False):
            answer = client.post(
                "/v1/chat/completions", json=body_of(stream=stream), headers=headers
            )
            assert answer.status_code == 200
    assert used(front, key.secret)["tokens_per_minute"] == 33
    assert used(front, key.secret)["concurrent_requests"] == 1


def test_a_limit_that_is_used_up_refuses(front: Platform, server: Scripted) -> None:
    make_user(front, "limited")
    key = make_key(front, "limited", limits={"requests_per_minute": 2})
    headers = bearer(key.secret)
    with front.http() as client:
        answers = [
            client.post("/v1/chat/completions", json=body_of(), headers=headers) for _ in range(3)
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    left = [answer.headers["x-ratelimit-remaining"] for answer in answers]
    assert left == ["1", "0", "0"]
    assert answers[2].json()["error"]["type"] == "rate_limit_error"


def test_a_client_that_leaves_hangs_up_on_the_server(front: Platform, server: Scripted) -> None:
    left = threading.Event()

    def script(one: socket.socket, _: dict[str, Any]) -> bool:
        one.sendall(CHUNKED_HEAD + event("first"))
        if one.recv(1) == b"":
            left.set()
        return False

    server.script = script
    make_user(front, "leaving")
    key = make_key(front, "leaving", limits={"concurrent_requests": 5}).secret
    before = counted(front, "inferno_inference_requests_cancelled_total")
    with closing(connection(front)) as client:
        client.sendall(request(front, key=key, stream=True))
        received = b""
        while b"first" not in received:
            received += client.recv(1 << 16)
        assert used(front, key)["concurrent_requests"] == 2
    assert left.wait(10)
    within(lambda: counted(front, "inferno_inference_requests_cancelled_total") == before + 1)
    assert used(front, key)["concurrent_requests"] == 1


def test_a_client_that_reads_slowly_slows_the_server_down(
    front: Platform, server: Scripted
) -> None:
    pieces, size = 600, 64 * 1024
    sent = [0]

    def script(one: socket.socket, _: dict[str, Any]) -> bool:
        one.sendall(CHUNKED_HEAD)
        while sent[0] < pieces:
            one.sendall(event("x" * size))
            sent[0] += 1
        one.sendall(END)
        return True

    server.script = script
    with closing(connection(front, SO_RCVBUF=16 * 1024)) as client:
        client.sendall(request(front, "Connection: close", stream=True))
        assert client.recv(12).startswith(b"HTTP/1.1 200")
        seen = -1
        while seen != sent[0]:  # until nothing moves any more
            seen = sent[0]
            time.sleep(0.2)
        assert seen < pieces, "somebody held all of it"
        assert read_all(client).count(b"x" * size) == pieces
    assert sent[0] == pieces


def test_a_kept_connection_that_ends_is_replaced(front: Platform, server: Scripted) -> None:
    def script(one: socket.socket, _: dict[str, Any]) -> bool:
        if len(server.requests) == 1:
            return False
        one.sendall(whole("again"))
        return True

    server.script = script
    answer = ask(front)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "again"
    assert len(server.requests) == 2


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_dies_before_the_client_has_anything_is_asked_once_more(
    front: Platform, server: Scripted, stream: bool, times: int
) -> None:
    def script(one: socket.socket, _: dict[str, Any]) -> bool:
        begun, rest = (
            (CHUNKED_HEAD + event("all")[:20], CHUNKED_HEAD + event("all") + END)
            if stream
            else (whole("all")[:100], whole("all"))
        )
        dies = len(server.requests) <= times
        one.sendall(begun if dies else rest)
        return not dies

    server.script = script
    answer = ask(front, stream=stream)
    assert len(server.requests) == 2
    if times == 2:
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "inference_failed"
    elif stream:
        assert texts(answer.text) == ["all"]
    else:
        assert answer.json()["choices"][0]["message"]["content"] == "all"


def test_a_stream_that_breaks_off_says_so(front: Platform, server: Scripted) -> None:
    def script(one: socket.socket, _: dict[str, Any]) -> bool:
        one.sendall(CHUNKED_HEAD + event("first"))
        return False

    server.script = script
    answer = ask(front, stream=True)
    assert answer.status_code == 200
    lines = [line for line in answer.text.splitlines() if line]
    assert "first" in lines[0]
    assert json.loads(lines[-1][6:])["error"]["code"] == "inference_failed"
    assert len(server.requests) == 1


def test_a_server_that_reports_an_error_in_its_stream_is_believed(
    front: Platform, server: Scripted
) -> None:
    line = b'data: {"error": {"message": "Out of breath."}}\n\n'

    def script(one: socket.socket, _: dict[str, Any]) -> bool:
        one.sendall(CHUNKED_HEAD + b"%x\r\n%b\r\n" % (len(line), line) + b"0\r\n\r\n")
        return True

    server.script = script
    answer = ask(front, stream=True)
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "Out of breath."


def test_an_answer_that_is_no_json_fails(front: Platform, server: Scripted) -> None:
    def script(one: socket.socket, _: dict[str, Any]) -> bool:
        one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        return True

    server.script = script
    answer = ask(front)
    assert answer.status_code == 500
    assert "not valid JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize("size", [40_000, 3_000_000])
def test_an_answer_larger_than_any_buffer_is_whole(
    front: Platform, server: Scripted, size: int
) -> None:
    text = "".join(f"{number:07}," for number in range(size // 8))

    def script(one: socket.socket, _: dict[str, Any]) -> bool:
        one.sendall(whole(text))
        return True

    server.script = script
    answer = ask(front)
    assert answer.json()["choices"][0]["message"]["content"] == text


def test_a_body_may_come_in_pieces(front: Platform, server: Scripted) -> None:
    message = request(front, "Connection: close")
    with closing(connection(front)) as client:
        for start in range(0, len(message), 40):
            client.sendall(message[start : start + 40])
            time.sleep(0.002)
        assert read_all(client).startswith(b"HTTP/1.1 200")
    assert len(server.requests) == 1


def test_a_body_larger_than_the_platform_takes_is_refused(
    front: Platform, server: Scripted
) -> None:
    answer = ask(front, user="x" * 150_000)
    assert answer.status_code == 413
    assert not server.requests


def raw_request(front: Platform, body: bytes) -> bytes:
    """Return a request whose body no client library would send."""
    head = request(front, "Connection: close").partition(b"\r\n\r\n")[0]
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body


@pytest.mark.parametrize("place", [b'"\xff":1', b'"user":"\xff"'], ids=["a name", "a value"])
def test_a_body_that_is_no_text_is_refused(front: Platform, server: Scripted, place: bytes) -> None:
    with closing(connection(front)) as client:
        client.sendall(raw_request(front, b'{"model":"theirs","messages":[],%b}' % place))
        received = read_all(client)
    assert received.startswith(b"HTTP/1.1 400")
    assert b"not valid UTF-8" in received
    assert not server.requests


def test_a_body_is_answered_however_deep_it_is(front: Platform, server: Scripted) -> None:
    """Somewhere between what can be read and what cannot, it can be read but not rewritten."""

    def script(one: socket.socket, _: dict[str, Any]) -> bool:
        one.sendall(whole("deep"))
        return True

    server.script = script
    for depth in range(960, 990):
        body = b'{"model":"theirs","user":' + b"[" * depth + b"]" * depth + b"}"
        with closing(connection(front)) as client:
            client.sendall(raw_request(front, body))
            status = read_all(client)[:12]
        assert status in (b"HTTP/1.1 200", b"HTTP/1.1 400"), depth


def test_requests_that_come_together_are_answered_in_order(
    front: Platform, server: Scripted
) -> None:
    def script(one: socket.socket, asked: dict[str, Any]) -> bool:
        time.sleep(0.05 * (3 - asked["seed"]))
        one.sendall(whole(f"number {asked['seed']}"))
        return True

    server.script = script
    with closing(connection(front)) as client:
        first, second = request(front, seed=0), request(front, seed=1)
        client.sendall(first + second + request(front, "Connection: close", seed=2))
        received = read_all(client)
    assert received.count(b"HTTP/1.1 200") == 3
    places = [received.index(b"number %d" % number) for number in range(3)]
    assert places == sorted(places)


def test_a_client_that_asks_first_is_told_to_go_on(front: Platform, server: Scripted) -> None:
    message = request(front, "Expect: 100-continue", "Connection: close")
    head, _, body = message.partition(b"\r\n\r\n")
    with closing(connection(front)) as client:
        client.sendall(head + b"\r\n\r\n")
        assert client.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert read_all(client).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("stream", [False, True])
def test_an_old_client_gets_no_chunks(front: Platform, server: Scripted, stream: bool) -> None:
    with closing(connection(front)) as client:
        client.sendall(request(front, version="1.0", stream=stream))
        head, _, body = read_all(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"chunked" not in head
    assert b"connection: close" in head
    if stream:
        assert texts(body.decode())[0] == "only"
    else:
        assert json.loads(body)["choices"]


def test_a_stream_has_its_time_and_no_more(front: Platform, server: Scripted) -> None:
    stopped = threading.Event()

    def script(one: socket.socket, _: dict[str, Any]) -> bool:
        one.sendall(CHUNKED_HEAD)
        while not stopped.wait(0.05):
            one.sendall(event("tick"))
        return False

    server.script = script
    try:
        answer = ask(front, stream=True)
    finally:
        stopped.set()
    last = [line for line in answer.text.splitlines() if line][-1]
    assert json.loads(last[6:])["error"]["code"] == "timeout"


FAULTS: list[Fault] = ["", "", "reset", "break off", "busy", "error", "close", "stutter", "garbage"]


def test_whatever_happens_every_place_comes_back(front: Platform) -> None:
    """Clients leave at any moment, while one of two servers does anything wrong."""
    make_user(front, "restless")
    key = make_key(front, "restless", limits={"concurrent_requests": 1000}).secret
    bad, good = ModelServer("restless-bad"), ModelServer("restless-good")
    dice = random.Random(7)

    async def one(number: int) -> None:
        host, port = front.url.removeprefix("http://").split(":")
        bad.fault = FAULTS[number // 20 % len(FAULTS)]
        reader, writer = await asyncio.open_connection(host, int(port))
        stream = bool(number % 4)
        writer.write(request(front, "Connection: close", key=key, model="restless", stream=stream))
        if dice.random() < 0.4:
            await asyncio.sleep(dice.random() * 0.02)
            writer.transport.abort()
        else:
            answer = await asyncio.wait_for(reader.read(), 20)
            assert answer.startswith(b"HTTP/1.1 "), answer[:50]
            writer.close()

    async def many() -> None:
        for _ in range(6):
            await asyncio.gather(*(one(number) for number in range(0, 180, 6)))

    with model_servers(bad, good):
        cluster = Cluster(front)
        cluster.pool("restless", bad, good)
        cluster.model("restless", "restless", targets={"base": 1})
        asyncio.run(many())
        within(lambda: used(front, key)["concurrent_requests"] == 1)
        with front.http() as client:
            page = client.get("/metrics").text
        running = [line for line in page.splitlines() if "requests_running{" in line]
        assert len([line for line in running if "restless" in line]) == 2
        assert all(line.endswith(" 0.0") for line in running), running
