"""Bodies over the limit and requests that are no HTTP, on bare sockets."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.platform import MODEL, Platform

LIMIT = 16 * 2**20
BODY = json.dumps({"model": MODEL, "prompt": "hi", "max_tokens": 1}).encode()


class Wire:
    """A connection on which bytes are sent as they are."""

    def __init__(self, platform: Platform) -> None:
        address = urlsplit(platform.url)
        self.socket = socket.create_connection((address.hostname or "", address.port or 0))
        self.socket.settimeout(60)
        self.key = platform.api_key
        self._unread = b""

    def send(self, *lines: str, body: bytes = b"", path: str = "/inference") -> None:
        head = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.key}", *lines]
        self.socket.sendall("\r\n".join([*head, "", ""]).encode() + body)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next answer."""
        head = self._until(b"\r\n\r\n").decode()
        first, *lines = head.rstrip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers.get("content-length", 0))
        while len(self._unread) < length:
            self._receive()
        body, self._unread = self._unread[:length], self._unread[length:]
        return int(first.split()[1]), headers, body

    def error(self) -> tuple[int, Any]:
        """Return status and body of the next answer, which is an error in JSON."""
        status, headers, body = self.answer()
        assert headers["content-type"].startswith("application/json")
        return status, json.loads(body)["error"]

    def _until(self, end: bytes) -> bytes:
        while end not in self._unread:
            self._receive()
        found, _, self._unread = self._unread.partition(end)
        return found

    def _receive(self) -> None:
        part = self.socket.recv(65536)
        assert part, f"the connection was closed after {self._unread!r}"
        self._unread += part


@contextmanager
def wire(platform: Platform) -> Iterator[Wire]:
    opened = Wire(platform)
    with opened.socket:
        yield opened


@pytest.mark.parametrize("path", ["/inference", "/v1/chat/completions", f"/models/{MODEL}/load"])
def test_an_announced_body_over_the_limit_is_refused_unread(platform: Platform, path: str) -> None:
    with wire(platform) as connection:
        connection.send(f"Content-Length: {LIMIT + 1}", body=b'{"model"', path=path)
        status, error = connection.error()
    assert status == 413
    assert str(LIMIT) in error["message"]


def test_a_client_that_asks_first_is_told_before_it_sends(platform: Platform) -> None:
    with wire(platform) as connection:
        connection.send(f"Content-Length: {LIMIT + 1}", "Expect: 100-continue")
        status, _ = connection.error()
    assert status == 413


def test_a_client_that_asks_first_may_go_on(platform: Platform) -> None:
    with wire(platform) as connection:
        connection.send(f"Content-Length: {len(BODY)}", "Expect: 100-continue")
        assert connection.answer()[0] == 100
        connection.socket.sendall(BODY)
        status, _, body = connection.answer()
    assert status == 200
    assert json.loads(body)["choices"]


def test_a_chunked_body_over_the_limit_is_refused_before_its_end(platform: Platform) -> None:
    piece = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    with wire(platform) as connection:
        connection.send("Transfer-Encoding: chunked")
        for _ in range(LIMIT // 2**20):
            connection.socket.sendall(piece)
        connection.socket.sendall(b"1\r\n ")
        status, error = connection.error()
    assert status == 413
    assert "larger" in error["message"]


def test_a_chunked_body_is_read(platform: Platform) -> None:
    with wire(platform) as connection:
        connection.send("Transfer-Encoding: chunked")
        for place in range(0, len(BODY), 7):
            piece = BODY[place : place + 7]
            connection.socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.socket.sendall(b"0\r\n\r\n")
        status, _, body = connection.answer()
    assert status == 200
    assert json.loads(body)["usage"]["completion_tokens"] == 1


def test_a_large_body_within_the_limit_is_read(platform: Platform) -> None:
    body = BODY[:-1] + b" " * (LIMIT - len(BODY)) + b"}"
    with platform.http() as client:
        assert client.post("/inference", content=body).status_code == 200
        assert client.post("/inference", content=body + b" ").status_code == 413


def test_the_limit_is_a_setting(tmp_path: Path) -> None:
    environment = {"INFERNO_MAX_BODY_BYTES": "1000"}
    with Platform(tmp_path / "data", environment=environment) as running, running.http() as client:
        assert client.post("/inference", content=BODY).status_code == 200
        answer = client.post("/inference", content=BODY + b" " * 1000)
    assert answer.status_code == 413
    assert answer.json()["error"]["details"] == {"limit_bytes": 1000}


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: -1"],
        ["Content-Length: abc"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 99999999999999999999999999"],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: nonsense"],
        ["X-Bad\0Name: 1"],
        ["X-Request-ID: a\rX-Evil: 1"],
    ],
    ids=str,
)
def test_heads_that_lie_are_refused(platform: Platform, lines: list[str]) -> None:
    with wire(platform) as connection:
        connection.send(*lines, body=b"0\r\n\r\n")
        status, headers, _ = connection.answer()
    assert 400 <= status < 500
    assert "x-evil" not in headers


def test_a_body_shorter_than_announced_is_waited_for_and_given_up(platform: Platform) -> None:
    with wire(platform) as connection:
        connection.send(f"Content-Length: {len(BODY) + 10}", body=BODY)
    with platform.http() as client:
        assert client.get("/health").status_code == 200


def test_what_follows_a_body_is_the_next_request(platform: Platform) -> None:
    with wire(platform) as connection:
        connection.send(f"Content-Length: {len(BODY)}", body=BODY)
        connection.send(f"Content-Length: {len(BODY)}", body=BODY)
        assert [connection.answer()[0] for _ in range(2)] == [200, 200]


def test_no_http_at_all_is_refused(platform: Platform) -> None:
    with wire(platform) as connection:
        connection.socket.sendall(b"\x16\x03\x01 hello, TLS?\r\n\r\n")
        assert connection.answer()[0] == 400


def test_a_huge_head_is_refused(platform: Platform) -> None:
    try:
        with wire(platform) as connection:
            connection.send("X-Filler: " + "x" * 2**20, "Content-Length: 0")
            status = connection.answer()[0]
    except ConnectionError:  # closed while we were still sending: a refusal too
        status = 431
    assert status in (400, 413, 431)
    assert httpx.get(platform.url + "/health").status_code == 200


def test_curl_is_told_about_a_body_over_the_limit(platform: Platform, tmp_path: Path) -> None:
    big = tmp_path / "big.json"
    big.write_bytes(b" " * 20_000_000)
    command = [
        "curl", "-s", "--max-time", "60", "-o", str(tmp_path / "answer"), "-w", "%{http_code}",
        "-H", f"Authorization: Bearer {platform.api_key}", "-H", "Content-Type: application/json",
        "-H", "Expect: 100-continue", "--expect100-timeout", "30",
        "--data-binary", f"@{big}", f"{platform.url}/inference",
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown == "413"
    assert json.loads((tmp_path / "answer").read_text())["error"]["code"] == "INVALID_REQUEST"
