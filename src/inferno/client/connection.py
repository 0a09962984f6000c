"""What both clients know of HTTP: where to connect, what to send, what failures mean."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

from inferno.client.calls import Call
from inferno.client.errors import (
    ClientError,
    ConnectionFailed,
    NoAnswerInTime,
    UnexpectedAnswer,
    error_of,
)
from inferno.version import __version__

T = TypeVar("T")

DEFAULT_URL = "http://localhost:8080"
CONNECT_SECONDS = 10.0
TIMEOUT = 600.0
"""Seconds between two parts of an answer: the model may have to be loaded first."""

MAX_EVENT_BYTES = 16 * 2**20

_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a client connects, and as whom.

    Args:
        url: base of the inference API.
        api_key: an API key or token; None shows none.
        timeout: seconds between two parts of an answer.
        tls: how servers prove who they are; None for the usual authorities.
    """

    url: str
    api_key: str | None = field(repr=False)
    timeout: float
    tls: ssl.SSLContext | None

    @classmethod
    def of(
        cls,
        url: str | None,
        api_key: str | None,
        timeout: float,
        tls: ssl.SSLContext | None,
        *,
        variable: str = "INFERNO_URL",
        default: str = DEFAULT_URL,
    ) -> Settings:
        """Return settings; what is not given comes from the environment.

        Args:
            url: of what is called.
            api_key: an API key or token.
            timeout: seconds between two parts of an answer.
            tls: how servers prove who they are.
            variable: of the environment, that has the URL where none is given.
            default: where that has none either.

        Raises:
            ValueError: the URL is none.
        """
        url = url or os.environ.get(variable) or default
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not a URL like {default}.")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("The URL of a platform has no user, query or fragment.")
        api_key = api_key or os.environ.get("INFERNO_API_KEY") or None
        return cls(url.rstrip("/"), api_key, timeout, tls)

    @property
    def headers(self) -> dict[str, str]:
        """What every request says."""
        said = {"user-agent": f"inferno-python/{__version__}"}
        if self.api_key is not None:
            said["authorization"] = f"Bearer {self.api_key}"
        return said

    @property
    def socket_url(self) -> str:
        """URL of the WebSocket."""
        return f"ws{self.url.removeprefix('http')}/ws"

    @property
    def http_options(self) -> dict[str, Any]:
        """What the HTTP library's clients are made with."""
        return {
            "headers": self.headers,
            "timeout": httpx2.Timeout(self.timeout, connect=CONNECT_SECONDS),
            "verify": self.tls or True,
            # A caller may have as many calls under way as it has threads or tasks.
            "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=20),
        }

    def request(self, call: Call[Any]) -> dict[str, Any]:
        """Return a call as the HTTP library's `build_request` takes it."""
        return {
            "method": call.method,
            "url": self.url + call.path,
            "content": call.body,
            "headers": call.headers,
        }


@contextmanager
def translated() -> Iterator[None]:
    """Raise the library's failures as ours."""
    try:
        yield
    except httpx2.SSEError as error:
        raise UnexpectedAnswer(str(error)) from None
    except httpx2.DecodingError as error:
        raise UnexpectedAnswer(f"The answer cannot be read: {error}") from None
    except httpx2.TransportError as error:
        raise _failure(error) from error


def _failure(error: httpx2.TransportError) -> ClientError:
    sent = not isinstance(error, _NEVER_SENT)
    if isinstance(error, httpx2.TimeoutException):
        return NoAnswerInTime("The platform did not answer in time.", sent=sent)
    what = "The connection broke off" if sent else "The platform was not reached"
    return ConnectionFailed(f"{what}: {error or type(error).__name__}", sent=sent)


def refusal(call: Call[Any], status: int, headers: Mapping[str, str], body: bytes) -> ClientError:
    """Return the error for an answer that is none to the call."""
    if status >= 400:
        return error_of(status, {name.lower(): value for name, value in headers.items()}, body)
    return UnexpectedAnswer(f"{call.method} {call.path} was answered with status {status}.")


def is_answer(call: Call[Any], status: int) -> bool:
    """Return whether a status is one that the call is answered with."""
    return 200 <= status < 300 or status in call.answers


def events_of(response: httpx2.Response) -> httpx2.EventSource:
    """Return the events of a streamed answer."""
    return httpx2.EventSource(response, max_event_size=MAX_EVENT_BYTES)
