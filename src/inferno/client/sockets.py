"""The WebSocket: one connection, many inferences at once, each cancelled on its own.

Nothing reads in the background. Whoever waits for a message reads the next one that comes, and
puts what is for others where these will find it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

import msgspec
import websockets
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as dial

from inferno.client.connection import CONNECT_SECONDS, Settings
from inferno.client.errors import (
    ClientError,
    ConnectionFailed,
    NoAnswerInTime,
    NotAuthenticated,
    ServerBusy,
    ServerFailed,
    UnexpectedAnswer,
    error_in,
    error_of,
)
from inferno.client.inference import Completion, Sampling, Token, Usage

NOT_AUTHENTICATED = 4401
GOING_AWAY = 1001
MAX_MESSAGE_BYTES = 16 * 2**20

T = TypeVar("T")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message from the platform; which fields it has depends on its type."""

    type: str
    id: str | int | None = None
    token: str = ""
    index: int = 0
    text: str | None = None
    finish_reason: str = "stop"
    usage: Usage | None = None
    request_id: str | None = None
    processing_time_ms: int | None = None
    error: ClientError | None = None


_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def decode(text: str | bytes) -> Message:
    """Return the message in a frame.

    Raises:
        UnexpectedAnswer: it is none.
    """
    try:
        content = _decode(text)
        if content.get("type") != "error":
            return msgspec.convert({**content, "error": None}, Message)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UnexpectedAnswer(f"The platform sent no message: {error}") from None
    carried = {"error": content, "request_id": content.get("request_id")}
    problem = error_in(carried) or ServerFailed("The platform sent an error that says nothing.")
    return Message(type="error", id=content.get("id"), error=problem)


class Inboxes:
    """Messages that have come, by the inference or ping they are for."""

    def __init__(self) -> None:
        self._waiting: dict[str | int, deque[Message]] = {}
        self._numbers = itertools.count(1)
        self.last_error: ClientError | None = None

    def open(self) -> str:
        """Return a new id, whose messages are kept from now on."""
        name = f"c{next(self._numbers)}"
        self._waiting[name] = deque()
        return name

    def close(self, name: str) -> None:
        """Keep no more messages for an id."""
        self._waiting.pop(name, None)

    def put(self, message: Message) -> None:
        """Keep a message, if anybody waits for such."""
        if message.id is not None and message.id in self._waiting:
            self._waiting[message.id].append(message)
        elif message.error is not None and message.id is None:
            self.last_error = message.error

    def take(self, name: str) -> Message | None:
        """Return and forget the oldest message for an id."""
        waiting = self._waiting.get(name)
        return waiting.popleft() if waiting else None

    def end(self, closed: websockets.ConnectionClosed) -> ClientError:
        """Return the error for a connection that was closed."""
        code = closed.rcvd.code if closed.rcvd is not None else None
        reason = (closed.rcvd.reason if closed.rcvd is not None else "") or "it was cut"
        if self.last_error is not None:
            return self.last_error
        if code == NOT_AUTHENTICATED:
            return NotAuthenticated(reason, code="AUTHENTICATION_FAILED")
        if code == GOING_AWAY:
            return ServerBusy(reason, code="INFERENCE_FAILED")
        return ConnectionFailed(f"The WebSocket was closed: {reason}", sent=True)


@contextmanager
def dialling() -> Iterator[None]:
    """Raise what goes wrong with a handshake as an error of ours."""
    try:
        yield
    except websockets.InvalidStatus as refused:
        answer = refused.response
        headers = {name.lower(): value for name, value in answer.headers.raw_items()}
        raise error_of(answer.status_code, headers, bytes(answer.body or b"")) from None
    except (OSError, websockets.InvalidHandshake) as error:  # time-outs among them
        raise ConnectionFailed(f"The platform was not reached: {error}", sent=False) from error


def handshake(settings: Settings) -> dict[str, Any]:
    """Return what the WebSocket library's clients are made with."""
    headers = settings.headers
    return {
        "uri": settings.socket_url,
        "user_agent_header": headers.pop("user-agent"),
        "additional_headers": headers,
        "ssl": settings.tls if settings.socket_url.startswith("wss:") else None,
        "open_timeout": CONNECT_SECONDS,
        "max_size": MAX_MESSAGE_BYTES,
        "compression": None,
    }


def silence() -> NoAnswerInTime:
    """Return the error for a connection on which nothing comes."""
    return NoAnswerInTime("The platform did not answer in time.", sent=True)


def asked(name: str, model: str, prompt: str, stream: bool, sampling: Sampling) -> str:
    """Return the message that asks for an inference."""
    fields = {"type": "inference", "id": name, "model": model, "prompt": prompt, "stream": stream}
    return _encode({**fields, **sampling}).decode()


def about(kind: str, name: str) -> str:
    """Return a message that says nothing but what it is about."""
    return _encode({"type": kind, "id": name}).decode()


class Progress:
    """How far one inference has come."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.result: Completion | None = None

    def take(self, message: Message) -> Token | None:
        """Take a message; return the token in it, if it is one. Raises what went wrong."""
        if message.error is not None:
            raise message.error
        if message.type == "token":
            self._texts.append(message.token)
            return Token(token=message.token, index=message.index)
        if message.type == "complete":
            text = "".join(self._texts) if message.text is None else message.text
            self.result = Completion(
                text=text,
                finish_reason=message.finish_reason,
                usage=message.usage,
                request_id=message.request_id,
                processing_time_ms=message.processing_time_ms,
            )
        return None


Link = TypeVar("Link")


class Running(Generic[Link]):
    """What inferences on either kind of connection share.

    Args:
        link: the connection.
        name: the inference's id.
    """

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._progress = Progress()
        self._ended = False
        self.id = name

    @property
    def result(self) -> Completion:
        """The whole answer, once the last token has come.

        Raises:
            RuntimeError: it has not come.
        """
        if self._progress.result is None:
            raise RuntimeError("The inference has not ended; read it to its end first.")
        return self._progress.result


class Socket:
    """A WebSocket; threads may share it. Use it in a `with`.

    Args:
        settings: where to connect.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: ClientConnection | None = None
        self._reading = threading.Lock()
        self._inboxes = Inboxes()
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with dialling():
            dialled = dial(**handshake(self._settings))
            self._connection = self._closing.enter_context(dialled)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what still runs on it is ended."""
        self._closing.close()

    def inference(
        self, *, model: str, prompt: str, stream: bool = True, **sampling: Unpack[Sampling]
    ) -> SocketInference:
        """Begin an inference; iterate over it for its tokens, or `read` it.

        Args:
            model: its id.
            prompt: to complete.
            stream: whether tokens come one by one.
            sampling: how tokens are chosen; see `Sampling`.
        """
        name = self._inboxes.open()
        self._send(asked(name, model, prompt, stream, sampling))
        return SocketInference(self, name)

    def ping(self) -> float:
        """Return the seconds that a message takes to the platform and back."""
        name = self._inboxes.open()
        begun = time.perf_counter()
        try:
            self._send(about("ping", name))
            self.next_for(name)
        finally:
            self._inboxes.close(name)
        return time.perf_counter() - begun

    def cancel(self, name: str) -> None:
        """Ask for the end of an inference."""
        self._send(about("cancel", name))

    def forget(self, name: str) -> None:
        """Leave what still comes for an inference unread."""
        self._inboxes.close(name)

    def next_for(self, name: str) -> Message:
        """Return the next message for an id."""
        while (found := self._inboxes.take(name)) is None:
            with self._reading:
                found = self._inboxes.take(name)
                if found is not None:
                    break
                self._inboxes.put(self._receive())
        return found

    def _receive(self) -> Message:
        try:
            return decode(self._opened.recv(self._settings.timeout))
        except TimeoutError:
            raise silence() from None
        except websockets.ConnectionClosed as closed:
            raise self._inboxes.end(closed) from None

    def _send(self, text: str) -> None:
        try:
            self._opened.send(text)
        except websockets.ConnectionClosed as closed:
            raise self._inboxes.end(closed) from None

    @property
    def _opened(self) -> ClientConnection:
        if self._connection is None:
            raise RuntimeError("Open the connection first: `with client.connect() as socket`.")
        return self._connection


class SocketInference(Running[Socket]):
    """An inference on a WebSocket."""

    def __iter__(self) -> Iterator[Token]:
        while not self._ended:
            try:
                token = self._progress.take(self._link.next_for(self.id))
            except ClientError:
                self._finish()
                raise
            if token is not None:
                yield token
            if self._progress.result is not None:
                self._finish()

    def read(self) -> Completion:
        """Read what is left, and return the whole answer."""
        for _ in self:
            pass
        return self.result

    def cancel(self) -> Completion:
        """End the inference, and return what had come of it."""
        if not self._ended:
            self._link.cancel(self.id)
        return self.read()

    def _finish(self) -> None:
        self._ended = True
        self._link.forget(self.id)
