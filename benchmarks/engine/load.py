"""The load: a number of clients that chat at the same time, each one answer after the other."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import psutil

from inferno.gateway.upstream import Address, UpstreamClient

TOKENS = 64
"""Generated tokens of each answer."""

PATIENCE = 120.0
"""Seconds that an answer may take to go on."""

_CONTENT = re.compile(rb'"content": ?"[^"]')
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Party:
    """A server that is measured.

    Args:
        name: as it is reported.
        address: where it listens.
        key: what opens it.
        model: what it calls the model.
        process: the server's own.
        sleeps: whether it is suspended while others have their turn.
    """

    name: str
    address: Address
    key: str
    model: str
    process: psutil.Process
    sleeps: bool = False

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let the party run while the block runs, if it sleeps between its turns."""
        if not self.sleeps:
            yield
            return
        self.process.resume()
        try:
            yield
        finally:
            self.process.suspend()

    def cpu(self) -> float:
        """Return the CPU seconds that its own process has used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@dataclass(frozen=True)
class Sample:
    """What one party did in one round.

    Args:
        rate: tokens per second.
        first_token: median seconds to the first token.
        cpu: CPU seconds of the party's own process, per token.
    """

    rate: float
    first_token: float
    cpu: float


@dataclass(frozen=True)
class _Answer:
    tokens: int
    first_token: float


async def apply(party: Party, *, clients: int, answers: int) -> Sample:
    """Let each of so many clients get so many answers."""
    upstream = UpstreamClient()
    begun, used = time.perf_counter(), party.cpu()

    async def chat() -> list[_Answer]:
        return [await _ask(upstream, party) for _ in range(answers)]

    try:
        per_client = await asyncio.gather(*(chat() for _ in range(clients)))
    finally:
        await upstream.close()
    wall, used = time.perf_counter() - begun, party.cpu() - used
    taken = [answer for given in per_client for answer in given]
    tokens = sum(answer.tokens for answer in taken)
    return Sample(tokens / wall, median(answer.first_token for answer in taken), used / tokens)


async def _ask(upstream: UpstreamClient, party: Party) -> _Answer:
    """Get one streamed answer; no two prompts begin alike, so that no cache knows them."""
    prompt = f"{next(_NUMBERS):08} Tell me about the sea, the sky and the land between them."
    content = {
        "model": party.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": TOKENS,
        "temperature": 0.8,
        "stream": True,
        "ignore_eos": True,
    }
    headers = [
        (b"content-type", b"application/json"),
        (b"authorization", b"Bearer " + party.key.encode()),
    ]
    begun = time.perf_counter()
    first = 0.0
    pieces, tail = 0, b""
    async with await upstream.request(
        party.address,
        b"POST",
        b"/v1/chat/completions",
        headers,
        json.dumps(content).encode(),
        response_timeout=PATIENCE,
        read_timeout=PATIENCE,
    ) as response:
        async for block in response:
            tail = (tail + block)[-4096:]
            found = len(_CONTENT.findall(block))
            if found and not first:
                first = time.perf_counter() - begun
            pieces += found
    if response.status != 200 or not first:
        raise SystemExit(f"{party.name} answered {response.status}: {tail.decode()}")
    # A token that ends within a character shows with the next one, so the engine's word counts.
    whole = re.search(rb'"finish_reason": ?"length"', tail)
    return _Answer(TOKENS if whole else pieces, first)
