"""Servers are looked at, what is news is kept, and one process looks at a time."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from inferno.core.errors import InvalidRequest
from inferno.registry.calls import change_of
from inferno.registry.catalog import Catalog
from inferno.registry.entries import Finding
from inferno.registry.finding import Finder, Query, parse
from inferno.registry.probing import HealthProber
from inferno.registry.turn import Turn
from inferno.storage.database import Database
from inferno.storage.tables import registry_changes
from inferno.webhooks.guard import Address, Guard
from inferno.webhooks.sending import Sender
from tests.contract.registry.conftest import ADMIN, Clock

ID, URL, HEALTH = "inference_server_id", "inference_server_public_url", "health"
CHECK = "health_check"
OPEN = Guard.of(["127.0.0.0/8"], setting="registry_probe_allow")
REFUSED = "The registry does not look at such an address."


class Answering:
    """A server on a real socket that answers each path as a test says."""

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.asked: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode()
        self.asked.append(line.removesuffix(" HTTP/1.1"))
        status = self.statuses.get(line.split()[1], 404)
        if status:
            head = f"HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode())
        writer.close()


@asynccontextmanager
async def answering(statuses: dict[str, int]) -> AsyncIterator[Answering]:
    """Serve while the block runs."""
    one = Answering()
    one.statuses = statuses
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    async with server:
        yield one


async def nowhere(host: str) -> list[Address]:
    """Resolve every name to an address inside the operator's network."""
    return [ipaddress.ip_address("10.1.2.3")]


Build = Callable[..., HealthProber]


@pytest.fixture
def build(database: Database, catalog: Catalog, clock: Clock) -> Build:
    def prober(
        guard: Guard = OPEN, *, holder: str = "one", interval: float = 60, **options: Any
    ) -> HealthProber:
        return HealthProber(
            database,
            catalog,
            Sender(guard, timeout=5, on_refusal=lambda host, address: None, **options),
            Turn(database, "probing", holder, seconds=30, clock=clock),
            interval=interval,
            concurrency=4,
        )

    return prober


async def add(catalog: Catalog, id_: str, **fields: Any) -> None:
    await catalog.create({ID: id_, **fields}, ADMIN)


async def health(catalog: Catalog, id_: str) -> Any:
    return (await catalog.get(id_)).get(HEALTH)


async def changes(database: Database) -> int:
    async with database.read() as connection:
        count = sa.select(sa.func.count()).select_from(registry_changes)
        return int(await connection.scalar(count) or 0)


async def ids(finder: Finder, filter_: object) -> list[str]:
    found = await finder.find(Query(filter=parse(filter_)))
    return [entry[ID] for entry in found.documents]


async def test_what_is_found_can_be_asked_for(
    build: Build, catalog: Catalog, finder: Finder
) -> None:
    async with answering({"/health": 200, "/bad/health": 503, "/own/health": 500}) as server:
        for name in ("bad", "no-health-page"):
            await add(catalog, name, **{URL: f"{server.url}/{name}"})
        await add(catalog, "well", **{URL: server.url})
        await add(catalog, "own", **{URL: f"{server.url}/own", CHECK: {"path": "/alive"}})
        await add(catalog, "silent", **{URL: f"{server.url}/silent", CHECK: {"enabled": False}})
        await add(catalog, "no-url")
        await add(catalog, "grpc", **{URL: "grpc://127.0.0.1:50051"})
        await add(catalog, "gone", **{URL: "http://127.0.0.1:1"})
        await build().look()
    assert sorted(server.asked) == [
        "GET /bad/health",
        "GET /health",
        "GET /no-health-page/health",
        "GET /own/alive",
    ]
    assert await ids(finder, {"health.state": "healthy"}) == ["no-health-page", "well"]
    assert await ids(finder, {"health.state": "unhealthy"}) == ["bad", "own", "gone"]
    assert await ids(finder, {"health": {"$exists": False}}) == ["silent", "no-url"]
    since = "2026-01-31T12:00:00.000Z"
    assert await health(catalog, "well") == {"state": "healthy", "since": since}
    said = {
        name: (await health(catalog, name))["reason"] for name in ("bad", "own", "grpc", "gone")
    }
    assert said == {
        "bad": "It answered 503.",
        "own": "It answered 404.",
        "grpc": "The registry only speaks HTTP.",
        "gone": "No connection could be made.",
    }


async def test_only_news_is_written_and_one_failure_is_none(
    build: Build, catalog: Catalog, database: Database, clock: Clock
) -> None:
    prober = build()
    async with answering({"/health": 200}) as server:
        await add(catalog, "a", **{URL: server.url})
        before = (await catalog.get("a"))["updated_at"]
        await prober.look()
        known = await changes(database)
        clock.forward(60)
        await prober.look()
        server.statuses["/health"] = 0
        await prober.look()
        assert await changes(database) == known
        assert (await health(catalog, "a"))["state"] == "healthy"
        await prober.look()
        assert await changes(database) == known + 1
        assert await health(catalog, "a") == {
            "state": "unhealthy",
            "since": "2026-01-31T12:01:00.000Z",
            "reason": "The connection broke off (RemoteProtocolError).",
        }
        server.statuses["/health"] = 200
        await prober.look()
        assert (await health(catalog, "a"))["state"] == "healthy"
    assert (await catalog.get("a"))["updated_at"] == before


INSIDE = [
    "http://127.0.0.1:8080",
    "http://localhost:8080",
    "http://[::1]:8080",
    "http://169.254.169.254/latest",
    "http://[::ffff:10.0.0.1]/",
    "http://8.8.8.8:22",
    "http://innocent.example",
]


async def test_addresses_inside_are_not_looked_at(build: Build, catalog: Catalog) -> None:
    for number, address in enumerate(INSIDE):
        await add(catalog, str(number), **{URL: address})
    await build(Guard(), resolve=nowhere).look()
    for number, address in enumerate(INSIDE):
        found = await health(catalog, str(number))
        assert (found["state"], found["reason"]) == ("unknown", REFUSED), address


async def test_redirects_are_not_followed(build: Build, catalog: Catalog) -> None:
    async with answering({"/health": 302, "/b/own": 302}) as server:
        await add(catalog, "a", **{URL: server.url})
        await add(catalog, "b", **{URL: f"{server.url}/b", CHECK: {"path": "/own"}})
        await build().look()
        assert sorted(server.asked) == ["GET /b/own", "GET /health"]
    assert (await health(catalog, "a"))["state"] == "healthy"
    assert (await health(catalog, "b"))["reason"] == "It answered 302."


async def test_another_address_is_another_server(
    build: Build, catalog: Catalog, clock: Clock
) -> None:
    async with answering({"/health": 200}) as server:
        await add(catalog, "a", **{URL: server.url, "ttl_seconds": 60})
        await build().look()
    for update in (
        f'{{"$set": {{"{URL}": "http://127.0.0.1:1"}}}}',
        '{"$set": {"health_check": {"path": "/x"}}}',
    ):
        await catalog.note_health([Finding("a", (await catalog.get("a"))[URL], "healthy")])
        await catalog.heartbeat("a", ADMIN)
        await catalog.update("a", change_of(b'{"$set": {"inference_server_name": "b"}}'), ADMIN)
        assert (await health(catalog, "a"))["state"] == "healthy"
        await catalog.update("a", change_of(update.encode()), ADMIN)
        assert await health(catalog, "a") is None
    # What was found while its owner moved it says nothing of where it is now.
    assert await catalog.note_health([Finding("a", server.url, "healthy")]) == 0
    # Nor does what was found before it expired.
    await catalog.note_health([Finding("a", "http://127.0.0.1:1", "healthy")])
    clock.forward(61)
    assert await catalog.expire(keep_seconds=60) == 1
    assert await health(catalog, "a") is None
    assert await catalog.note_health([Finding("a", "http://127.0.0.1:1", "healthy")]) == 0
    assert await catalog.note_health([Finding("nobody", "", "healthy")]) == 0


async def test_nobody_else_may_say_how_a_server_is(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequest, match="'health' is set by the registry"):
        await add(catalog, "a", health={"state": "healthy"})
    await add(catalog, "a", **{URL: "https://a.example"})
    for state in ("healthy", None):
        update = b'{"$set": {"health.state": "healthy"}}' if state else b'{"$unset": {"health": 1}}'
        await catalog.note_health([Finding("a", "https://a.example", "unhealthy", "Down.")])
        with pytest.raises(InvalidRequest, match="'health' is set by the registry"):
            await catalog.update("a", change_of(update), ADMIN)


async def test_more_servers_than_fit_into_a_page(
    build: Build, catalog: Catalog, finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferno.registry.probing.PAGE", 2)
    async with answering({}) as server:
        for number in range(5):
            await add(catalog, f"s{number}", **{URL: f"{server.url}/{number}"})
        await build().look()
    assert len(await ids(finder, {"health.state": "healthy"})) == 5


async def test_one_process_looks_and_another_takes_over(
    build: Build, catalog: Catalog, database: Database, clock: Clock
) -> None:
    one, other = (Turn(database, "probing", name, seconds=30, clock=clock) for name in "ab")
    assert await one.take()
    assert not await other.take()
    clock.forward(29)
    assert await one.take()  # it keeps it
    clock.forward(29)
    assert not await other.take()
    clock.forward(2)
    assert await other.take()  # whoever had it was killed
    assert not await one.take()
    await one.give_up()  # is not its to give up
    assert await one.is_taken()
    await other.give_up()
    assert not await one.is_taken()
    assert await one.take()
    async with answering({"/health": 200}) as server:
        await add(catalog, "a", **{URL: server.url})
        await build(holder="c").look()
    assert await health(catalog, "a") is None  # it has found something, and may not say so


async def test_rounds_go_on_and_what_was_found_is_forgotten_when_nobody_looks(
    build: Build, catalog: Catalog
) -> None:
    async def is_known(*expected: str | None) -> None:
        async with asyncio.timeout(20):
            while True:
                found = await health(catalog, "a")
                if (None if found is None else found["state"]) in expected:
                    return
                await asyncio.sleep(0.01)

    async with answering({"/health": 200}) as server:
        await add(catalog, "a", **{URL: server.url})
        async with build(interval=0.02).probing():
            await is_known("healthy")
            server.statuses["/health"] = 500
            await is_known("unhealthy")
            async with build(interval=0, holder="off").probing():
                await asyncio.sleep(0.1)
            assert await health(catalog, "a") is not None  # somebody looks
        async with build(interval=0).probing():
            await is_known(None)
