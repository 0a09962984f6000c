"""Run with `python -m benchmarks.batches`; takes about two minutes, `--kills 20` one.

Throughput: the same requests as one batch through the whole platform, and sent to the same replica
directly by as many clients as keep its slots full. The two take turns, each with prompts of its
own, so that no cache helps anybody. What is compared is requests per second, from handing in to
the last result.

Kills: a batch of 1,000 requests, over which the platform is killed with `kill -9` twenty times;
afterwards every request has to have one result. It is the long form of
`tests/acceptance/test_batch_kill.py`, and uses the same code.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from benchmarks.startup.processes import end_on_sigterm, load_average
from tests.acceptance.batches import check_exactly_once, ended, entries, hand_in, killed_over
from tests.acceptance.platform import MODEL, Platform
from tests.acceptance.random_models import slow_model
from tests.acceptance.replicas import replica

SLOW = "slow"
ROUNDS = 7
SLOTS = 8
ENVIRONMENT = {
    "INFERNO_PARALLEL": str(SLOTS),
    "INFERNO_REQUESTS_PER_MINUTE": "-1",
    "INFERNO_REQUESTS_PER_HOUR": "-1",
}


def main() -> int:
    """Run the benchmark and return the exit code."""
    end_on_sigterm()
    parser = argparse.ArgumentParser(prog="benchmarks.batches", description=__doc__)
    parser.add_argument("--requests", type=int, default=80, help="of each batch")
    parser.add_argument("--tokens", type=int, default=32, help="generated for each request")
    parser.add_argument("--kills", type=int, default=0, help="kill the platform so often")
    parser.add_argument("--items", type=int, default=1000, help="of the batch it is killed over")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="inferno-bench-") as folder:
        if given.kills:
            kill(Path(folder), given.kills, given.items)
        else:
            throughput(Path(folder), given.requests, given.tokens)
    print(load_average())
    return 0


def throughput(folder: Path, count: int, tokens: int) -> None:
    """Compare a batch with the bare replica, for a small model and a larger one."""
    models = folder / "data" / "models"
    models.mkdir(parents=True)
    (models / f"{SLOW}.gguf").write_bytes(slow_model())
    with Platform(folder / "data", environment=ENVIRONMENT) as platform:
        for model in (MODEL, SLOW):
            with platform.http() as client:
                client.post(f"/models/{model}/load").raise_for_status()
            rates: dict[str, list[float]] = {"replica": [], "batch": []}
            for number in range(ROUNDS):
                direct = asyncio.run(directly(platform, model, count, tokens, f"d{number}"))
                rates["replica"].append(count / direct)
                rates["batch"].append(
                    count / as_batch(platform, model, count, tokens, f"b{number}")
                )
            bare, batch = median(rates["replica"]), median(rates["batch"])
            print(
                f"{model}: replica {bare:.1f} requests/s, batch {batch:.1f} requests/s, "
                f"ratio {batch / bare:.2f}"
            )


def prompts(count: int, name: str) -> list[str]:
    """Return prompts that begin differently."""
    return [f"{name} {i}: tell me about the number {i}" for i in range(count)]


async def directly(platform: Platform, model: str, count: int, tokens: int, name: str) -> float:
    """Return the seconds that the bare replica takes, asked by twice as many as it has slots."""
    found = replica(platform, model)
    waiting = prompts(count, name)
    headers = {"Authorization": f"Bearer {found.key}"}
    url = f"http://127.0.0.1:{found.port}/v1/completions"

    async def ask(session: aiohttp.ClientSession) -> None:
        while waiting:
            body: dict[str, Any] = {"prompt": waiting.pop(), "max_tokens": tokens, "stream": True}
            async with session.post(url, json=body | {"ignore_eos": True}) as response:
                response.raise_for_status()
                await response.read()

    begun = time.perf_counter()
    # llama.cpp's server closes connections that are kept alive.
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        aiohttp.ClientSession(headers=headers, connector=connector) as session,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(2 * SLOTS):
            tasks.create_task(ask(session))
    return time.perf_counter() - begun


def as_batch(platform: Platform, model: str, count: int, tokens: int, name: str) -> float:
    """Return the seconds that a batch takes."""
    requests = [
        {"id": str(i), "prompt": prompt, "ignore_eos": True}
        for i, prompt in enumerate(prompts(count, name))
    ]
    with platform.http() as client:
        begun = time.perf_counter()
        batch_id = hand_in(client, requests, model=model, max_tokens=tokens)
        stands = ended(client, batch_id, seconds=600)
        seconds = time.perf_counter() - begun
        assert stands["completed"] == count, stands
    return seconds


def kill(folder: Path, kills: int, items: int) -> None:
    """Kill the platform again and again over one batch, and check its results."""
    platform = Platform(folder / "data").start()
    try:
        requests = entries(items)
        with platform.http() as client:
            batch_id = hand_in(client, requests, max_tokens=24)
        killed_over(platform, batch_id, kills=kills, total=items, say=print)
        with platform.http() as client:
            check_exactly_once(client, batch_id, [one["id"] for one in requests])
        print(f"{items} requests, {kills} kills: each has one result")
    finally:
        if platform.process is not None and platform.process.poll() is None:
            platform.stop()


if __name__ == "__main__":
    sys.exit(main())
