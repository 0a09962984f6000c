"""Logs of pods, with follow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from inferno.cluster.requests import Request, warned
from inferno.core.errors import InvalidRequest, NotFound
from inferno.core.resources import Pod
from inferno.core.served.pods import CONTAINER
from inferno.storage.base import ResourceStore

TEXT = (b"content-type", b"text/plain; charset=utf-8")


class LogSource(Protocol):
    """Whoever runs replicas and has their logs."""

    def log(self, pod: str, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[str]:
        """Yield lines of a replica's log, without line ends. Raises NotFound."""


class LogReader:
    """Answers `log`.

    Args:
        store: where pods are.
        source: where their logs are.
        stopping: set when the platform goes: those who follow are let go.
    """

    def __init__(self, store: ResourceStore, source: LogSource, stopping: asyncio.Event) -> None:
        self._store = store
        self._source = source
        self._stopping = stopping

    async def read(self, request: Request) -> None:
        """Send the log of a pod. Raises NotFound."""
        options, exchange = request.options, request.exchange
        container = options.text("container")
        if container not in ("", CONTAINER):
            raise InvalidRequest(
                f"container {container[:63]} is not valid for pod {request.name}: it has one, "
                f"'{CONTAINER}'"
            )
        for name in ("sinceSeconds", "sinceTime", "timestamps"):
            if options.text(name) not in ("", "false"):
                request.warnings.append(f"{name} has no effect: lines of this log have no times")
        tail, limit = options.number("tailLines"), options.number("limitBytes")
        follow = options.flag("follow")
        await self._store.get(Pod, request.name, request.namespace)
        lines = self._source.log(request.name, tail=tail, follow=follow)
        await exchange.start(200, [TEXT, *warned(request.warnings)])
        # Not found: it has not begun to write, or it is gone.
        with contextlib.suppress(NotFound), exchange.client_present():
            async with contextlib.aclosing(self._until_stop(lines)) as it:
                async for line in it:
                    data = line.encode("utf-8", "replace") + b"\n"
                    if limit is not None:
                        data = data[:limit]
                        limit -= len(data)
                    await exchange.write(data)
                    if limit == 0:
                        break
        await exchange.finish()

    async def _until_stop(self, lines: AsyncIterator[str]) -> AsyncGenerator[str]:
        """Yield lines until there are no more, or the platform stops."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        following: asyncio.Task[str] | None = None
        try:
            while True:
                following = asyncio.ensure_future(anext(lines))
                await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    return
                try:
                    yield following.result()
                except StopAsyncIteration:
                    return
        finally:
            stopping.cancel()
            if following is not None:
                following.cancel()
