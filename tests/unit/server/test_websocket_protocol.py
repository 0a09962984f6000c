"""Connections below ASGI: clients that do not read, and origins of pages."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from starlette.types import Receive, Scope, Send

from inferno.core.errors import InfernoError, PermissionDenied
from inferno.web.exchange import Header
from inferno.web.handshake import check_origin
from inferno.web.listener import Listener, bind
from inferno.web.protocol import ConnectionLimits
from inferno.web.sockets import SocketLimits

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def render(error: InfernoError, scope: Scope) -> tuple[int, list[Header], bytes]:
    return 500, [], b""


async def test_a_client_that_does_not_read_holds_up_the_app_and_is_cut_off() -> None:
    sent, cut = 0, asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "text": "x" * 10_000})
                sent += 10_000
        except OSError:
            cut.set()

    limits = SocketLimits(
        message_bytes=1000,
        first_message_bytes=1000,
        ping_seconds=100,
        send_seconds=2,
        explain=str,
    )
    listening = bind("127.0.0.1", 0)
    listener = Listener(app, grace=1, limits=ConnectionLimits(), render=render, sockets=limits)
    stop = asyncio.Event()
    serving = asyncio.ensure_future(listener.run_on(listening, stop))
    await listener.answering.wait()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.to_thread(client.connect, listening.getsockname())
        client.sendall(HANDSHAKE)
        begun = time.monotonic()
        while True:  # until what the kernel takes is full
            before = sent
            await asyncio.sleep(0.5)
            if 0 < sent == before:
                break
        assert sent < 20_000_000
        await asyncio.wait_for(cut.wait(), 20)
        assert time.monotonic() - begun >= 2
    stop.set()
    await serving


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "passes"),
    [
        (None, "a.example", (), True),
        ("https://a.example", "a.example", (), True),
        ("http://a.example", "a.example:80", (), True),
        ("https://a.example:8443", "a.example:8443", (), True),
        ("http://[::1]:8080", "[::1]:8080", (), True),
        ("http://A.example", "a.EXAMPLE", (), True),
        ("http://a.example:8080", "a.example", (), False),
        ("http://a.example", "a.example:8080", (), False),
        ("http://b.example", "a.example", (), False),
        ("http://a.example.b", "a.example", (), False),
        ("null", "a.example", (), False),
        ("", "", (), False),
        ("http://[", "a.example", (), False),
        ("http://a:99999", "a.example", (), False),
        ("https://b.example", "a.example", ("https://b.example",), True),
        ("https://b.example", "a.example", ("https://c.example",), False),
        ("https://b.example", "a.example", ("*",), True),
    ],
)
def test_origins(origin: str | None, host: str, allowed: tuple[str, ...], passes: bool) -> None:
    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    if passes:
        check_origin({"headers": headers}, allowed)
    else:
        with pytest.raises(PermissionDenied):
            check_origin({"headers": headers}, allowed)
