"""The client against servers that send exactly the bytes written here, over real sockets."""

import asyncio
import functools
import gc
import inspect
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from inferno.gateway.upstream import (
    Address,
    BadResponse,
    ConnectFailed,
    ConnectionLost,
    UpstreamClient,
    UpstreamError,
    UpstreamResponse,
    UpstreamTimeout,
    _Connection,
)

AT_ONCE = 0.2
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on asyncio's loop and on uvloop; fail it for anything left behind."""

    @functools.wraps(test)
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        problems: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, p: problems.append(p))
            async with asyncio.timeout(30):
                await test(**arguments)
            gc.collect()
            await asyncio.sleep(0)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
        gc.collect()
        assert problems == []

    old = inspect.signature(test)
    loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    new = old.replace(parameters=[*old.parameters.values(), loop])
    run.__signature__ = new  # type: ignore[attr-defined]
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    marked: Callable[..., None] = pytest.mark.parametrize(
        "new_loop", loops, ids=["asyncio", "uvloop"]
    )(run)
    return marked


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        if b"content-length: " not in lower:
            return head
        length = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
        return head + await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ending(self) -> str:
        """Wait until the client is gone and say how it looks from here."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionResetError:
            return "RST"
        return "FIN"

    def reset(self) -> None:
        """Leave with an RST in place of a FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


class Server:
    """Runs a script for every connection and counts what arrives."""

    def __init__(self, script: Callable[[Peer], Awaitable[None]]) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.failure: BaseException | None = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._script(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as error:
            self.failure = error
        finally:
            writer.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.01)  # let the transports close
        if self.failure is not None:
            raise self.failure


@asynccontextmanager
async def talk(
    script: Callable[[Peer], Awaitable[None]], **settings: Any
) -> AsyncIterator[tuple[UpstreamClient, Server]]:
    async with Server(script) as server:
        client = UpstreamClient(**settings)
        try:
            yield client, server
        finally:
            await client.close()


def answer(*responses: bytes) -> Callable[[Peer], Awaitable[None]]:
    """A server that gives these responses in turn on each connection, then hangs up."""

    async def script(peer: Peer) -> None:
        for response in responses:
            await peer.request()
            await peer.send(response)

    return script


async def forever(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(OK)


async def post(
    client: UpstreamClient, address: Address, body: bytes = b"{}", **options: Any
) -> UpstreamResponse:
    options.setdefault("response_timeout", 5)
    return await client.request(address, b"POST", b"/v1/x", [(b"accept", b"*/*")], body, **options)


async def fetch(client: UpstreamClient, address: Address, **options: Any) -> bytes:
    async with await post(client, address, **options) as response:
        return await response.read(1_000_000)


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it did not happen")


def idle(client: UpstreamClient) -> int:
    return sum(len(connections) for connections in client._idle.values())


# What is sent


@both_loops
async def test_nothing_is_sent_to_where_no_server_can_be() -> None:
    asked: list[str] = []

    def forbidden(host: str) -> bool:
        asked.append(host)
        return True

    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        heard.put_nowait(await peer.reader.read())

    async with talk(script, forbidden=forbidden) as (client, server):
        named = Address("localhost", server.address.port)
        for address in (server.address, named):
            with pytest.raises(ConnectFailed, match="where no model server can be"):
                await client.request(address, b"GET", b"/", (), b"", response_timeout=5)
        assert [await heard.get(), await heard.get()] == [b"", b""]
    assert asked == ["127.0.0.1", "127.0.0.1"]


@both_loops
async def test_the_request_as_the_server_sees_it() -> None:
    requests: list[bytes] = []

    async def script(peer: Peer) -> None:
        for _ in range(3):
            requests.append(await peer.request())
            await peer.send(OK)

    async with talk(script) as (client, server):
        host = b"Host: 127.0.0.1:%d\r\n" % server.address.port
        headers = [(b"Content-Type", b"application/json"), (b"x-y", b"")]
        for method, body in [(b"POST", b"{}"), (b"POST", b""), (b"GET", b"")]:
            response = await client.request(
                server.address, method, b"/a?b=c", headers, body, response_timeout=5
            )
            assert await response.read(2) == b"ok"
    tail = b"Content-Type: application/json\r\nx-y: \r\n\r\n"
    assert requests == [
        b"POST /a?b=c HTTP/1.1\r\n" + host + b"Content-Length: 2\r\n" + tail + b"{}",
        b"POST /a?b=c HTTP/1.1\r\n" + host + b"Content-Length: 0\r\n" + tail,
        b"GET /a?b=c HTTP/1.1\r\n" + host + tail,
    ]


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        (b"GET", b"/a\r\nx: y", (b"a", b"b")),
        (b"GET", b"/a\nb", (b"a", b"b")),
        (b"GET", b"/a\0", (b"a", b"b")),
        (b"GET", b"/a HTTP/1.1", (b"a", b"b")),
        (b"GET", b"", (b"a", b"b")),
        (b"GET /", b"/", (b"a", b"b")),
        (b"GET", b"/", (b"a\r\nc", b"b")),
        (b"GET", b"/", (b"a\n", b"b")),
        (b"GET", b"/", (b"a:", b"b")),
        (b"GET", b"/", (b"a ", b"b")),
        (b"GET", b"/", (b"", b"b")),
        (b"GET", b"/", (b"a", b"b\r\nc: d")),
        (b"GET", b"/", (b"a", b"b\rc")),
        (b"GET", b"/", (b"a", b"b\nc")),
        (b"GET", b"/", (b"a", b"b\0c")),
        (b"GET", b"/", (b"Transfer-Encoding", b"chunked")),
        (b"GET", b"/", (b"Content-length", b"7")),
        (b"GET", b"/", (b"HOST", b"elsewhere")),
        (b"GET", b"/", (b"connection", b"close")),
    ],
)
async def test_what_would_change_the_message_is_refused(
    method: bytes, path: bytes, header: tuple[bytes, bytes]
) -> None:
    client = UpstreamClient()
    with pytest.raises(ValueError, match=r".+"):
        await client.request(
            Address("127.0.0.1", 1), method, path, [header], b"", response_timeout=1
        )
    await client.close()


@pytest.mark.parametrize("host", ["", "a\r\nb", "a b", "a\0"])
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(ValueError, match="Not a host"):
        Address(host, 80)


def test_address_as_text() -> None:
    assert str(Address("::1", 80)) == "[::1]:80"
    assert Address("a", 1) == Address("a", 1)
    assert hash(Address("a", 1)) == hash(Address("a", 1))


@both_loops
async def test_a_large_body_is_sent_no_faster_than_it_is_read() -> None:
    body = bytes(range(256)) * 40_000  # 10 MB
    go = asyncio.Event()
    received: list[bytes] = []

    async def script(peer: Peer) -> None:
        await go.wait()
        received.append(await peer.request())
        await peer.send(OK)
        await forever(peer)

    async with talk(script) as (client, server):
        task = asyncio.ensure_future(fetch(client, server.address, body=body))
        await asyncio.sleep(0.1)
        (connection,) = client._open
        assert connection._transport.get_write_buffer_size() < 256 * 1024
        go.set()
        assert await task == b"ok"
        assert await fetch(client, server.address) == b"ok"  # the connection is still good
    assert received[0].endswith(body)
    assert server.connections == 1


@both_loops
async def test_a_refusal_ends_the_sending_of_a_large_body() -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(refusal)
        await asyncio.sleep(0.2)

    async with talk(script) as (client, server):
        async with await post(client, server.address, body=bytes(50_000_000)) as response:
            assert response.status == 413
            assert await response.read(10) == b"no"
        assert idle(client) == 0


@both_loops
async def test_a_large_body_goes_on_after_an_early_success() -> None:
    size = 20_000_000
    received: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(CHUNKED)
        received.append(len(await peer.reader.readexactly(size)))
        await peer.send(b"2\r\nok\r\n0\r\n\r\n")

    async with talk(script) as (client, server):
        assert await fetch(client, server.address, body=bytes(size)) == b"ok"
    assert received == [size]


# What comes back

BODIES = {
    "content-length": b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
    "chunked": CHUNKED + b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n",
    "chunked in capitals": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"B\r\nhello world\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"b\r\nhello world\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
    "1.0 kept": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 11\r\n\r\n"
    b"hello world",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
}
LAST_BODIES = {
    "until close": b"HTTP/1.1 200 OK\r\n\r\nhello world",
    "until close, named": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello world",
    "until close, other coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nhello world",
    "connection: close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 11\r\n\r\n"
    b"hello world",
    "1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
    "1.0 until close": b"HTTP/1.0 200 OK\r\n\r\nhello world",
}


@pytest.mark.parametrize("kind", BODIES)
@both_loops
async def test_bodies_that_leave_the_connection_usable(kind: str) -> None:
    async with talk(answer(*[BODIES[kind]] * 3)) as (client, server):
        for _ in range(3):
            async with await post(client, server.address) as response:
                assert response.status == 200
                assert await response.read(11) == b"hello world"
                assert b"x-sum" not in dict(response.headers)
                assert b"link" not in dict(response.headers)
        assert server.connections == 1


@pytest.mark.parametrize("kind", LAST_BODIES)
@both_loops
async def test_bodies_that_end_the_connection(kind: str) -> None:
    async with talk(answer(LAST_BODIES[kind])) as (client, server):
        for _ in range(3):
            assert await fetch(client, server.address) == b"hello world"
        assert server.connections == 3
        assert idle(client) == 0


@pytest.mark.parametrize("kind", [*BODIES, *LAST_BODIES])
async def test_a_response_cut_in_two_at_every_byte(kind: str) -> None:
    """The pieces are fed to the connection directly: a socket would join some of them."""
    raw = (BODIES | LAST_BODIES)[kind]

    async with talk(lambda peer: asyncio.sleep(60)) as (client, server):
        for pieces in [
            *([raw[:place], raw[place:]] for place in range(1, len(raw))),
            [bytes([byte]) for byte in raw],
        ]:
            task = asyncio.ensure_future(fetch(client, server.address))
            await eventually(lambda: any(c._response is not None for c in client._open))
            (busy,) = [c for c in client._open if c._response is not None]
            for piece in pieces:
                busy.data_received(piece)
                await asyncio.sleep(0)
            if kind in LAST_BODIES:
                busy.eof_received()
            assert await task == b"hello world"


@both_loops
async def test_headers_as_they_come() -> None:
    raw = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nX-Empty:\r\nSET-COOKIE: b \t\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    async with talk(answer(raw)) as (client, server):
        response = await post(client, server.address)
        assert response.headers == [
            (b"set-cookie", b"a"),
            (b"x-empty", b""),
            (b"set-cookie", b"b"),
            (b"content-length", b"0"),
        ]
        assert [chunk async for chunk in response] == []
        assert await response.read(0) == b""


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@both_loops
async def test_statuses_without_a_body(status: bytes) -> None:
    raw = b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n"
    async with talk(answer(raw, raw)) as (client, server):
        for _ in range(2):
            assert await fetch(client, server.address) == b""
        assert server.connections == 1


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"A: b"])
@both_loops
async def test_head_has_no_body(framing: bytes) -> None:
    raw = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n"

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(raw)
        assert await peer.ending() == "FIN"

    async with talk(script) as (client, server):
        for _ in range(2):
            async with await client.request(
                server.address, b"HEAD", b"/", [], b"", response_timeout=5
            ) as response:
                assert await response.read(0) == b""


@pytest.mark.parametrize("garbage", [b"X", b"HTTP/1.1 2", OK, b"\0"])
@pytest.mark.parametrize("pause", [0, 0.05])
@both_loops
async def test_a_connection_with_data_after_the_end_is_not_used_again(
    garbage: bytes, pause: float
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if pause:
            await peer.send(OK)
            await asyncio.sleep(pause)
            await peer.send(garbage)
        else:
            await peer.send(OK + garbage)
        await peer.ending()

    async with talk(script) as (client, server):
        assert await fetch(client, server.address) == b"ok"
        async with asyncio.timeout(10):
            while idle(client):  # noqa: ASYNC110 - until what came late has been seen
                await asyncio.sleep(0.01)
        assert await fetch(client, server.address) == b"ok"
        assert server.connections == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 5000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 500,
    ],
)
@both_loops
async def test_heads_that_are_refused(raw: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(raw)
        await asyncio.wait_for(peer.ending(), 1)

    async with talk(script, max_header_bytes=4096) as (client, server):
        with pytest.raises(BadResponse):
            await post(client, server.address)
        assert idle(client) == 0
        assert server.connections == 1


@both_loops
async def test_a_small_head_before_a_large_body_is_accepted() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50_000)
    async with talk(answer(raw), max_header_bytes=1000) as (client, server):
        assert len(await fetch(client, server.address)) == 50_000


@both_loops
async def test_a_malformed_body() -> None:
    async with talk(answer(CHUNKED + b"2\r\nok\r\nzz\r\n")) as (client, server):
        with pytest.raises(BadResponse):
            await fetch(client, server.address)


@pytest.mark.parametrize("length", [10_000, 10_000_000])
@both_loops
async def test_a_body_over_the_limit(length: int) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + bytes(length)
    async with talk(answer(raw)) as (client, server):
        response = await post(client, server.address)
        with pytest.raises(BadResponse, match="larger than 9999 bytes"):
            await response.read(9_999)
        with pytest.raises(BadResponse):
            await anext(response)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "start",
    [CHUNKED + b"2\r\nok\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"],
)
@both_loops
async def test_a_replica_that_disappears_inside_a_body(start: bytes, reset: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(start)
        await asyncio.sleep(0.05)
        if reset:
            peer.reset()

    async with talk(script) as (client, server):
        response = await post(client, server.address)
        assert await anext(response) == b"ok"
        for _ in range(2):
            with pytest.raises(ConnectionLost) as lost:
                await anext(response)
            assert not lost.value.before_response


@both_loops
async def test_an_unlimited_body_that_is_reset_is_not_taken_for_whole() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nok")
        await asyncio.sleep(0.05)
        peer.reset()

    async with talk(script) as (client, server):
        with pytest.raises(ConnectionLost):
            await fetch(client, server.address)


@both_loops
async def test_what_arrived_meanwhile_is_one_chunk() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(3):
            await peer.send(b"2\r\nab\r\n2\r\ncd\r\n")
            await asyncio.sleep(0.1)
        await peer.send(b"0\r\n\r\n")

    async with talk(script) as (client, server):
        response = await post(client, server.address)
        assert [chunk async for chunk in response] == [b"abcd"] * 3
        assert [chunk async for chunk in response] == []
        assert idle(client) == 1


# Kept connections


@both_loops
async def test_a_kept_connection_that_dies_is_replaced_once() -> None:
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        await peer.request()
        requests += 1
        await peer.send(OK)
        await peer.request()  # takes the second request, and leaves without a word
        requests += 1

    async with talk(script) as (client, server):
        for _ in range(4):
            assert await fetch(client, server.address) == b"ok"
        assert server.connections == 4
        assert requests == 7


@both_loops
async def test_a_request_is_not_sent_a_third_time() -> None:
    async def script(peer: Peer) -> None:
        if server.connections == 1:
            await peer.request()
            await peer.send(OK)
        await peer.request()

    async with talk(script) as (client, server):
        assert await fetch(client, server.address) == b"ok"
        with pytest.raises(ConnectionLost) as lost:
            await post(client, server.address)
        assert lost.value.before_response
        assert server.connections == 2


@pytest.mark.parametrize("reset", [False, True])
@both_loops
async def test_a_fresh_connection_that_dies_is_not_replaced(reset: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if reset:
            peer.reset()

    async with talk(script) as (client, server):
        with pytest.raises(ConnectionLost) as lost:
            await post(client, server.address)
        assert lost.value.before_response
        assert server.connections == 1


@both_loops
async def test_a_server_that_accepts_and_hangs_up() -> None:
    async def script(peer: Peer) -> None:
        pass

    async with talk(script) as (client, server):
        for _ in range(20):
            with pytest.raises(ConnectionLost):
                await post(client, server.address)
        assert server.connections == 20


@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
@both_loops
async def test_nothing_is_sent_again_after_one_byte_of_a_response(part: bytes) -> None:
    async with talk(answer(OK, part)) as (client, server):
        assert await fetch(client, server.address) == b"ok"
        with pytest.raises(ConnectionLost) as lost:
            await post(client, server.address)
        assert not lost.value.before_response
        assert server.connections == 1


@both_loops
async def test_a_connection_closed_while_idle_is_dropped() -> None:
    async with talk(answer(OK)) as (client, server):
        assert await fetch(client, server.address) == b"ok"
        await eventually(lambda: not client._open)
        assert client._idle == {}


@both_loops
async def test_idle_connections_expire() -> None:
    endings: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        endings.append(await peer.ending())

    async with talk(script, idle_timeout=0.3) as (client, server):
        assert await fetch(client, server.address) == b"ok"
        await asyncio.sleep(0.05)
        assert idle(client) == 1
        await eventually(lambda: endings == ["FIN"])
        assert client._idle == {}


@both_loops
async def test_use_postpones_expiry() -> None:
    async with talk(forever, idle_timeout=0.4) as (client, server):
        for _ in range(5):
            assert await fetch(client, server.address) == b"ok"
            await asyncio.sleep(0.15)
        assert server.connections == 1


@both_loops
async def test_the_last_connection_returned_is_the_first_used() -> None:
    async def script(peer: Peer) -> None:
        name = b"%d" % server.connections
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + name)

    async with talk(script) as (client, server):
        first, second = await asyncio.gather(*(post(client, server.address) for _ in range(2)))
        names = {await first.read(1), await second.read(1)}
        assert names == {b"1", b"2"}
        last = client._idle[server.address.authority][-1]
        response = await post(client, server.address)
        assert response._connection is last


@both_loops
async def test_no_more_than_max_idle_are_kept() -> None:
    async with talk(forever, max_idle=2) as (client, server):
        await asyncio.gather(*(fetch(client, server.address) for _ in range(8)))
        assert idle(client) == 2


@both_loops
async def test_leaving_before_the_end_closes() -> None:
    ending: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"2\r\nok\r\n")
        ending.set_result(await peer.ending())

    async with talk(script) as (client, server):
        async with await post(client, server.address) as response:
            assert await anext(response) == b"ok"
        assert await asyncio.wait_for(ending, AT_ONCE) == "FIN"
        assert idle(client) == 0
        response.abort()
        with pytest.raises(ConnectionLost):
            await anext(response)


@both_loops
async def test_a_body_that_came_whole_need_not_be_read() -> None:
    async with talk(forever) as (client, server):
        for _ in range(3):
            async with await post(client, server.address):
                await asyncio.sleep(0.01)
        assert server.connections == 1


# Waiting


async def silence(peer: Peer) -> None:
    await peer.ending()


@both_loops
async def test_no_head_in_time() -> None:
    async with talk(silence) as (client, server):
        start = time.monotonic()
        with pytest.raises(UpstreamTimeout, match="head"):
            await post(client, server.address, response_timeout=0.1)
        assert 0.09 < time.monotonic() - start < 2
        assert server.connections == 1


@both_loops
async def test_a_drip_of_head_does_not_extend_the_time() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0.03)

    async with talk(script) as (client, server):
        with pytest.raises(UpstreamTimeout):
            await post(client, server.address, response_timeout=0.15)


@both_loops
async def test_no_head_in_time_on_a_kept_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.ending()

    async with talk(script) as (client, server):
        assert await fetch(client, server.address) == b"ok"
        with pytest.raises(UpstreamTimeout):
            await post(client, server.address, response_timeout=0.1)
        assert server.connections == 1


@both_loops
async def test_a_request_nobody_reads_times_out() -> None:
    async def script(peer: Peer) -> None:
        await asyncio.sleep(60)

    async with talk(script) as (client, server):
        with pytest.raises(UpstreamTimeout):
            await post(client, server.address, body=bytes(50_000_000), response_timeout=0.2)


@both_loops
async def test_read_timeout_counts_waiting_only() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(5):
            await peer.send(b"2\r\nok\r\n")
            await asyncio.sleep(0.05)
        await peer.ending()

    async with talk(script) as (client, server):
        response = await post(client, server.address, read_timeout=0.15)
        for _ in range(4):
            assert await anext(response) == b"ok"
        await asyncio.sleep(0.3)  # a slow reader is not the replica's fault
        assert await anext(response) == b"ok"
        start = time.monotonic()
        with pytest.raises(UpstreamTimeout, match="body"):
            await anext(response)
        assert 0.1 < time.monotonic() - start < 2


@both_loops
async def test_the_idle_time_applies_after_a_read_timeout_was_set() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        await asyncio.sleep(0.02)
        await peer.send(b"2\r\nok\r\n0\r\n\r\n")
        await peer.ending()

    async with talk(script, idle_timeout=0.3) as (client, server):
        assert await fetch(client, server.address, read_timeout=0.1) == b"ok"
        await asyncio.sleep(0.15)
        assert idle(client) == 1
        await eventually(lambda: idle(client) == 0)


@both_loops
async def test_a_slow_server() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for byte in CHUNKED + b"2\r\nok\r\n0\r\n\r\n":
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.002)

    async with talk(script) as (client, server):
        assert await fetch(client, server.address) == b"ok"


@both_loops
async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = UpstreamClient()
        with pytest.raises(ConnectFailed, match="Cannot connect to 127"):
            await post(client, Address("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(ConnectFailed):
            await post(client, Address("x" * 70 + ".invalid", 80))
        await client.close()


@asynccontextmanager
async def full_backlog() -> AsyncIterator[Address]:
    """A port where connecting takes forever, because its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield Address("127.0.0.1", listener.getsockname()[1])
        for filler in fillers:
            filler.close()


@both_loops
async def test_connecting_takes_too_long() -> None:
    async with full_backlog() as address:
        client = UpstreamClient(connect_timeout=0.1)
        start = time.monotonic()
        with pytest.raises(ConnectFailed, match="too long"):
            await post(client, address)
        assert time.monotonic() - start < 2
        client_two = UpstreamClient()
        with pytest.raises(ConnectFailed):
            await post(client_two, address, response_timeout=0.1)
        await client.close()
        await client_two.close()


# Cancelling


async def cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@both_loops
async def test_cancelled_while_connecting() -> None:
    async with full_backlog() as address:
        client = UpstreamClient()
        task = asyncio.ensure_future(post(client, address))
        await asyncio.sleep(0.05)
        await cancel(task)
        assert not client._open
        assert not client._connecting
        await client.close()


@pytest.mark.parametrize("turns", range(12))
@both_loops
async def test_cancelled_at_any_turn_of_the_loop(turns: int) -> None:
    async with talk(forever) as (client, server):
        task = asyncio.ensure_future(fetch(client, server.address))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        # Nothing is neither closed nor usable.
        await eventually(lambda: len(client._open) == idle(client) == len(server._tasks))
        assert await fetch(client, server.address) == b"ok"


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("body", [b"{}", bytes(50_000_000)])
@both_loops
async def test_cancelled_before_the_head(kept: bool, body: bytes) -> None:
    ending: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        if kept:
            await peer.request()
            await peer.send(OK)
        await peer.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.1)
        ending.set_result(await peer.ending())

    async with talk(script) as (client, server):
        if kept:
            assert await fetch(client, server.address) == b"ok"
        task = asyncio.ensure_future(post(client, server.address, body=body))
        await asyncio.sleep(0.1)
        await cancel(task)
        assert await asyncio.wait_for(ending, AT_ONCE) == "FIN"
        assert server.connections == 1
        assert idle(client) == 0


@both_loops
async def test_cancelled_inside_the_body() -> None:
    ending: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"2\r\nok\r\n")
        ending.set_result(await peer.ending())

    async with talk(script) as (client, server):
        task = asyncio.ensure_future(fetch(client, server.address, read_timeout=10))
        await asyncio.sleep(0.05)
        await cancel(task)
        assert await asyncio.wait_for(ending, AT_ONCE) == "FIN"
        await eventually(lambda: not client._open)


@both_loops
async def test_unread_data_does_not_turn_the_end_into_a_reset() -> None:
    seen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + (b"3e8\r\n" + bytes(1000) + b"\r\n") * 400)
        with peer.writer.get_extra_info("socket").dup() as sock:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            while not seen.done():  # as a server does that looks up between two tokens
                try:
                    seen.set_result(sock.recv(1, socket.MSG_PEEK))
                except BlockingIOError:
                    await asyncio.sleep(0.01)

    async with talk(script, high_water=1000) as (client, server):
        response = await post(client, server.address)
        await asyncio.sleep(0.1)
        response.abort()
        assert await asyncio.wait_for(seen, AT_ONCE) == b""


@both_loops
async def test_a_server_that_only_writes_notices_too() -> None:
    noticed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            while True:
                await peer.send(b"3e8\r\n" + bytes(1000) + b"\r\n")
        except ConnectionError:
            noticed.set_result(None)

    async with talk(script) as (client, server):
        response = await post(client, server.address)
        await asyncio.sleep(0.1)  # the server is stuck now, in full buffers
        response.abort()
        await asyncio.wait_for(noticed, AT_ONCE)


@both_loops
async def test_an_abort_wakes_the_reader() -> None:
    async with talk(answer(CHUNKED)) as (client, server):
        response = await post(client, server.address)
        reader = asyncio.ensure_future(response.read(10))
        await asyncio.sleep(0)
        response.abort()
        with pytest.raises(ConnectionLost):
            await reader


# Load


@both_loops
async def test_a_reader_that_does_not_read_holds_the_server_back() -> None:
    size, block = 50_000_000, 100_000
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await peer.send(bytes(block))
            sent += block
        await peer.request()

    async with talk(script, high_water=100_000) as (client, server):
        response = await post(client, server.address)
        await asyncio.sleep(0.2)
        assert response._buffered < 1_000_000
        assert sent < 20_000_000  # the rest of it lies in the kernel
        largest = total = 0
        async for chunk in response:
            largest, total = max(largest, len(chunk)), total + len(chunk)
        assert total == size
        assert largest < 1_000_000
        assert idle(client) == 1
        await asyncio.sleep(0)


@both_loops
async def test_a_connection_paused_at_the_end_still_notices_its_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + bytes(5000))
        await asyncio.sleep(0.1)

    async with talk(script, high_water=100) as (client, server):
        response = await post(client, server.address)
        assert len(await response.read(5000)) == 5000
        assert idle(client) == 1
        await eventually(lambda: idle(client) == 0)


@both_loops
async def test_a_thousand_requests_in_turn() -> None:
    async with talk(forever) as (client, server):
        for _ in range(1000):
            assert await fetch(client, server.address) == b"ok"
        assert server.connections == 1


@both_loops
async def test_two_hundred_requests_at_once() -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            await asyncio.sleep(0.01)
            name = request[-3:]
            await peer.send(CHUNKED + b"3\r\n" + name + b"\r\n")
            await asyncio.sleep(0.01)
            await peer.send(b"3\r\n" + name + b"\r\n0\r\n\r\n")

    async with talk(script) as (client, server):
        for _ in range(3):
            names = [b"%03d" % number for number in range(200)]
            answers = await asyncio.gather(
                *(fetch(client, server.address, body=name) for name in names)
            )
            assert answers == [name * 2 for name in names]
        assert idle(client) == 64
        assert len(client._open) == 64


# The end


@both_loops
async def test_close_ends_everything() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.endswith(b"keep"):
            await peer.send(OK)
        elif request.endswith(b"body"):
            await peer.send(CHUNKED + b"2\r\nok\r\n")
        await peer.ending()

    async with full_backlog() as full, talk(script) as (client, server):
        response = await post(client, server.address, body=b"body")
        assert await anext(response) == b"ok"
        assert await fetch(client, server.address, body=b"keep") == b"ok"
        waiting = [
            asyncio.ensure_future(post(client, server.address, body=b"head")),
            asyncio.ensure_future(post(client, full)),
            asyncio.ensure_future(response.read(10)),
        ]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(client.close(), AT_ONCE)
        assert not client._open
        assert not client._idle
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [
            ConnectionLost,
            ConnectFailed,
            ConnectionLost,
        ]
        with pytest.raises(UpstreamError):
            await post(client, server.address)
        await client.close()


async def test_no_timer_outlives_its_connection() -> None:
    loop: Any = asyncio.get_running_loop()

    def timers() -> int:
        return sum(
            isinstance(getattr(handle._callback, "__self__", None), _Connection)
            for handle in loop._scheduled
            if not handle.cancelled()
        )

    async with talk(forever) as (client, server):
        for _ in range(100):
            assert await fetch(client, server.address) == b"ok"
        assert len(loop._scheduled) < 10  # one for the connection, not one per request
        assert timers() == 1
        await client.close()
        assert timers() == 0
