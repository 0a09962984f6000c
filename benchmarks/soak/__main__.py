"""Run with `python -m benchmarks.soak`; 100,000 requests take five to ten minutes.

Requests of every kind go through one platform with the bundled model: chats, completions,
embeddings, streams that are read and streams that are left, batches, unknown models, wrong keys.
Twenty times on the way the platform's own memory is looked at (its replicas' is the engine's
affair). The first quarter warms caches, pools and the allocator up; from then on the memory should
be flat: a line through the remaining samples must not rise by more than 100 bytes a request.
`--websockets` opens 500 WebSockets instead, with 4 inferences each at once, half of them cancelled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import linear_regression

import aiohttp
import uvloop

from benchmarks.startup.processes import Platform, end_on_sigterm, load_average, platform
from tests.acceptance.sockets import many

MODEL = "inferno-tiny"
CLIENTS = 16
SAMPLES = 20
WARM_SHARE = 0.25
MAX_SLOPE = 100.0
"""Bytes of growth for each request."""

SOCKETS, INFERENCES = 500, 4


class Soak:
    """Requests of all kinds, drawn at random but the same each time.

    Args:
        session: sends them.
        started: the platform.
        total: how many are sent.
    """

    def __init__(self, session: aiohttp.ClientSession, started: Platform, total: int) -> None:
        self.statuses: Counter[int | str] = Counter()
        self.samples: list[tuple[int, int]] = []
        self._session = session
        self._process = started.process
        self._url = f"http://{started.address}"
        self._headers = {"Authorization": f"Bearer {started.key}"}
        self._total = total
        self._sent = 0
        self._chance = random.Random(1)
        self._kinds: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (40, self._chat),
            (15, self._completion),
            (15, self._stream),
            (10, self._left_stream),
            (10, self._embeddings),
            (4, self._unknown_model),
            (3, self._wrong_key),
            (2, self._listing),
            (1, self._batch),
        ]

    async def run(self) -> None:
        """Send all."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CLIENTS):
                tasks.create_task(self._client())

    async def _client(self) -> None:
        weights, kinds = zip(*self._kinds, strict=True)
        every = max(1, self._total // SAMPLES)
        while self._sent < self._total:
            self._sent += 1
            if self._sent % every == 0:
                self._sample()
            [kind] = self._chance.choices(kinds, weights)
            with suppress(aiohttp.ServerDisconnectedError):
                await kind()

    def _sample(self) -> None:
        resident = self._process.memory_info().rss
        self.samples.append((self._sent, resident))
        print(f"  {self._sent:8,} requests: {resident / 2**20:7.1f} MB", flush=True)

    async def _post(self, path: str, body: object) -> None:
        async with self._session.post(self._url + path, json=body, headers=self._headers) as answer:
            await answer.read()
            self.statuses[answer.status] += 1

    @property
    def _messages(self) -> list[dict[str, str]]:
        number = self._chance.randrange(1000)
        return [{"role": "user", "content": f"What is {number} plus {number}?"}]

    async def _chat(self) -> None:
        body = {"model": MODEL, "messages": self._messages, "max_tokens": 4}
        await self._post("/v1/chat/completions", body)

    async def _completion(self) -> None:
        body = {"model": MODEL, "prompt": "The capital of France is", "max_tokens": 4}
        await self._post("/inference", body)

    async def _stream(self) -> None:
        body = {"model": MODEL, "messages": self._messages, "max_tokens": 6, "stream": True}
        await self._post("/v1/chat/completions", body)

    async def _left_stream(self) -> None:
        body = {"model": MODEL, "messages": self._messages, "max_tokens": 200, "stream": True}
        async with self._session.post(
            f"{self._url}/v1/chat/completions", json=body, headers=self._headers
        ) as answer:
            await answer.content.readany()
            answer.close()
            self.statuses["left"] += 1

    async def _embeddings(self) -> None:
        await self._post("/v1/embeddings", {"model": MODEL, "input": ["one", "two"]})

    async def _unknown_model(self) -> None:
        name = f"nobody-{self._chance.randrange(10**9)}"
        await self._post("/v1/chat/completions", {"model": name, "messages": self._messages})

    async def _wrong_key(self) -> None:
        headers = {"Authorization": f"Bearer {self._chance.randbytes(16).hex()}"}
        async with self._session.get(f"{self._url}/v1/models", headers=headers) as answer:
            await answer.read()
            self.statuses[answer.status] += 1

    async def _listing(self) -> None:
        path = self._chance.choice(["/metrics", "/traces", "/models", "/health"])
        async with self._session.get(self._url + path, headers=self._headers) as answer:
            await answer.read()
            self.statuses[answer.status] += 1

    async def _batch(self) -> None:
        requests = [{"id": f"r{number}", "prompt": "2 + 2 =", "max_tokens": 3} for number in (1, 2)]
        await self._post("/batch", {"model": MODEL, "requests": requests})


def slope(samples: Sequence[tuple[int, int]]) -> float:
    """Return the growth in bytes a request after the warm-up."""
    warm = samples[int(len(samples) * WARM_SHARE) :]
    return linear_regression([sent for sent, _ in warm], [size for _, size in warm]).slope


async def soak(started: Platform, total: int) -> float:
    """Send requests, report, and return the growth in bytes a request."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
    begun = time.perf_counter()
    async with aiohttp.ClientSession(connector=connector) as session:
        load = Soak(session, started, total)
        await load.run()
    seconds = time.perf_counter() - begun
    growth = slope(load.samples)
    print(f"\n{total:,} requests in {seconds:.0f} s, {total / seconds:.0f} a second")
    print(f"answers: {json.dumps({str(k): n for k, n in load.statuses.most_common()})}")
    print(f"growth after the warm-up: {growth:.1f} bytes a request; aim at most {MAX_SLOPE:g}")
    return growth


async def crowd(started: Platform, clients: int) -> None:
    """Open many WebSockets at once, and report."""
    before = started.process.memory_info().rss
    begun = time.perf_counter()
    outcome = await many(
        f"http://{started.address}", started.key, clients=clients, inferences=INFERENCES,
        model=MODEL, prompt="Count to a thousand: one, two,", max_tokens=24, ignore_eos=True,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    after = started.process.memory_info().rss
    print(
        f"{clients} WebSockets with {INFERENCES} inferences each: {outcome.completed} completed, "
        f"{outcome.cancelled} cancelled, {outcome.tokens} tokens in {seconds:.1f} s; memory "
        f"{before / 2**20:.0f} to {after / 2**20:.0f} MB"
    )
    assert outcome.completed + outcome.cancelled == clients * INFERENCES


def main() -> None:
    """Measure and report; exit with 1 where the memory grows."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--websockets", action="store_true", help=f"{SOCKETS} of them instead")
    arguments = parser.parse_args()
    end_on_sigterm()
    with (
        tempfile.TemporaryDirectory(prefix="inferno-benchmark-") as name,
        platform(Path(name), max_queue=10_000, parallel=8, requests_per_minute=-1) as started,
    ):
        if arguments.websockets:
            uvloop.run(crowd(started, SOCKETS))
            return
        growth = uvloop.run(soak(started, arguments.requests))
    print(f"\n{load_average()}")
    if growth > MAX_SLOPE:
        sys.exit(1)


if __name__ == "__main__":
    main()
