"""Callers of every kind, and requests that no client library would send."""

from __future__ import annotations

import contextlib
import re
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.acceptance.platform import Platform

NO_MODEL = {"INFERNO_BUNDLED_MODEL": "false"}
"""For tests that generate nothing: the platform starts sooner."""

UNLIMITED = {
    "INFERNO_REQUESTS_PER_MINUTE": "-1",
    "INFERNO_REQUESTS_PER_HOUR": "-1",
    "INFERNO_TOKENS_PER_MINUTE": "-1",
    "INFERNO_CONCURRENT_REQUESTS": "-1",
}
"""For tests that ask more often than a caller may."""

PASSWORD = "correct-horse-battery"


def bearer(credential: str) -> dict[str, str]:
    """Return the header that shows an API key or a token."""
    return {"Authorization": f"Bearer {credential}"}


def as_caller(
    platform: Platform, credential: str | None, *, management: bool = False, **options: Any
) -> httpx.Client:
    """Return a client with these credentials, or with none."""
    url = platform.management_url if management else platform.url
    headers = bearer(credential) if credential else {}
    return httpx.Client(base_url=url, headers=headers, timeout=60, **options)


@dataclass(frozen=True)
class Key:
    """An API key with its secret."""

    id: str
    secret: str


def make_user(
    platform: Platform, name: str, *, role: str = "user", tenant: str = "default"
) -> dict[str, Any]:
    """Create a user and return it."""
    body = {"username": name, "password": PASSWORD, "role": role, "tenant": tenant}
    with platform.http() as admin:
        answer = admin.post("/auth/users", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def make_key(platform: Platform, user: str, **fields: Any) -> Key:
    """Create a key of a user's as the admin."""
    with platform.http() as admin:
        answer = admin.post("/auth/api-keys", json={"name": "test", "user": user, **fields})
    assert answer.status_code == 201, answer.text
    return Key(answer.json()["id"], answer.json()["api_key"])


def make_caller(platform: Platform, name: str, *, role: str = "user", **fields: Any) -> Key:
    """Create a user with a key, and return the key."""
    make_user(platform, name, role=role)
    return make_key(platform, name, **fields)


def login(platform: Platform, name: str, password: str = PASSWORD, **headers: str) -> Any:
    """Sign in and return the answer."""
    body = {"username": name, "password": password}
    return httpx.post(f"{platform.url}/auth/login", json=body, headers=headers, timeout=60)


def audit(platform: Platform, **wanted: Any) -> list[dict[str, Any]]:
    """Return events of the audit trail, newest first."""
    with platform.http() as admin:
        answer = admin.get("/audit", params={"limit": 1000, **wanted}).raise_for_status()
    return list(answer.json()["events"])


@dataclass(frozen=True)
class Raw:
    """What came back on a connection.

    Args:
        data: every byte.
        closed: whether the server closed it.
    """

    data: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        """The statuses of all answers."""
        return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.data)]

    def header(self, name: str) -> str | None:
        """Return a header of the last answer."""
        pattern = rb"\r\n" + name.lower().encode() + rb": ([^\r]*)\r\n"
        found = re.findall(pattern, self.data.lower())
        return found[-1].decode() if found else None

    @property
    def body(self) -> bytes:
        """The last answer's body."""
        return self.data.rpartition(b"\r\n\r\n")[2]


def connect(url: str) -> socket.socket:
    """Return a connection."""
    address = urlsplit(url)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port or 80), timeout=30)


def read(connection: socket.socket, *, answers: int = 1, seconds: float = 30.0) -> Raw:
    """Read until so many answers have come with their JSON bodies, or the server closes.

    Args:
        connection: what to read from.
        answers: complete answers to wait for.
        seconds: to wait for each piece.
    """
    connection.settimeout(seconds)
    data = b""
    with contextlib.suppress(TimeoutError):
        while _complete(data) < answers:
            part = _receive(connection)
            if not part:
                return Raw(data, closed=True)
            data += part
        # Is there one more? Or does it close?
        connection.settimeout(0.3)
        while True:
            part = _receive(connection)
            if not part:
                return Raw(data, closed=True)
            data += part
    return Raw(data, closed=False)


def _receive(connection: socket.socket) -> bytes:
    """Return the next bytes; none where the connection has ended, gently or not."""
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""


def _complete(data: bytes) -> int:
    count = 0
    while True:
        head, found, rest = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if not found or length is None or len(rest) < int(length[1]):
            return count
        count, data = count + 1, rest[int(length[1]) :]


def exchange(url: str, request: bytes, *, answers: int = 1, seconds: float = 30.0) -> Raw:
    """Send bytes on a connection of their own and return what came back."""
    with connect(url) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        return read(connection, answers=answers, seconds=seconds)
