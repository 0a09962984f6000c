"""`AsyncRegistry`: a registry of inference servers, on an event loop; see `registries`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from inferno.client import registry_calls as calls
from inferno.client.asynchronous import AsyncCaller, method
from inferno.client.connection import Settings, events_of, translated
from inferno.client.errors import ClientError
from inferno.client.registries import DEFAULT_URL, TIMEOUT
from inferno.client.registry_calls import (
    FIRST_PAUSE,
    InferenceServer,
    Paging,
    ServerChange,
    Watching,
)
from inferno.client.retries import Retries


class AsyncRegistry(AsyncCaller):
    """A registry of inference servers, for one event loop; tasks may share it.

    Args:
        url: of the control plane that has it; default `INFERNO_REGISTRY_URL`, else
            `http://localhost:8085`.
        api_key: an API key or a token; default `INFERNO_API_KEY`.
        timeout: seconds between two parts of an answer.
        retries: when calls are sent again.
        tls: how servers prove who they are; None for the usual authorities.

    Raises:
        ValueError: the URL is none.
    """

    register = method(calls.register)
    get = method(calls.get)
    update = method(calls.update)
    delete = method(calls.delete)
    heartbeat = method(calls.heartbeat)
    page = method(calls.page)

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retries: Retries = Retries(),  # noqa: B008 - frozen
        tls: ssl.SSLContext | None = None,
    ) -> None:
        settings = Settings.of(
            url, api_key, timeout, tls, variable="INFERNO_REGISTRY_URL", default=DEFAULT_URL
        )
        super().__init__(settings, retries)

    async def query(
        self,
        wanted: Mapping[str, Any] | None = None,
        *,
        projection: Mapping[str, Any] | None = None,
        sort: Mapping[str, int] | None = None,
        limit: int | None = None,
        search: str | None = None,
        mine: bool | None = None,
    ) -> AsyncGenerator[InferenceServer, None]:
        """Yield the servers that a filter finds, page by page; see `page`.

        Args:
            wanted: the filter, in MongoDB's language; None for all.
            projection: which fields to return.
            sort: fields, with 1 or -1; more than 10,000 servers are not sorted.
            limit: at most so many; None for all.
            search: words, of which one has to be in the name, the tags or the metadata.
            mine: only what the caller registered.
        """
        paging = Paging(wanted, sort, limit, projection=projection, search=search, mine=mine)
        while not paging.is_over:
            for server in paging.take(await self.perform(paging.call())):
                yield server

    async def watch(
        self, wanted: Mapping[str, Any] | None = None, *, since: int | None = None
    ) -> AsyncGenerator[ServerChange, None]:
        """Yield changes of servers that match a filter, in order, for as long as somebody asks.

        A connection that breaks is made again, and the watch goes on where it was. Whoever leaves
        the loop before it ends closes the generator: `contextlib.aclosing`.

        Args:
            wanted: the filter; None for all.
            since: version of the last change that is known; None begins now.

        Raises:
            NotThere: changes since then are not known any more.
            ClientError: the registry refuses, or was not reached to begin with.
        """
        watching = Watching(wanted, since)
        while True:
            try:
                async with aclosing(self._changes(watching)) as changes:
                    async for change in changes:
                        yield change
            except ClientError as error:
                pause = watching.pause_after(error)
                if pause is None:
                    raise
                await asyncio.sleep(pause)
            else:  # the registry ends each watch after a while
                await asyncio.sleep(FIRST_PAUSE)

    async def _changes(self, watching: Watching) -> AsyncGenerator[ServerChange, None]:
        response = await self._send(watching.call())
        try:
            with translated():
                watching.connected()
                async for event in events_of(response):
                    change = watching.read(event.id, event.data)
                    if change is not None:
                        yield change
        finally:
            await response.aclose()
