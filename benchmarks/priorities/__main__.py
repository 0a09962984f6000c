"""Run with `python -m benchmarks.priorities`; takes about a minute, with `--quick` half of one.

One llama.cpp replica with four slots serves a pool. First it is found out how many requests a
second it can serve, and how long an important one takes when nothing else goes on. Then requests
arrive at twice that rate, at random moments and whatever became of those before: a few `Critical`,
half of them `Default`, the rest `Sheddable`. Then the same comes again, all of it `Default`, to
show what priorities are worth. The model has random weights (6 layers, 512 wide, Q8_0). A CPU is
shared by the requests that it works on at once, so even one that is served at once takes longer
beside three others than alone; a GPU hardly notices.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import aiohttp
import uvloop

from benchmarks.startup.processes import Platform, end_on_sigterm, load_average, platform
from training.random_gguf import write_random_gguf

MODEL = "random"
TOKENS = 32
CLIENTS = 8
OVERLOAD = 2.0
MIX = {"critical": 0.1, "default": 0.5, "sheddable": 0.4}
EXPECTED = frozenset({200, 429, 503})
FACTOR = 8.0
"""Of the unloaded latency, what the median of important requests may take under twice the load."""


@dataclass
class Answers:
    """What came back for one kind of request: statuses, and seconds of those that were served."""

    statuses: Counter[int] = field(default_factory=Counter)
    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)


class Load:
    """Requests to the pool.

    Args:
        session: sends them.
        started: the platform.
    """

    def __init__(self, session: aiohttp.ClientSession, started: Platform) -> None:
        self._session = session
        self._url = f"http://{started.address}/v1/chat/completions"
        self._headers = {"Authorization": f"Bearer {started.key}"}
        self._number = 0

    async def ask(self, model: str, answers: Answers) -> None:
        """Send one request that no other begins like."""
        self._number += 1
        body = {
            "model": model,
            "messages": [{"role": "user", "content": f"{self._number}. Count to a thousand."}],
            "max_tokens": TOKENS,
            "temperature": 1.5,
        }
        begun = time.perf_counter()
        async with self._session.post(self._url, json=body, headers=self._headers) as answer:
            await answer.read()
        seconds = time.perf_counter() - begun
        if answer.status not in EXPECTED:
            raise SystemExit(f"A request was answered with {answer.status}.")
        answers.statuses[answer.status] += 1
        (answers.served if answer.status == 200 else answers.refused).append(seconds)

    async def capacity(self, seconds: float) -> float:
        """Return how many requests a second are served when nobody waits long."""
        end = time.perf_counter() + seconds
        answers = Answers()

        async def client() -> None:
            while time.perf_counter() < end:
                await self.ask("default", answers)

        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return len(answers.served) / (time.perf_counter() - begun)

    async def overload(
        self, rate: float, seconds: float, *, prioritised: bool
    ) -> dict[str, Answers]:
        """Send requests at a rate, whatever becomes of them."""
        answers = {name: Answers() for name in MIX}
        chance = random.Random(1)
        end = time.perf_counter() + seconds
        async with asyncio.TaskGroup() as tasks:
            while time.perf_counter() < end:
                [name] = chance.choices(list(MIX), list(MIX.values()))
                tasks.create_task(self.ask(name if prioritised else "default", answers[name]))
                await asyncio.sleep(chance.expovariate(rate))
        return answers


async def measure(started: Platform, seconds: float) -> None:
    """Measure and report."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)  # less than the server's
    async with aiohttp.ClientSession(connector=connector) as session:
        load = Load(session, started)
        warm = Answers()
        for _ in range(3):
            await load.ask("critical", warm)
        alone = Answers()
        await _repeat(lambda: load.ask("critical", alone), 10)
        rate = await load.capacity(seconds / 2)
        answers = await load.overload(OVERLOAD * rate, seconds, prioritised=True)
        alike = await load.overload(OVERLOAD * rate, seconds, prioritised=False)
        await _repeat(lambda: load.ask("critical", alone), 10)
    base = median(alone.served)
    print(f"the pool serves {rate:.1f} requests/s of {TOKENS} tokens; {OVERLOAD:g} times that come")
    print(f"unloaded, a critical request takes {base * 1e3:.0f} ms (median)\n")
    heads = "".join(f"{head:>9}" for head in ("sent", "served", "p50 ms", "p95 ms", "ratio"))
    print(f"  {'':20}{heads}  refused")
    for name, taken in answers.items():
        _line(name, taken, base)
    _line("critical, all alike", alike["critical"], base)
    ratio = median(answers["critical"].served) / base
    verdict = "met" if ratio <= FACTOR else "missed"
    print(f"\ncritical: {ratio:.2f} times the unloaded latency; aim at most {FACTOR:g}: {verdict}")


async def _repeat(work: Callable[[], Awaitable[None]], count: int) -> None:
    for _ in range(count):
        await work()


def _line(name: str, taken: Answers, base: float) -> None:
    sent = sum(taken.statuses.values())
    shown = f"  {name:20}{sent:9}{len(taken.served):9}"
    if len(taken.served) > 1:
        high = quantiles(taken.served, n=20)[-1]
        middle = median(taken.served)
        shown += f"{middle * 1e3:9.0f}{high * 1e3:9.0f}{middle / base:9.2f}"
    else:
        shown += f"{'':27}"
    refused = {status: count for status, count in taken.statuses.items() if status != 200}
    if refused:
        shown += f"  {refused} in {median(taken.refused) * 1e3:.1f} ms"
    print(shown)


def declare(started: Platform) -> None:
    """Make a pool of the platform's replica, and a name for each importance."""
    run = json.loads((started.data_dir / "run.json").read_text())
    base = f"{run['management_url']}/k8s/apis/inference.networking.x-k8s.io/v1alpha1"
    selector = {"serving.kserve.io/inferenceservice": MODEL}
    spec: dict[str, Any] = {"selector": selector, "targetPortNumber": 0}
    _post(started, base, "InferencePool", "pool", spec)
    for name in MIX:
        spec = {
            "modelName": name,
            "criticality": name.capitalize(),
            "poolRef": {"name": "pool"},
            "targetModels": [{"name": MODEL}],
        }
        _post(started, base, "InferenceModel", name, spec)


def _post(started: Platform, base: str, kind: str, name: str, spec: dict[str, Any]) -> None:
    body = {"metadata": {"name": name}, "kind": kind, "spec": spec}
    body["apiVersion"] = "inference.networking.x-k8s.io/v1alpha1"
    request = urllib.request.Request(
        f"{base}/namespaces/default/{kind.lower()}s",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {started.key}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="benchmarks.priorities", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="half as long")
    arguments = parser.parse_args()
    end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="inferno-benchmark-") as name:
        models = Path(name) / "models"
        models.mkdir()
        write_random_gguf(
            models / f"{MODEL}.gguf", layers=6, width=512, heads=8, ffn=1344, vocab=8000
        )
        with platform(
            Path(name), parallel=4, max_queue=200, models_dir=models, bundled_model="false"
        ) as started:
            declare(started)
            uvloop.run(measure(started, 12.0 if arguments.quick else 25.0))
    print(f"\n{load_average()}")


if __name__ == "__main__":
    main()
