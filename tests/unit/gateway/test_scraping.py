"""What engines say of their load; the pages are as the servers write them, cut to what matters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.gateway.endpoints import Endpoint, EndpointTable
from inferno.gateway.scraping import (
    MAX_ANSWER_BYTES,
    EndpointLoad,
    NotMetrics,
    Scraper,
    cache_usage,
    load_of,
)
from inferno.gateway.upstream import Address, UpstreamClient

LLAMA_CPP = """\
# HELP llamacpp:requests_processing Number of requests processing
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 3
# HELP llamacpp:requests_deferred Number of requests deferred
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 2
# HELP llamacpp:n_busy_slots_per_decode Average number of busy slots per llama_decode() call
# TYPE llamacpp:n_busy_slots_per_decode gauge
llamacpp:n_busy_slots_per_decode 1.75
"""
VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="llama"} 4.0
vllm:num_requests_running{engine="1",model_name="llama"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="llama"} 7.0
vllm:num_requests_waiting{engine="1",model_name="llama"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="llama",reason="capacity"} 70.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="llama"} 0.75
# TYPE vllm:lora_requests_info gauge
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.7e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a, b",waiting_lora_adapters="c"} 1.8e+09
# TYPE vllm:request_success_total counter
vllm:request_success_total{finished_reason="stop",model_name="llama"} 100.0
"""
VLLM_BEFORE = """\
vllm:num_requests_running{model_name="llama"} 1.0
vllm:num_requests_waiting{model_name="llama"} 0.0
vllm:gpu_cache_usage_perc{model_name="llama"} 0.5
"""
SGLANG = """\
sglang:num_running_reqs{model_name="llama"} 5.0
sglang:num_queue_reqs{model_name="llama"} 2.0
sglang:token_usage{model_name="llama"} 0.28
"""
INFERNO = """\
inferno_requests_running{model="a"} 2.0
inferno_requests_running{model="b"} 1.0
inferno_requests_waiting{model="a"} 4.0
inferno_engine_kv_cache_usage_ratio{model="a",replica="a-1"} 0.5
inferno_engine_kv_cache_usage_ratio{model="b",replica="b-1"} 0.1
"""


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (LLAMA_CPP, EndpointLoad(at=1.0, running=3, waiting=2, batch_size=1.75)),
        (
            VLLM,
            EndpointLoad(
                at=1.0,
                running=5,
                waiting=7,
                kv_cache_usage=0.75,
                max_lora=4,
                loras=frozenset({"a", "b"}),
                waiting_loras=frozenset({"c"}),
            ),
        ),
        (VLLM_BEFORE, EndpointLoad(at=1.0, running=1, kv_cache_usage=0.5)),
        (SGLANG, EndpointLoad(at=1.0, running=5, waiting=2, kv_cache_usage=0.28)),
        (INFERNO, EndpointLoad(at=1.0, running=3, waiting=4, kv_cache_usage=0.5)),
    ],
    ids=["llama.cpp", "vllm", "older vllm", "sglang", "inferno"],
)
def test_reads_what_model_servers_publish(page: str, expected: EndpointLoad) -> None:
    assert load_of(page, at=1.0) == expected


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<html>no</html>",
        "up 1\n",
        "vllm:num_requests_running{",
        'vllm:num_requests_running{a="b} 1',
        "vllm:num_requests_running x",
        "vllm:num_requests_running NaN",
    ],
)
def test_what_is_no_page_of_a_model_server_is_refused(page: str) -> None:
    with pytest.raises(NotMetrics):
        load_of(page, at=1.0)


def test_absurd_values_are_brought_into_range() -> None:
    page = (
        "vllm:num_requests_running -3\nvllm:num_requests_waiting +Inf\n"
        "vllm:kv_cache_usage_perc 1e300\n"
        'vllm:lora_requests_info{max_lora="many"} 1\n'
    )
    load = load_of(page, at=0.0)
    assert (load.running, load.waiting, load.kv_cache_usage, load.max_lora) == (0, 10**9, 1.0, 0)


def test_an_endless_page_is_read_in_part() -> None:
    page = "vllm:num_requests_running 1\n" * 200_000
    assert load_of(page, at=0.0).running == 1000


@given(st.text(alphabet='vllm:num_requests_running{}=",. \n\\0-9Inf', max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(NotMetrics):
        load_of("vllm:num_requests_running" + text, at=0.0)


@pytest.mark.parametrize(
    ("slots", "usage"),
    [
        (b'[{"n_ctx":100,"is_processing":true,"n_prompt_tokens":40},{"n_ctx":100}]', 0.2),
        # What an idle slot still remembers is free for the next request.
        (b'[{"n_ctx":100,"is_processing":false,"n_prompt_tokens":40}]', 0.0),
        (b'[{"n_ctx":10,"is_processing":true,"n_prompt_tokens":40}]', 1.0),
        (b"[]", None),
        (b'{"error":{"code":501}}', None),
        (b"\xff", None),
    ],
)
def test_reads_how_full_a_llama_cpp_server_is(slots: bytes, usage: float | None) -> None:
    assert cache_usage(slots) == usage


@dataclass
class Replica:
    """A server that answers with what the test put into it."""

    pages: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    silent: bool = False
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ")[1].decode()
                key = head.lower().partition(b"authorization: ")[2].partition(b"\r\n")[0]
                self.asked.append((path, key))
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


@dataclass
class World:
    """Replicas and who asks them; `now` is the scraper's clock."""

    client: UpstreamClient
    table: EndpointTable
    now: float = 0.0

    def __post_init__(self) -> None:
        self.scraper = Scraper(self.client, self.table, timeout=0.2, clock=lambda: self.now)

    def add(self, name: str, replica: Replica) -> None:
        self.table.line("m").add(
            Endpoint(
                name=name,
                model="m",
                address=Address("127.0.0.1", replica.port),
                authorization=b"Bearer secret",
                capacity=2,
                slots=1,
                context_size=10,
                capabilities=frozenset(),
            )
        )


@asynccontextmanager
async def world(**replicas: Replica) -> AsyncIterator[World]:
    """Start servers, and a scraper that knows them."""
    made = World(UpstreamClient(), EndpointTable(max_waiting=10))
    servers = []
    for name, replica in replicas.items():
        server = await asyncio.start_server(replica.serve, "127.0.0.1", 0)
        replica.port = server.sockets[0].getsockname()[1]
        servers.append(server)
        made.add(name, replica)
    try:
        yield made
    finally:
        await made.client.close()
        for server in servers:
            server.close()
            await server.wait_closed()


async def test_replicas_are_asked_with_their_keys() -> None:
    llama = Replica(
        {
            "/metrics": LLAMA_CPP.encode(),
            "/slots": b'[{"n_ctx":10,"is_processing":true,"n_prompt_tokens":1}]',
        }
    )
    async with world(llama=llama, vllm=Replica({"/metrics": VLLM.encode()})) as it:
        it.now = 50.0
        await it.scraper.refresh()
        assert it.scraper.loads["llama"].kv_cache_usage == 0.1
        assert it.scraper.loads["llama"].at == 50.0
        assert it.scraper.loads["vllm"].waiting == 7
        assert llama.asked == [("/metrics", b"bearer secret"), ("/slots", b"bearer secret")]


async def test_slots_may_be_switched_off() -> None:
    async with world(llama=Replica({"/metrics": LLAMA_CPP.encode()})) as it:
        await it.scraper.refresh()
        assert it.scraper.loads["llama"].running == 3
        assert it.scraper.loads["llama"].kv_cache_usage is None


async def test_a_replica_is_not_asked_again_too_soon() -> None:
    replica = Replica({"/metrics": VLLM.encode()})
    async with world(vllm=replica) as it:
        await asyncio.gather(*(it.scraper.refresh(2.0) for _ in range(5)))
        it.now = 1.9
        await it.scraper.refresh(2.0)
        assert len(replica.asked) == 1
        it.now = 2.0
        await it.scraper.refresh(2.0)
        assert len(replica.asked) == 2


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
        it.now = 10.0
        await it.scraper.refresh()
        assert it.scraper.loads["failing"].at == 0.0
        assert it.scraper.loads["failing"].waiting == 7
        assert it.scraper.loads["other"].at == 10.0


async def test_replicas_that_are_gone_are_forgotten() -> None:
    async with world(vllm=Replica({"/metrics": VLLM.encode()})) as it:
        await it.scraper.refresh()
        it.table.line("m").remove("vllm")
        await it.scraper.refresh()
        assert it.scraper.loads == {}


async def test_polling_keeps_loads_fresh_until_its_end() -> None:
    replica = Replica({"/metrics": VLLM.encode()})
    async with world(vllm=replica) as it:
        async with it.scraper.polling(0.01):
            while len(replica.asked) < 3:
                it.now += 1.0
                await asyncio.sleep(0.01)
        asked = len(replica.asked)
        it.now += 1.0
        await asyncio.sleep(0.05)
        assert len(replica.asked) == asked
