"""Asking model servers over real sockets how loaded they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from inferno.gateway.endpoints import Endpoint
from inferno.gateway.lines import LineTable
from inferno.gateway.picking import Picker
from inferno.gateway.scraper import LLAMA_CPP_AGE, MAX_ANSWER_BYTES, Scraper
from inferno.gateway.scraping import EndpointLoad
from inferno.gateway.upstream import Address, UpstreamClient
from tests.unit.gateway.test_scraping import LLAMA_CPP, SGLANG, VLLM


@dataclass
class Replica:
    """A server that answers with what the test put into it."""

    pages: dict[str, bytes] = field(default_factory=dict)
    remote: bool = False
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    silent: bool = False
    port: int = 0
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ")[1].decode()
                key = head.lower().partition(b"authorization: ")[2].partition(b"\r\n")[0]
                async with self.news:
                    self.asked.append((path, key))
                    self.news.notify_all()
                if self.silent:
                    await reader.read()
                    return
                body = self.pages.get(path)
                status = b"200 OK" if body is not None else b"404 Not Found"
                body = body or b""
                writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
                writer.write(body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def wait_until_asked(self, *, times: int) -> None:
        """Wait until it was asked so often."""
        async with asyncio.timeout(30), self.news:
            await self.news.wait_for(lambda: len(self.asked) >= times)

    def endpoint(self, name: str) -> Endpoint:
        """Return it as the gateway has it."""
        return Endpoint(
            name=name,
            model="m",
            address=Address("127.0.0.1", self.port),
            authorization=b"Bearer secret",
            capacity=2,
            slots=1,
            context_size=10,
            capabilities=None,
            remote=self.remote,
        )


class World:
    """Replicas and who asks them; `now` is the scraper's clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.client = UpstreamClient()
        self.lines = LineTable(max_waiting=10, picker=Picker.parse("queue"))
        self.scraper = Scraper(self.client, self.lines, timeout=0.2, clock=lambda: self.now)
        self.endpoints: dict[str, Endpoint] = {}

    def load(self, name: str) -> EndpointLoad:
        """Return what an endpoint said."""
        return self.scraper.loads[self.endpoints[name]]


@asynccontextmanager
async def world(*, interval: float = 0.0, **replicas: Replica) -> AsyncIterator[World]:
    """Start servers, and a scraper that knows them; each stands in two lines."""
    made = World()
    servers = []
    for name, replica in replicas.items():
        server = await asyncio.start_server(replica.serve, "127.0.0.1", 0)
        replica.port = server.sockets[0].getsockname()[1]
        servers.append(server)
        endpoint = made.endpoints[name] = replica.endpoint(name)
        for line in ("m", "pool:default/p"):
            made.lines.line(line).add(endpoint)
    try:
        async with made.scraper.scraping(interval):
            yield made
    finally:
        await made.client.close()
        for server in servers:
            server.close()
            await server.wait_closed()


async def test_replicas_are_asked_once_and_with_their_keys() -> None:
    llama = Replica(
        {
            "/metrics": LLAMA_CPP.encode(),
            "/slots": b'[{"n_ctx":10,"is_processing":true,"n_prompt_tokens":1}]',
        }
    )
    async with world(llama=llama, vllm=Replica({"/metrics": VLLM.encode()})) as it:
        await it.scraper.refresh()
        assert it.load("llama").kv_cache_usage == 0.1
        assert it.load("llama").at == 100.0
        assert it.load("vllm").waiting == 7
        assert llama.asked == [("/metrics", b"bearer secret"), ("/slots", b"bearer secret")]


async def test_slots_may_be_switched_off() -> None:
    async with world(llama=Replica({"/metrics": LLAMA_CPP.encode()})) as it:
        await it.scraper.refresh()
        assert it.load("llama").running == 3
        assert it.load("llama").kv_cache_usage is None


async def test_callers_at_the_same_time_share_the_answers() -> None:
    replica = Replica({"/metrics": VLLM.encode()})
    async with world(vllm=replica) as it:
        await asyncio.gather(*(it.scraper.refresh() for _ in range(5)))
        assert it.load("vllm").waiting == 7
        assert len(replica.asked) == 1


@pytest.mark.parametrize("remote", [False, True])
async def test_a_llama_cpp_server_is_left_in_peace_for_a_while(remote: bool) -> None:
    replica = Replica({"/metrics": LLAMA_CPP.encode()}, remote=remote)
    async with world(llama=replica) as it:
        await it.scraper.refresh()
        asked = len(replica.asked)
        it.now += LLAMA_CPP_AGE * 0.9
        await it.scraper.refresh()
        assert len(replica.asked) == asked
        it.now += LLAMA_CPP_AGE * 0.2
        await it.scraper.refresh()
        assert len(replica.asked) == 2 * asked


async def test_only_servers_of_others_are_told_what_they_said() -> None:
    """The gateway knows better what its own replicas have to do."""
    page = {"/metrics": VLLM.encode()}
    async with world(ours=Replica(page), theirs=Replica(page, remote=True)) as it:
        await it.scraper.refresh()
        assert it.endpoints["ours"].load is None
        assert it.endpoints["theirs"].load == it.load("theirs")


@pytest.mark.parametrize("failure", ["silent", "gone", "nonsense", "endless"])
async def test_a_replica_that_fails_keeps_what_it_said_and_holds_nobody_up(failure: str) -> None:
    replica, other = Replica({"/metrics": VLLM.encode()}), Replica({"/metrics": SGLANG.encode()})
    async with world(failing=replica, other=other) as it:
        await it.scraper.refresh()
        match failure:
            case "silent":
                replica.silent = True
            case "gone":
                replica.pages.clear()
            case "nonsense":
                replica.pages["/metrics"] = b"\xff\xfe"
            case "endless":
                replica.pages["/metrics"] = b"#" * (MAX_ANSWER_BYTES + 1)
        it.now = 110.0
        await it.scraper.refresh()
        assert it.load("failing").at == 100.0
        assert it.load("failing").waiting == 7
        assert it.load("other").at == 110.0


async def test_replicas_that_are_gone_are_forgotten() -> None:
    async with world(vllm=Replica({"/metrics": VLLM.encode()})) as it:
        await it.scraper.refresh()
        for line in it.lines.lines():
            line.remove("vllm")
        await it.scraper.refresh()
        assert it.scraper.loads == {}


async def test_servers_of_others_are_asked_all_the_time_and_ours_are_not() -> None:
    theirs = Replica({"/metrics": VLLM.encode()}, remote=True)
    ours = Replica({"/metrics": VLLM.encode()})
    async with world(interval=0.01, theirs=theirs, ours=ours):
        await theirs.wait_until_asked(times=3)
    assert ours.asked == []
    asked = len(theirs.asked)
    await asyncio.sleep(0.05)
    assert len(theirs.asked) == asked


async def test_a_server_that_cannot_be_reached_is_left_to_the_prober() -> None:
    replica = Replica({"/metrics": VLLM.encode()}, remote=True)
    async with world(vllm=replica) as it:
        it.endpoints["vllm"].health.reachable = False
        await it.scraper.refresh()
        assert replica.asked == []
