"""HTTP and HTTPS on one socket."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from starlette.types import Receive, Scope, Send

from inferno.core.errors import InfernoError
from inferno.web.certificates import own_certificate
from inferno.web.exchange import Header
from inferno.web.listener import Listener, bind
from inferno.web.mixed import MOST_SILENT
from inferno.web.protocol import ConnectionLimits


def render(error: InfernoError, scope: Scope) -> tuple[int, list[Header], bytes]:
    return 500, [], b""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    content = str(scope["scheme"]).encode()
    length = (b"content-length", b"%d" % len(content))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": content})


async def ask(address: tuple[str, int], context: ssl.SSLContext | None) -> bytes:
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    content = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return content.partition(b"\r\n\r\n")[2]


async def test_both_are_served_and_the_listener_ends_with_a_connection_that_says_nothing(
    tmp_path: Path,
) -> None:
    listening = bind("127.0.0.1", 0)
    certificate = own_certificate(tmp_path, "127.0.0.1")
    listener = Listener(app, grace=1, limits=ConnectionLimits(), render=render, also=certificate)
    context = ssl.create_default_context(cafile=certificate.chain)
    stop = asyncio.Event()
    serving = asyncio.ensure_future(listener.run_on(listening, stop))
    await listener.answering.wait()
    address = listening.getsockname()
    assert await ask(address, None) == b"http"
    assert await ask(address, context) == b"https"
    reader, writer = await asyncio.open_connection(*address)
    await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(serving, 10)
    assert await reader.read() == b""
    writer.close()


async def test_connections_that_say_nothing_are_bounded(tmp_path: Path) -> None:
    listening = bind("127.0.0.1", 0)
    certificate = own_certificate(tmp_path, "127.0.0.1")
    listener = Listener(app, grace=1, limits=ConnectionLimits(), render=render, also=certificate)
    stop = asyncio.Event()
    serving = asyncio.ensure_future(listener.run_on(listening, stop))
    await listener.answering.wait()
    address = listening.getsockname()
    silent = [await asyncio.open_connection(*address) for _ in range(MOST_SILENT + 3)]
    for reader, _ in silent[:3]:  # the first ones had to make room
        assert await asyncio.wait_for(reader.read(), 5) == b""
    assert await ask(address, None) == b"http"
    assert not silent[-1][0].at_eof()
    for _, writer in silent:
        writer.close()
    stop.set()
    await asyncio.wait_for(serving, 10)
