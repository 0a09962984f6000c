"""The change feed: what is told, in which order, and how far it is where nothing is to be told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from inferno.registry.catalog import Catalog
from inferno.registry.finding import parse
from inferno.registry.watching import Watcher
from inferno.storage.database import Database
from inferno.web.exchange import Exchange
from tests.contract.registry.conftest import ADA

ID, TAGS = "inference_server_id", "inference_server_tags"


class Client:
    """Whoever watches, at the end of an ASGI connection."""

    def __init__(self) -> None:
        self.text = b""
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.text += message.get("body", b"")

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Id and data of the events so far."""
        found: list[tuple[str, Any]] = []
        for event in self.text.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in event.split("\n") if line[:1] not in ":")
            if fields:
                data = fields.get("data")
                found.append((fields["id"], msgspec.json.decode(data) if data else None))
        return found


@asynccontextmanager
async def watching(
    watcher: Watcher, stopping: asyncio.Event, filter_: Any, since: int | None = None
) -> AsyncIterator[Client]:
    """Watch while the block runs."""
    client = Client()
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": {}}
    receive: Callable[[], Awaitable[Any]] = client.receive
    exchange = Exchange(scope, receive, client.send, max_body_bytes=1)
    task = asyncio.ensure_future(watcher.watch(exchange, parse(filter_), since))
    try:
        yield client
    finally:
        stopping.set()
        await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - it is the feed that is waited for
            await asyncio.sleep(0.01)


async def test_many_who_watch_are_told_each_their_own(database: Database, catalog: Catalog) -> None:
    stopping = asyncio.Event()
    watcher = Watcher(database, stopping)
    async with (
        watching(watcher, stopping, {}) as all_,
        watching(watcher, stopping, {TAGS: "x"}) as some,
        watching(watcher, stopping, {TAGS: "never"}) as none,
    ):
        await until(lambda: all_.events and some.events and none.events)
        begun = int(all_.events[0][0])
        await catalog.create({ID: "a"}, ADA)
        await catalog.create({ID: "b", TAGS: ["x"]}, ADA)
        await until(lambda: len(all_.events) == 3 and len(some.events) == 2)
    assert [(id_, data["document"][ID]) for id_, data in all_.events[1:]] == [
        (str(begun + 1), "a"),
        (str(begun + 2), "b"),
    ]
    assert [data["document"][ID] for _, data in some.events[1:]] == ["b"]
    assert none.events == [(str(begun), None)]


async def test_where_nothing_matches_it_says_how_far_it_is(
    database: Database, catalog: Catalog, monkeypatch: Any
) -> None:
    monkeypatch.setattr("inferno.registry.watching.COMMENT_EVERY", 0.0)
    stopping = asyncio.Event()
    async with watching(Watcher(database, stopping), stopping, {TAGS: "x"}) as client:
        await until(lambda: client.events)
        begun = int(client.events[0][0])
        await catalog.create({ID: "a"}, ADA)
        await catalog.delete("a", ADA)
        await until(lambda: int(client.events[-1][0]) == begun + 2)
    assert {data for _, data in client.events} == {None}
