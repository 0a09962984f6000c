"""The data plane's own HTTP/1.1 client: small, quick, and gone at once when it is told to go.

    UpstreamClient      requests, and the idle connections of each address
    _Connection         one socket and its parser; serves one request at a time
    UpstreamResponse    what the caller holds: the head, then the body as it arrives

A request takes the most recently used idle connection, or opens one. From then on the
connection's parser fills the response, and the caller waits on the response: there is one waiter,
woken by whatever happens (head, body, end, failure, room to write), and who wakes looks again.
When the body has arrived in full the connection goes back by itself; every other way out closes
it. No task runs here but the caller's, so there is nothing to leak when the caller is cancelled.

Limits: no redirects, cookies, decompression, proxies or upgrades; that is the gateway's affair or
nobody's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf
from operator import itemgetter
from ssl import SSLContext
from types import TracebackType
from typing import Self

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from inferno.core.addresses import is_forbidden_peer

Headers = Sequence[tuple[bytes, bytes]]

MANAGED_HEADERS = frozenset(
    {b"connection", b"content-length", b"host", b"transfer-encoding", b"upgrade"}
)
"""Headers that the client writes itself. A second one from a caller could make the replica see
another message than the one sent, so `request` refuses them."""

_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
_NAME = itemgetter(0)
_BODILESS = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})
_SLICE = 64 * 1024
AT_ONCE = 256 * 1024
"""Bytes of a request's body that are written in one piece, however fast the replica reads."""
_DISCARD_ROUNDS = 16


class UpstreamError(Exception):
    """Base of what can go wrong between the gateway and a replica."""


class ConnectFailed(UpstreamError):
    """No connection within the time allowed; the replica has seen nothing of the request."""


class ConnectionLost(UpstreamError):
    """The connection ended before the response did.

    Args:
        message: what happened.
        before_response: not one byte of a response had arrived.
    """

    def __init__(self, message: str, *, before_response: bool) -> None:
        super().__init__(message)
        self.before_response = before_response


class UpstreamTimeout(UpstreamError):
    """The head, or the next part of the body, did not arrive in time."""


class BadResponse(UpstreamError):
    """What arrived is not HTTP/1.1, or larger than allowed."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a replica listens.

    Args:
        host: a name or an IP address; IPv6 without brackets.
        port: the TCP port.

    Raises:
        ValueError: the host is empty or contains what cannot stand in a Host header.
    """

    host: str
    port: int
    authority: bytes = field(init=False, repr=False, compare=False)
    text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.host or not self.host.isprintable() or " " in self.host:
            raise ValueError(f"Not a host: {self.host!r}")
        host = f"[{self.host}]" if ":" in self.host else self.host
        object.__setattr__(self, "text", f"{host}:{self.port}")
        object.__setattr__(self, "authority", self.text.encode())

    def __str__(self) -> str:
        return self.text


class UpstreamClient:
    """Sends requests to replicas and keeps their connections for the next request.

    Belongs to one event loop. Close it when done.

    Args:
        connect_timeout: seconds until an attempt to connect is given up.
        idle_timeout: seconds after which an unused connection is closed.
        max_idle: unused connections kept per address.
        high_water: bytes of a body held for a slow reader before the socket is read no further.
        max_header_bytes: the largest response head accepted, interim responses included.
        tls: speak TLS with this context.
        server_name: the name that certificates must carry; None for the address's host.
        forbidden: tells IP addresses to which nothing is sent. It is asked once the connection is
            there, because names are resolved in between, and may resolve otherwise each time.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 5.0,
        idle_timeout: float = 60.0,
        max_idle: int = 64,
        high_water: int = 64 * 1024,
        max_header_bytes: int = 64 * 1024,
        tls: SSLContext | None = None,
        server_name: str | None = None,
        forbidden: Callable[[str], bool] = is_forbidden_peer,
    ) -> None:
        self.idle_timeout = idle_timeout
        self.high_water = high_water
        self.max_header_bytes = max_header_bytes
        self._connect_timeout = connect_timeout
        self._max_idle = max_idle
        self._tls = tls
        self._server_name = server_name
        self._forbidden = forbidden
        self._closed = False
        self._connecting: set[asyncio.Timeout] = set()
        self._open: set[_Connection] = set()
        self._none_open = asyncio.Event()
        self._idle: dict[bytes, list[_Connection]] = {}  # by the addresses' authorities

    async def request(
        self,
        address: Address,
        method: bytes,
        path: bytes,
        headers: Headers,
        body: bytes,
        *,
        response_timeout: float | None,
        read_timeout: float | None = None,
        sent: UpstreamResponse | None = None,
    ) -> UpstreamResponse:
        """Send a request; return when the head of its response has arrived.

        A kept connection may be closed by the replica in the very moment that it is used again
        (llama.cpp's server does so after a few seconds or a hundred requests). If it ends before
        one byte of the response, the request is sent once more, on a fresh connection. That is
        safe enough here, POST or not: a replica that closes an idle connection has not read the
        request, and one that has read it and died holds no state that a second run could spoil;
        at worst it computes twice.

        A response that begins while a large body is still being sent ends the sending when it is
        a refusal (400 and above).

        Args:
            address: the replica.
            method: such as `b"POST"`.
            path: path and query, percent-encoded.
            headers: as sent; Host, Content-Length and connection handling are added here.
            body: the whole body.
            response_timeout: seconds from this call to the head, connecting included.
            read_timeout: seconds that a reader of the body waits for its next part.
            sent: what `begin` returned for the same request, which is not sent again then.

        Returns:
            The response. Use it as a context manager, or read it to its end, or `abort` it.

        Raises:
            ConnectFailed: the replica cannot be reached, or the client is closed.
            ConnectionLost: the connection ended before the head was complete.
            UpstreamTimeout: no head within `response_timeout`.
            BadResponse: the head is malformed or too large.
            ValueError: method, path or headers would break the message's form.
        """
        head = _encode_head(address, method, path, headers, len(body))
        deadline = inf
        if response_timeout is not None:
            deadline = asyncio.get_running_loop().time() + response_timeout
        idle = self._idle.get(address.authority)
        if sent is not None or idle:
            response = sent or UpstreamResponse(idle.pop(), method, read_timeout)  # type: ignore[union-attr]
            try:
                if sent is None:
                    await response._connection.exchange(response, head, body, deadline)
                await response._head_is_here()
            except ConnectionLost as lost:
                if self._closed or not lost.before_response:
                    raise
            else:
                return response
        response = UpstreamResponse(await self._connect(address, deadline), method, read_timeout)
        await response._connection.exchange(response, head, body, deadline)
        await response._head_is_here()
        return response

    def begin(
        self,
        address: Address,
        method: bytes,
        path: bytes,
        headers: Headers,
        body: bytes,
        *,
        response_timeout: float | None,
        read_timeout: float | None = None,
    ) -> UpstreamResponse | None:
        """Send a request at once, where a connection is idle; `request` says what the rest means.

        Returns:
            The response, of which nothing is there yet; give it to `request`, or have it call
            `on_news`. None where no connection is idle, and nothing was sent.
        """
        idle = self._idle.get(address.authority)
        if not idle or len(body) > AT_ONCE:
            return None
        head = _encode_head(address, method, path, headers, len(body))
        connection = idle.pop()
        deadline = inf if response_timeout is None else connection.loop.time() + response_timeout
        response = UpstreamResponse(connection, method, read_timeout)
        connection.send(response, head, body, deadline)
        return response

    async def close(self) -> None:
        """Close every connection; whoever waits on one gets an `UpstreamError`."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for timeout in self._connecting:
            if not timeout.expired():
                timeout.reschedule(now)
        for connection in list(self._open):
            connection.close("The client was closed.")
        while self._open:
            self._none_open.clear()
            await self._none_open.wait()

    async def _connect(self, address: Address, deadline: float) -> _Connection:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ConnectFailed("The client is closed.")
        timeout = asyncio.timeout_at(min(deadline, loop.time() + self._connect_timeout))
        self._connecting.add(timeout)
        try:
            async with timeout:
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, address, loop),
                    address.host,
                    address.port,
                    ssl=self._tls,
                    server_hostname=self._server_name if self._tls else None,
                )
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that no name can have
            reason = str(error) or "it took too long"
            raise ConnectFailed(f"Cannot connect to {address}: {reason}") from error
        finally:
            self._connecting.discard(timeout)
        if self._closed:
            connection.close("The client was closed.")
        elif self._forbidden(connection.peer):
            connection.close("Nothing is sent there.")
            raise ConnectFailed(f"{address} leads to where no model server can be.")
        if connection.closed:
            raise ConnectionLost("The connection ended as it began.", before_response=True)
        # Not before: cancelled late, uvloop closes a new connection and does not tell it.
        self._open.add(connection)
        return connection

    def _keep(self, connection: _Connection) -> bool:
        """Put a connection back for the next request, unless enough wait already."""
        idle = self._idle.setdefault(connection.address.authority, [])
        if self._closed or len(idle) >= self._max_idle:
            return False
        idle.append(connection)
        return True

    def _withdraw(self, connection: _Connection) -> None:
        """Stop handing out a connection, and forget an address that has none left."""
        idle = self._idle.get(connection.address.authority)
        if idle is not None:
            if connection in idle:
                idle.remove(connection)
            if not idle:
                del self._idle[connection.address.authority]

    def _gone(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()


class UpstreamResponse:
    """A response whose head is here and whose body arrives while it is read.

    Iterate over it, or `read` it, from one task. Leaving it as a context manager before the end
    of the body closes the connection.

    Attributes:
        status: the final status; interim ones (1xx) are skipped.
        headers: name (lower case) and value, in the order received, without trailers.
        on_news: called by whatever happens to the response, where nobody waits for it.
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_connection",
        "_error",
        "_head_size",
        "_method",
        "_read_timeout",
        "_receiving",
        "_waiter",
        "headers",
        "on_news",
        "status",
    )

    def __init__(
        self, connection: _Connection, method: bytes, read_timeout: float | None = None
    ) -> None:
        self.status = 0  # until the head is complete
        self.headers: list[tuple[bytes, bytes]] = []
        self._connection = connection  # ours only while `_receiving`
        self._method = method
        self._read_timeout = read_timeout
        self._receiving = True
        self._error: UpstreamError | None = None
        self._head_size = 0
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None
        self.on_news: Callable[[], None] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of it has arrived; it may not have been taken yet."""
        return not self._receiving and self._error is None

    @property
    def has_failed(self) -> bool:
        """Whether no more of it will arrive."""
        return self._error is not None

    @property
    def held(self) -> int:
        """Bytes of the body that have arrived and were not taken."""
        return self._buffered

    def take(self) -> bytes:
        """Return what has arrived of the body since the last call, if anything."""
        return self._take() if self._chunks else b""

    def expect_more(self) -> None:
        """Fail the response unless some more of its body arrives in time."""
        if self._read_timeout is not None:
            connection = self._connection
            connection.expect_by(connection.loop.time() + self._read_timeout)

    async def read(self, limit: int, on_part: Callable[[int], None] | None = None) -> bytes:
        """Return the whole body, or what is left of it.

        Args:
            limit: the largest body accepted, in bytes.
            on_part: told of the size of each part that is held from now on.

        Raises:
            BadResponse: the body is larger, or malformed.
            ConnectionLost: the replica ended the connection before the body's end.
            UpstreamTimeout: a part did not arrive within `read_timeout`.
        """
        if self._buffered > limit:
            raise self._too_large(limit)
        parts: list[bytes] = []
        size = 0
        async for part in self:
            size += len(part)
            if size > limit:
                raise self._too_large(limit)
            if on_part is not None:
                on_part(len(part))
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return all of the body that arrived since the last call, at least one byte.

        Raises:
            StopAsyncIteration: the body is complete.
            ConnectionLost: the replica ended the connection before the body's end.
            UpstreamTimeout: nothing arrived within `read_timeout`.
            BadResponse: the body is malformed.
        """
        while not self._chunks:
            if not self._receiving:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self.expect_more()
            await self._wait()
        return self._take()

    async def _head_is_here(self) -> None:
        """Wait for the head. Raises UpstreamError where none will come."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    def abort(self) -> None:
        """Close the connection so that the replica notices at once; does nothing after the end."""
        if self._receiving:
            self._connection.close("The request was aborted here.")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()

    async def _wait(self) -> None:
        """Sleep until anything happens to the response; if cancelled, close the connection."""
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        except BaseException:
            self.abort()
            raise

    def _wake(self) -> None:
        if self.on_news is not None:
            self.on_news()
            return
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _finish(self, error: UpstreamError | None) -> None:
        self._receiving = False
        self._error = error

    def _take(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered = 0
        if self._receiving:
            self._connection.resume_reading()
        return data

    def _too_large(self, limit: int) -> BadResponse:
        self.abort()
        self._chunks.clear()
        self._error = BadResponse(f"The body is larger than {limit} bytes.")
        return self._error


class _Connection(asyncio.Protocol):
    """One socket: sends a request, parses its response, and looks after its own timer.

    `_response` is the exchange in progress, None while the connection is idle or closed. The
    parser's callbacks check it, because a close does not stop the parser inside a block of data.
    """

    __slots__ = (
        "_client",
        "_deadline",
        "_parser",
        "_parsing",
        "_reading_paused",
        "_response",
        "_reusable",
        "_sending",
        "_timer",
        "_timer_at",
        "_transport",
        "_until_close",
        "_writing_paused",
        "address",
        "closed",
        "loop",
    )

    _transport: asyncio.Transport

    def __init__(
        self, client: UpstreamClient, address: Address, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.address = address
        self.loop = loop
        self._client = client
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._response: UpstreamResponse | None = None
        self.closed = False
        self._parsing = False
        self._sending = False
        self._reusable = False
        self._until_close = False
        self._reading_paused = False
        self._writing_paused = False
        self._deadline = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    # What the client and the response ask for

    def send(self, response: UpstreamResponse, head: bytes, body: bytes, deadline: float) -> None:
        """Send a request in one piece; `exchange` says what the arguments are."""
        self._response = response
        self.expect_by(deadline)
        self._transport.write(head + body if body else head)

    async def exchange(
        self, response: UpstreamResponse, head: bytes, body: bytes, deadline: float
    ) -> None:
        """Send a request, no faster than the replica takes it.

        Args:
            response: is filled.
            head: the encoded request head.
            body: the request body.
            deadline: the loop's time at which the head must be here.
        """
        if len(body) <= AT_ONCE:
            self.send(response, head, body, deadline)
            return
        self._response = response
        self.expect_by(deadline)
        await self._send_in_slices(response, head, body)

    def resume_reading(self) -> None:
        """Read on after a pause for a slow reader."""
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def close(self, reason: str | UpstreamError) -> None:
        """Hang up, and tell whoever waits for the response why.

        Args:
            reason: a sentence for `ConnectionLost`, or another error.
        """
        if self.closed:
            return
        self.closed = True
        self._client._withdraw(self)
        if self._timer is not None:
            self._timer.cancel()
        _hang_up(self._transport)
        response, self._response = self._response, None
        if response is not None:
            response._finish(
                reason
                if isinstance(reason, UpstreamError)
                else ConnectionLost(reason, before_response=not response._head_size)
            )
            if not self._parsing:
                response._wake()

    # Sending

    async def _send_in_slices(self, response: UpstreamResponse, head: bytes, body: bytes) -> None:
        """Send no faster than the replica reads, until it answers.

        A body that is not sent to its end leaves `_sending` set: no other request may follow it.
        """
        self._sending = True
        self._transport.write(head)
        rest = memoryview(body)
        while rest:
            while self._writing_paused and response._receiving and not response.status:
                await response._wait()
            if not response._receiving or response.status >= 400:
                return
            self._transport.write(rest[:_SLICE])
            rest = rest[_SLICE:]
        self._sending = False

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._response is not None:
            self._response._wake()

    # The life of the socket

    @property
    def peer(self) -> str:
        """The IP address of the other end; empty where the connection ended already."""
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's is a Transport

    def data_received(self, data: bytes) -> None:
        response, parser = self._response, self._parser
        if response is None or parser is None:
            self.close("The replica spoke without being asked.")
            return
        if not response.status:
            response._head_size += len(data)
        self._parsing = True
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.close(BadResponse(f"Not HTTP/1.1: {error}"))
        else:
            if not response.status and response._head_size > self._client.max_header_bytes:
                self.close(BadResponse("The response head is too large."))
        finally:
            self._parsing = False
        response._wake()  # once for all that arrived together

    def eof_received(self) -> None:
        response = self._response
        if response is not None and response.status and self._until_close:
            self._complete(response)
            response._wake()
        else:
            self.close("The replica closed the connection.")

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(f"The connection broke: {exc}" if exc else "The connection was closed.")
        self._parser = None  # it refers to this object's methods
        self._client._gone(self)

    # What the parser finds

    def on_message_begin(self) -> None:
        if self._response is None:
            raise HttpParserError("data after the end of the response")

    def on_header(self, name: bytes, value: bytes) -> None:
        response = self._response
        if response is not None and not response.status:  # else it is a trailer
            response.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        response, parser = self._response, self._parser
        if response is None or parser is None:
            return
        status = parser.get_status_code()
        if status < 200:
            response.headers.clear()
            if status < 100 or status == 101:
                self.close(BadResponse(f"Unexpected status {status}."))
            return
        if response._head_size > self._client.max_header_bytes and (
            _size(response.headers) > self._client.max_header_bytes
        ):
            self.close(BadResponse("The response head is too large."))
            return
        self._deadline = inf
        self._reusable = parser.should_keep_alive()
        self._until_close = not self._reusable and not _delimited(response.headers)
        response.status = status
        if response._method == b"HEAD":
            # The parser cannot be told that no body follows, so it must not see another response.
            self._reusable = False
            self._complete(response)

    def on_body(self, data: bytes) -> None:
        response = self._response
        if response is None:
            return
        self._deadline = inf
        response._chunks.append(data)
        response._buffered += len(data)
        if response._buffered > self._client.high_water and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        response = self._response
        if response is not None and response.status:  # else it was an interim response
            self._complete(response)

    def _complete(self, response: UpstreamResponse) -> None:
        """Let go of a response that arrived in full, and wait for the next request or close."""
        self._response = None
        response._finish(None)
        if self._reusable and not self._sending and self._client._keep(self):
            self.resume_reading()  # an idle connection listens for the replica's goodbye
            self.expect_by(self.loop.time() + self._client.idle_timeout)
        else:
            self.close("The response is complete.")

    # One timer for everything that is waited for

    def expect_by(self, deadline: float) -> None:
        """Set when patience ends: for a head, for more of a body, or for the next request.

        Setting a later time leaves the running timer alone; it looks at the time when it fires.
        So a busy connection makes one timer per timeout's length, not two per request.
        """
        self._deadline = deadline
        if deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self.loop.call_at(deadline, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._timer_at = inf
        if self.loop.time() < self._deadline:
            self.expect_by(self._deadline)
        elif self._response is None:
            self.close("The connection was idle for too long.")
        else:
            what = "more of the body" if self._response.status else "the response head"
            self.close(UpstreamTimeout(f"Waited too long for {what}."))


def _encode_head(
    address: Address, method: bytes, path: bytes, headers: Headers, length: int
) -> bytes:
    """Return the request head, or raise ValueError where it would mean another message.

    The whole head is checked at once: it must hold the line ends written here and no others.
    """
    _check_names(tuple(map(_NAME, headers)))
    has_length = length or method not in _BODILESS
    lines = [b"Content-Length: %d" % length] if has_length else []
    lines += map(b": ".join, headers)
    lines += (b"", b"")
    rest = b"\r\n".join(lines)
    _check_lines(rest, len(lines) - 1)
    return _encode_start(address.authority, method, path) + rest


@lru_cache(maxsize=1024)  # most requests are for the same few
def _encode_start(authority: bytes, method: bytes, path: bytes) -> bytes:
    if not method.isalpha() or not path or b" " in path:
        raise ValueError("Method or path would break the request line.")
    start = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, path, authority)
    _check_lines(start, 2)
    return start


def _check_lines(text: bytes, ends: int) -> None:
    if text.count(b"\n") != ends or text.count(b"\r") != ends or b"\0" in text:
        raise ValueError("Path or headers contain CR, LF or NUL.")


@lru_cache(maxsize=64)  # nearly all requests have the same
def _check_names(given: tuple[bytes, ...]) -> None:
    """Raise ValueError for names of headers that would mean another message."""
    names = [name.lower() for name in given]
    if not MANAGED_HEADERS.isdisjoint(names):
        raise ValueError(f"The client writes {MANAGED_HEADERS.intersection(names)} itself.")
    if b"" in names or b"".join(names).translate(None, _TOKEN):
        raise ValueError("A header name is not a token.")


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _delimited(headers: Headers) -> bool:
    """Whether the head says where the body ends; else the end of the connection does."""
    return any(
        name == b"content-length"
        or (name == b"transfer-encoding" and value.lower().endswith(b"chunked"))
        for name, value in headers
    )


def _hang_up(transport: asyncio.Transport) -> None:
    """Close a socket at once and so that the peer reads an end instead of an error.

    Closing a socket that holds unread data makes the kernel send RST in place of FIN, and
    llama.cpp's server does not notice an RST while it computes. So the FIN goes first, and what
    has arrived already is read and dropped. Data that the peer sends later is answered with RST,
    which is what ends a peer that writes without looking.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError), sock.dup() as own:
            own.shutdown(socket.SHUT_WR)
            for _ in range(_DISCARD_ROUNDS):  # a peer that sends faster gets its RST
                if not own.recv(_SLICE):
                    break
    transport.abort()
