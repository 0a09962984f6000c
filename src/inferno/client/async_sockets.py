"""The WebSocket for programs on an event loop; see `sockets`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, Unpack

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial

from inferno.client.connection import Settings
from inferno.client.errors import ClientError
from inferno.client.inference import Completion, Sampling, Token
from inferno.client.sockets import (
    Inboxes,
    Message,
    Running,
    about,
    asked,
    decode,
    dialling,
    handshake,
    silence,
)


class AsyncSocket:
    """A WebSocket; tasks may share it. Use it in an `async with`.

    Args:
        settings: where to connect.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: ClientConnection | None = None
        self._reading = asyncio.Lock()
        self._inboxes = Inboxes()
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        with dialling():
            dialled = dial(**handshake(self._settings))
            self._connection = await self._closing.enter_async_context(dialled)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; what still runs on it is ended."""
        await self._closing.aclose()

    async def inference(
        self, *, model: str, prompt: str, stream: bool = True, **sampling: Unpack[Sampling]
    ) -> AsyncSocketInference:
        """Begin an inference; iterate over it for its tokens, or `read` it.

        Args:
            model: its id.
            prompt: to complete.
            stream: whether tokens come one by one.
            sampling: how tokens are chosen; see `Sampling`.
        """
        name = self._inboxes.open()
        await self._send(asked(name, model, prompt, stream, sampling))
        return AsyncSocketInference(self, name)

    async def ping(self) -> float:
        """Return the seconds that a message takes to the platform and back."""
        name = self._inboxes.open()
        begun = time.perf_counter()
        try:
            await self._send(about("ping", name))
            await self.next_for(name)
        finally:
            self._inboxes.close(name)
        return time.perf_counter() - begun

    async def cancel(self, name: str) -> None:
        """Ask for the end of an inference."""
        await self._send(about("cancel", name))

    def forget(self, name: str) -> None:
        """Leave what still comes for an inference unread."""
        self._inboxes.close(name)

    async def next_for(self, name: str) -> Message:
        """Return the next message for an id."""
        while (found := self._inboxes.take(name)) is None:
            async with self._reading:
                found = self._inboxes.take(name)
                if found is not None:
                    break
                self._inboxes.put(await self._receive())
        return found

    async def _receive(self) -> Message:
        try:
            async with asyncio.timeout(self._settings.timeout):
                return decode(await self._opened.recv())
        except TimeoutError:
            raise silence() from None
        except websockets.ConnectionClosed as closed:
            raise self._inboxes.end(closed) from None

    async def _send(self, text: str) -> None:
        try:
            await self._opened.send(text)
        except websockets.ConnectionClosed as closed:
            raise self._inboxes.end(closed) from None

    @property
    def _opened(self) -> ClientConnection:
        if self._connection is None:
            raise RuntimeError("Open the connection first: `async with client.connect()`.")
        return self._connection


class AsyncSocketInference(Running[AsyncSocket]):
    """An inference on a WebSocket."""

    async def __aiter__(self) -> AsyncIterator[Token]:
        while not self._ended:
            try:
                token = self._progress.take(await self._link.next_for(self.id))
            except ClientError:
                self._finish()
                raise
            if token is not None:
                yield token
            if self._progress.result is not None:
                self._finish()

    async def read(self) -> Completion:
        """Read what is left, and return the whole answer."""
        async for _ in self:
            pass
        return self.result

    async def cancel(self) -> Completion:
        """End the inference, and return what had come of it."""
        if not self._ended:
            await self._link.cancel(self.id)
        return await self.read()

    def _finish(self) -> None:
        self._ended = True
        self._link.forget(self.id)
