"""The load: conversations with shared system prompts and growing histories."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.startup.processes import cpu_seconds
from inferno.gateway.upstream import Address, UpstreamClient

PATIENCE = 120.0
"""Seconds that an answer may take to go on."""

_WORDS = (Path(__file__).parent / "words.txt").read_text().split()
_RUNS = itertools.count()


@dataclass(frozen=True)
class Plan:
    """How much is said.

    Args:
        conversations: that are open at a time.
        turns: of each.
        prompts: system prompts that they share.
        clients: requests that are in flight at a time.
        tokens: of each answer.
        in_turn: whether clients go round all conversations, as people who read and think between
            their questions make them; else each conversation is led to its end at once.
    """

    conversations: int = 12
    turns: int = 5
    prompts: int = 4
    clients: int = 6
    tokens: int = 32
    in_turn: bool = True


@dataclass(frozen=True)
class Party:
    """A way to the replicas.

    Args:
        name: as it is reported.
        address: where it listens.
        key: what opens it.
        process: suspended while others have their turn, so that it asks nothing of the replicas.
    """

    name: str
    address: Address
    key: str
    process: psutil.Process

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run while the block runs."""
        self.process.resume()
        try:
            yield
        finally:
            self.process.suspend()


@dataclass(frozen=True)
class Sample:
    """What one party did in one round.

    Args:
        rate: tokens per second.
        first_token: median seconds to the first token.
        slowest: the 90th percentile of the same.
        cached: share of the prompts' tokens that replicas had in their caches.
        cpu: CPU seconds of the replicas, per token; other load disturbs this little.
        share: of that, what the busiest replica took.
    """

    rate: float
    first_token: float
    slowest: float
    cached: float
    cpu: float
    share: float


@dataclass
class _Conversation:
    messages: list[dict[str, str]]
    turns: int


@dataclass
class _Round:
    """What the clients of one round share."""

    party: Party
    model: str
    plan: Plan
    waiting: deque[_Conversation]
    upstream: UpstreamClient = field(default_factory=UpstreamClient)
    first_tokens: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0


async def converse(
    party: Party, model: str, plan: Plan, replicas: Sequence[psutil.Process]
) -> Sample:
    """Lead all conversations of a plan through a party. No text was there before."""
    before = [cpu_seconds(one) for one in replicas]
    run = f"{next(_RUNS):08}"
    made = _Round(party, model, plan, deque(_conversations(plan, run)))
    begun = time.perf_counter()
    try:
        await asyncio.gather(*(_client(made) for _ in range(plan.clients)))
    finally:
        await made.upstream.close()
    wall = time.perf_counter() - begun
    used = [cpu_seconds(one) - then for one, then in zip(replicas, before, strict=True)]
    taken = sorted(made.first_tokens)
    tokens = plan.tokens * len(taken)
    return Sample(
        tokens / wall,
        median(taken),
        taken[len(taken) * 9 // 10],
        made.cached_tokens / max(made.prompt_tokens, 1),
        sum(used) / tokens,
        max(used) / max(sum(used), 1e-9),
    )


def _conversations(plan: Plan, run: str) -> Iterator[_Conversation]:
    chance = random.Random(run)
    prompts = [f"{run} {number}: {_text(chance, 150)}" for number in range(plan.prompts)]
    for number in range(plan.conversations):
        system = {"role": "system", "content": prompts[number % plan.prompts]}
        yield _Conversation([system], plan.turns)


def _text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(_WORDS, k=words))


async def _client(made: _Round) -> None:
    """Take a conversation, say something, and let the next have its turn."""
    chance = random.Random(made.party.name)
    while made.waiting:
        conversation = made.waiting.popleft()
        conversation.messages.append({"role": "user", "content": _text(chance, 20)})
        answer = await _ask(made, conversation.messages)
        conversation.messages.append({"role": "assistant", "content": answer})
        conversation.turns -= 1
        if conversation.turns and made.plan.in_turn:
            made.waiting.append(conversation)
        elif conversation.turns:
            made.waiting.appendleft(conversation)


async def _ask(made: _Round, messages: list[dict[str, str]]) -> str:
    """Get one streamed answer and return its text."""
    content = {
        "model": made.model,
        "messages": messages,
        "max_tokens": made.plan.tokens,
        "temperature": 0.8,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }
    headers = [
        (b"content-type", b"application/json"),
        (b"authorization", b"Bearer " + made.party.key.encode()),
    ]
    body = json.dumps(content).encode()
    begun = time.perf_counter()
    first = 0.0
    received = bytearray()
    async with await made.upstream.request(
        made.party.address, b"POST", b"/v1/chat/completions", headers, body,
        response_timeout=PATIENCE, read_timeout=PATIENCE,
    ) as response:  # fmt: skip
        async for block in response:
            received += block
            if not first and b'"content":"' in block.replace(b": ", b":"):
                first = time.perf_counter() - begun
    if response.status != 200 or not first:
        raise SystemExit(f"{made.party.name} answered {response.status}: {received.decode()}")
    made.first_tokens.append(first)
    return _read(made, bytes(received))


def _read(made: _Round, received: bytes) -> str:
    """Return the text of a stream, and count its tokens."""
    text = ""
    for line in received.split(b"\n"):
        if not line.startswith(b"data: {"):
            continue
        event: dict[str, Any] = json.loads(line[6:])
        for choice in event.get("choices", ()):
            text += choice["delta"].get("content") or ""
        usage = event.get("usage") or {}
        made.prompt_tokens += usage.get("prompt_tokens", 0)
        details = usage.get("prompt_tokens_details") or {}
        made.cached_tokens += details.get("cached_tokens", 0)
    return text
