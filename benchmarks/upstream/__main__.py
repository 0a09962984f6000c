"""Run with `python -m benchmarks.upstream`; takes about 20 seconds.

The client has one core and the backend another, where there are two. Requests/s is what one
client core does with 32 requests in flight; CPU is the client process's own time per request,
which other work on the machine disturbs less. The clients take turns, so that both meet the same
disturbances; the medians over the rounds count. In the flood the backend is the slower one, and
chunks arrive several at a time; with the tokens, 1 ms apart, the time is given and CPU compares.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import aiohttp
import uvloop

from benchmarks.upstream.backend import CHUNKS
from inferno.gateway.upstream import Address, UpstreamClient

CONCURRENCY = 32
ROUNDS = 5
SECONDS = 0.5
BODY = b'{"model":"m","messages":[{"role":"user","content":"Hello"}],"stream":true}'
HEADERS = [(b"content-type", b"application/json"), (b"x-request-id", b"0123456789abcdef")]
TEXT_HEADERS = {name.decode(): value.decode() for name, value in HEADERS}

Call = Callable[[], Awaitable[int]]
"""Makes one request and returns the number of body parts that it saw."""


@dataclass
class Sample:
    """One client's share of a round."""

    rate: float
    cpu: float
    parts: float


async def measure(call: Call) -> Sample:
    """Keep `CONCURRENCY` calls in flight for a while."""
    requests = parts = 0
    start, cpu = time.perf_counter(), time.process_time()
    end = start + SECONDS

    async def work() -> None:
        nonlocal requests, parts
        while time.perf_counter() < end:
            seen = await call()
            parts += seen
            requests += 1

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    return Sample(requests / wall, used / requests * 1e6, parts / requests)


def kinds(unary: Call, stream: Callable[[str], Awaitable[int]]) -> dict[str, Call]:
    """Name the kinds of request that are compared."""
    return {
        "unary, 1 KB": unary,
        f"flood, {CHUNKS} chunks": partial(stream, "/flood"),
        f"tokens, {CHUNKS} chunks 1 ms apart": partial(stream, "/tokens"),
    }


def inferno_calls(client: UpstreamClient, address: Address) -> dict[str, Call]:
    """The kinds of request with the gateway's client."""

    async def unary() -> int:
        async with await client.request(
            address, b"POST", b"/unary", HEADERS, BODY, response_timeout=30
        ) as response:
            return len(await response.read(1 << 20)) // 1024

    async def stream(path: str) -> int:
        parts = 0
        async with await client.request(
            address, b"POST", path.encode(), HEADERS, BODY, response_timeout=30, read_timeout=30
        ) as response:
            async for _ in response:
                parts += 1
        return parts

    return kinds(unary, stream)


def aiohttp_calls(session: aiohttp.ClientSession, base: str) -> dict[str, Call]:
    """The same with aiohttp."""

    async def unary() -> int:
        async with session.post(f"{base}/unary", data=BODY, headers=TEXT_HEADERS) as response:
            return len(await response.read()) // 1024

    async def stream(path: str) -> int:
        parts = 0
        async with session.post(base + path, data=BODY, headers=TEXT_HEADERS) as response:
            async for _ in response.content.iter_any():
                parts += 1
        return parts

    return kinds(unary, stream)


def report(kind: str, ours: list[Sample], theirs: list[Sample]) -> None:
    """Print the medians and how the two compare."""
    print(f"\n{kind}")
    for name, samples in [("inferno", ours), ("aiohttp", theirs)]:
        rate, cpu, parts = (
            median(getattr(sample, field) for sample in samples)
            for field in ("rate", "cpu", "parts")
        )
        print(f"  {name}  {rate:8,.0f} requests/s  {cpu:7.1f} µs CPU  {parts:5.1f} reads")
    rates = median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))
    cpus = median(b.cpu / a.cpu for a, b in zip(ours, theirs, strict=True))
    print(f"  ratio    {rates:8.2f} requests/s  {cpus:7.2f} CPU (median of the rounds)")


async def main(port: int) -> None:
    """Let the clients take turns and report."""
    client = UpstreamClient()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        ours = inferno_calls(client, Address("127.0.0.1", port))
        theirs = aiohttp_calls(session, f"http://127.0.0.1:{port}")
        for kind in ours:
            samples: tuple[list[Sample], list[Sample]] = ([], [])
            for number in range(ROUNDS + 1):
                for calls, collected in zip((ours, theirs), samples, strict=True):
                    gc.collect()
                    sample = await measure(calls[kind])
                    if number:  # the first round warms up
                        collected.append(sample)
            report(kind, *samples)
    await client.close()


if __name__ == "__main__":
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    backend = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.upstream.backend"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert backend.stdout is not None
        uvloop.run(main(int(backend.stdout.readline())))
    finally:
        backend.terminate()
        backend.communicate()
