"""Watches: a stream of changes in the order in which they were written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from inferno.cluster.objects import Object, encode
from inferno.cluster.reading import Reader, meant
from inferno.cluster.requests import Request, warned
from inferno.cluster.selectors import Selector
from inferno.cluster.status import status_object
from inferno.cluster.tables import partial, row_of, table
from inferno.core.errors import Expired, InfernoError
from inferno.core.resources import Resource
from inferno.storage.base import ResourceStore, WatchEvent
from inferno.web.exchange import JSON_TYPE

BOOKMARK_SECONDS = 60.0
DEFAULT_SECONDS = 1800
MAX_SECONDS = 3600
INITIAL_END = "k8s.io/initial-events-end"

Change = tuple[str, Resource]


class Watcher:
    """Answers `watch`.

    Args:
        store: where resources are.
        reader: lists what is there at the start.
        stopping: set when the platform goes: watches end, so that clients come back elsewhere.
    """

    def __init__(self, store: ResourceStore, reader: Reader, stopping: asyncio.Event) -> None:
        self._store = store
        self._reader = reader
        self._stopping = stopping

    async def watch(self, request: Request) -> None:
        """Stream changes until the client leaves, its time is over, or the platform stops."""
        selector = request.selector()
        stream = _Stream(request)
        exchange = request.exchange
        since = request.options.number("resourceVersion") or 0
        initial = request.options.flag("sendInitialEvents", default=since == 0)
        await exchange.start(200, [JSON_TYPE, *warned(request.warnings)])
        try:
            with exchange.client_present():
                await self._run(request, selector, stream, since=since, initial=initial)
        except InfernoError as error:
            # The head is out: the stream itself has to say it.
            await stream.error(error)
        await exchange.finish()

    async def _run(
        self, request: Request, selector: Selector, stream: _Stream, *, since: int, initial: bool
    ) -> None:
        known: dict[str, bool] = {}
        position = since
        if initial:
            found = await self._reader.find(request)
            for resource in found.resources:
                known[resource.metadata.uid] = True
                await stream.send("ADDED", resource)
            position = found.version
            if request.options.flag("sendInitialEvents"):
                await stream.bookmark(position, initial_end=True)
        seconds = min(request.options.number("timeoutSeconds") or DEFAULT_SECONDS, MAX_SECONDS)
        deadline = time.monotonic() + seconds
        bookmarks = request.options.flag("allowWatchBookmarks")
        changes = aiter(self._store.watch(request.kind, since=position))
        next_bookmark = time.monotonic() + BOOKMARK_SECONDS
        following: asyncio.Task[WatchEvent[Any]] | None = None
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            while not stopping.done():
                following = following or asyncio.ensure_future(anext(changes))
                until = min(deadline, next_bookmark) if bookmarks else deadline
                await asyncio.wait(
                    {following, stopping},
                    timeout=max(0.0, until - time.monotonic()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if following.done():
                    try:
                        event = following.result()
                    except StopAsyncIteration:
                        break
                    following = None
                    position = event.resource_version
                    async for kind, resource in self._shown(request, selector, event, known):
                        await stream.send(kind, resource)
                elif time.monotonic() >= deadline:
                    break
                elif bookmarks and time.monotonic() >= next_bookmark:
                    await stream.bookmark(position)
                    next_bookmark = time.monotonic() + BOOKMARK_SECONDS
            if bookmarks:
                await stream.bookmark(position)
        finally:
            stopping.cancel()
            if following is not None:
                following.cancel()

    async def _shown(
        self,
        request: Request,
        selector: Selector,
        event: WatchEvent[Any],
        known: dict[str, bool],
    ) -> AsyncIterator[Change]:
        """Yield what a change is to somebody who sees only what the selector admits."""
        resource, metadata = event.resource, event.resource.metadata
        namespace = request.place.namespace
        if namespace is not None and metadata.namespace != namespace:
            return
        now = event.type != "DELETED" and meant(request, selector, resource)
        if not selector:
            if now or (event.type == "DELETED" and meant(request, selector, resource)):
                yield event.type, resource
            return
        before = known.pop(metadata.uid, None)
        if before is None:
            before = event.type != "ADDED" and await self._was_meant(request, selector, event)
        if event.type != "DELETED":
            known[metadata.uid] = now
        if now:
            yield ("MODIFIED" if before else "ADDED"), resource
        elif before:
            yield "DELETED", resource

    async def _was_meant(
        self, request: Request, selector: Selector, event: WatchEvent[Any]
    ) -> bool:
        """Return whether the selector admitted a resource before a change of it."""
        earlier = await self._store.before(event)
        if earlier is None:  # older than the history: only its name can be known
            name = selector.name
            return name is None or name == event.resource.metadata.name
        return meant(request, selector, earlier)


class _Stream:
    """Writes events in the form that the client wants.

    Args:
        request: of the watch.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._form = request.wanted.form
        self._headed = True

    async def send(self, kind: str, resource: Resource) -> None:
        """Write a change."""
        await self._write(kind, self._shown(resource))

    async def bookmark(self, version: int, *, initial_end: bool = False) -> None:
        """Say up to where the client has seen all changes."""
        metadata: Object = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {INITIAL_END: "true"}
        served = self._request.served
        about: Object = {"kind": served.kind, "apiVersion": served.group_version}
        if self._form == "Table":
            document = table(served, [], metadata, headed=self._headed)
        elif self._form != "object":
            document = {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
            }
        else:
            document = {**about, "metadata": metadata}
        await self._write("BOOKMARK", document)

    async def error(self, error: InfernoError) -> None:
        """Say why the watch ends."""
        status = status_object(error)
        if isinstance(error, Expired):
            status["message"] = f"too old resource version: {error.message}"
        await self._write("ERROR", status)

    def _shown(self, resource: Resource) -> Object:
        served, include = self._request.served, self._request.include
        if self._form == "Table":
            shown = encode(served, resource) if include == "Object" else {}
            row = row_of(served, resource, shown, include)
            metadata = {"resourceVersion": resource.metadata.resource_version}
            document = table(served, [row], metadata, headed=self._headed)
            self._headed = False
            return document
        if self._form == "object":
            return encode(served, resource)
        return partial(served, resource)

    async def _write(self, kind: str, document: Object) -> None:
        line = msgspec.json.encode({"type": kind, "object": document})
        await self._request.exchange.write(line + b"\n")
