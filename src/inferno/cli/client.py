"""A small HTTP client for the inference API, on the standard library.

The command line makes a handful of calls and must start at once, so it uses `http.client`.
Every failure is a `CommandFailed` that says what the server said.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from inferno.cli.errors import CommandFailed, Refused, Unreachable
from inferno.version import __version__

CONNECT_TIMEOUT = 10.0
"""Seconds until a server that does not take the connection counts as gone."""


class Client:
    """Calls one server.

    Args:
        url: base of the inference API, `http://127.0.0.1:8080`.
        api_key: sent as a bearer token; None sends no credentials.
        timeout: seconds between two parts of an answer; None waits, since a model may load.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandFailed(f"'{url}' is not a URL like http://127.0.0.1:8080", exit_code=2)
        self.url = url.rstrip("/")
        self._parts = parts
        self._api_key = api_key
        self._timeout = timeout

    def get(self, path: str, *, accept: str | None = None) -> Any:
        """Return the JSON answer of a GET."""
        return self._call("GET", path, None, {"Accept": accept} if accept else {})

    def patch(self, path: str, body: Any, *, content_type: str) -> Any:
        """Return the JSON answer of a PATCH."""
        return self._call("PATCH", path, body, {"Content-Type": content_type})

    def post(self, path: str, body: Any = None) -> Any:
        """Return the JSON answer of a POST; a body of None is sent as no body."""
        return self._call("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        """Return the JSON answer of a PUT."""
        return self._call("PUT", path, body)

    def delete(self, path: str) -> Any:
        """Return the JSON answer of a DELETE."""
        return self._call("DELETE", path, None)

    def upload(self, path: str, file: BinaryIO, size: int, headers: Mapping[str, str]) -> Any:
        """POST a file as it is read, and return the JSON answer."""
        sent = {"Content-Length": str(size), **headers}
        with self._sent("POST", path, file, sent) as response:
            return _json(response.read(), self.url + path)

    @contextmanager
    def download(self, path: str, accept: str) -> Iterator[http.client.HTTPResponse]:
        """GET something large, to be read piece by piece in the block."""
        with self._sent("GET", path, None, {"Accept": accept}) as response:
            yield response

    def within(self, seconds: float) -> Client:
        """Return a client that waits so long, at most, between two parts of an answer."""
        return Client(self.url, self._api_key, seconds)

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[Iterator[tuple[str, str]]]:
        """GET an event stream and yield id and data of its events, until it ends."""
        asked = {"Accept": "text/event-stream", **headers}
        with self._response("GET", path, None, asked) as response:
            yield _events_with_ids(response)

    @contextmanager
    def events(self, path: str, body: Any) -> Iterator[Iterator[Any]]:
        """POST and yield the JSON values of the event stream, up to `[DONE]`.

        Leaving the block early closes the connection, which cancels the work at the server.
        """
        with self._response("POST", path, body) as response:
            yield _events(response)

    def _call(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> Any:
        with self._response(method, path, body, headers) as response:
            return _json(response.read(), self.url + path)

    @contextmanager
    def _response(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and yield the response if it is a success."""
        content = None if body is None else json.dumps(body).encode()
        kind = {} if content is None else {"Content-Type": "application/json"}
        with self._sent(method, path, content, {**kind, **(headers or {})}) as response:
            yield response

    @contextmanager
    def _sent(
        self, method: str, path: str, content: bytes | BinaryIO | None, headers: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        try:
            with closing(self._connect()) as connection:
                target = self._parts.path.rstrip("/") + path
                # A server that refuses what is sent may answer, and close, before it has read all.
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, target, content, self._headers(headers))
                with closing(connection.getresponse()) as response:
                    if response.status >= 400:
                        raise _failure(response)
                    yield response
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.url}: {_reason(error)}") from None

    def _connect(self) -> http.client.HTTPConnection:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        host = self._parts.hostname or ""
        connection = kind(host, self._port(), timeout=CONNECT_TIMEOUT)
        connection.connect()
        connection.sock.settimeout(self._timeout)
        return connection

    def _port(self) -> int | None:
        try:
            return self._parts.port
        except ValueError:
            raise CommandFailed(f"'{self.url}' has no valid port", exit_code=2) from None

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        headers = {"User-Agent": f"inferno-cli/{__version__}", **more}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        return headers


def _json(text: bytes, url: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise CommandFailed(f"{url} did not answer with JSON") from None


def _reason(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.HTTPException | ConnectionResetError):
        return "the connection was closed before the answer was complete"
    return error.strerror or str(error)


def _events(response: http.client.HTTPResponse) -> Iterator[Any]:
    """Yield the data of server-sent events; raise for an error event or an early end."""
    data: list[str] = []
    for raw in response:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        if line or not data:  # only an empty line ends an event
            continue
        text, data = "\n".join(data), []
        if text == "[DONE]":
            response.read()  # whoever hangs up before the end counts as having left
            return
        yield _event(text)
    raise http.client.IncompleteRead(b"")


def _events_with_ids(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    """Yield id and data of each event; one of an id alone has no data."""
    id_, data = "", list[str]()
    for raw in response:
        name, _, value = raw.decode("utf-8", "replace").rstrip("\r\n").partition(":")
        if name == "id":
            id_ = value.removeprefix(" ")
        elif name == "data":
            data.append(value.removeprefix(" "))
        elif not name and not value and (id_ or data):  # an empty line ends an event
            yield id_, "\n".join(data)
            id_, data = "", []


def _event(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        raise CommandFailed("the server sent an event that is not JSON") from None
    if isinstance(value, dict) and value.get("error"):
        raise CommandFailed(error_message(value) or "the server failed while it answered")
    return value


def _failure(response: http.client.HTTPResponse) -> CommandFailed:
    """Make the error of an answer with an error status."""
    try:
        body = json.loads(response.read())
    except ValueError:
        body = None
    message = error_message(body) or f"the server answered {response.status} {response.reason}"
    if response.status == http.HTTPStatus.UNAUTHORIZED:
        message = f"{message.rstrip('.')} (give a key with INFERNO_API_KEY)"
    return Refused(message, status=response.status)


def error_message(body: Any) -> str | None:
    """Return what an error answer says, in any of the platform's envelopes."""
    if isinstance(body, dict) and body.get("kind") == "Status":  # the cluster API's
        return str(body.get("message") or "") or None
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        return error
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    message: str = error["message"]
    details = error.get("details")
    available = details.get("available_models") if isinstance(details, dict) else None
    if available and isinstance(available, list):
        message = f"{message.rstrip('.')} (available: {', '.join(map(str, available))})"
    return message
