"""WebSocket clients: one that tells answers apart, and many of them at once."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

SECONDS = 60.0


class Socket:
    """A client's connection.

    Args:
        connection: the library's.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **message: Any) -> None:
        """Send one message."""
        await self.connection.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        """Return the next message."""
        message: dict[str, Any] = json.loads(
            await asyncio.wait_for(self.connection.recv(), SECONDS)
        )
        return message

    async def until(self, *ids: str) -> dict[str, list[dict[str, Any]]]:
        """Return the messages of inferences by id, once each has had its last."""
        waiting, found = set(ids), defaultdict[str, list[dict[str, Any]]](list)
        while waiting:
            message = await self.receive()
            found[message.get("id", "")].append(message)
            if message["type"] in ("complete", "error"):
                waiting.discard(message.get("id", ""))
        return found

    async def answer(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        """Have one inference answered, and return its messages."""
        await self.send(type="inference", id=name, **fields)
        return (await self.until(name))[name]

    async def closed(self) -> tuple[int, str]:
        """Read to the end and return the close frame's code and reason."""
        try:
            while True:
                await self.receive()
        except websockets.ConnectionClosed as closed:
            if closed.rcvd is None:
                raise AssertionError("the connection was cut") from closed
            return closed.rcvd.code, closed.rcvd.reason


def address(url: str, path: str = "/ws") -> str:
    """Return the WebSocket's URL."""
    return "ws" + url.removeprefix("http") + path


@asynccontextmanager
async def connected(
    url: str, token: str | None = None, *, path: str = "/ws", **options: Any
) -> AsyncIterator[Socket]:
    """Open a connection, and authenticate with a message where there is a token."""
    async with websockets.connect(address(url, path), **options) as connection:
        socket = Socket(connection)
        if token is not None:
            await socket.send(type="auth", token=token)
            assert await socket.receive() == {"type": "auth", "status": "ok"}
        yield socket


def text_of(received: list[dict[str, Any]]) -> str:
    """Return the text that tokens make, having checked that none is missing."""
    tokens = [message for message in received if message["type"] == "token"]
    assert [message["index"] for message in tokens] == list(range(len(tokens)))
    return "".join(message["token"] for message in tokens)


@dataclass
class Outcome:
    """What many clients met with."""

    completed: int = 0
    cancelled: int = 0
    tokens: int = 0


async def many(url: str, key: str, *, clients: int, inferences: int, **fields: Any) -> Outcome:
    """Let many clients ask at once; every other inference is cancelled after its second token.

    Args:
        url: of the inference API.
        key: an API key that may do so.
        clients: connections.
        inferences: at once on each.
        fields: of every inference.
    """
    outcome = Outcome()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(_one_of_many(url, key, inferences, fields, outcome))
    return outcome


async def _one_of_many(
    url: str, key: str, inferences: int, fields: dict[str, Any], outcome: Outcome
) -> None:
    async with connected(url, open_timeout=SECONDS) as socket:
        await socket.send(type="auth", token=key)
        running = {f"r{number}" for number in range(inferences)}
        for name in sorted(running):
            await socket.send(type="inference", id=name, **fields)
        assert (await socket.receive())["type"] == "auth"
        while running:
            message = await asyncio.wait_for(_next(socket), 10 * SECONDS)
            name = message["id"]
            if message["type"] == "error":
                assert name not in running, message  # it was cancelled too late
                continue
            if message["type"] == "token":
                outcome.tokens += 1
                if message["index"] == 1 and int(name[1:]) % 2:
                    await socket.send(type="cancel", id=name)
            else:
                running.remove(name)
                if message["finish_reason"] == "cancelled":
                    outcome.cancelled += 1
                else:
                    outcome.completed += 1


async def _next(socket: Socket) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await socket.connection.recv())
    return message
