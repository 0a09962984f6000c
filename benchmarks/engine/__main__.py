"""Run with `python -m benchmarks.engine`; takes about two minutes, with `--quick` half of one.

Every party serves the same model of random weights and gets the same streamed chats, 64 tokens
each. They take turns, in an order that turns round, so that all meet the same disturbances; the
medians over the rounds count, and each ratio is the median of the rounds' own ratios to the first
party. With `--omp-wait-policy` the parties are bare replicas whose threads wait in other ways.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop

from benchmarks.engine.load import Party, Sample, apply
from benchmarks.engine.parties import (
    DIRECT,
    LLAMA_CPP_PYTHON,
    PLATFORM,
    served,
    wait_policies,
)
from benchmarks.startup.processes import end_on_sigterm, load_average
from training.random_gguf import write_random_gguf

AIM = 0.98
"""Of the direct replica's tokens/s."""


@dataclass(frozen=True)
class Plan:
    """How much is measured: rounds after one that warms up, and answers of each client."""

    rounds: int
    answers: int
    seconds: float


CLIENTS = (1, 4, 8)
THOROUGH, QUICK = Plan(7, 2, 150.0), Plan(3, 1, 40.0)

Samples = dict[tuple[int, str], list[Sample]]
"""By number of clients and party."""


async def compare(parties: Sequence[Party], plan: Plan) -> Samples:
    """Let the parties take turns; what is not done within the plan's seconds is left."""
    samples: Samples = defaultdict(list)
    with suppress(TimeoutError):
        async with asyncio.timeout(plan.seconds):
            for number in range(plan.rounds + 1):
                answers = plan.answers if number else 1
                taken = await compare_once(parties if number % 2 else parties[::-1], answers)
                for key, sample in taken.items() if number else ():
                    samples[key].append(sample)
    if not samples:
        raise SystemExit(f"Not one round was done within {plan.seconds:g} seconds.")
    return samples


async def compare_once(parties: Sequence[Party], answers: int) -> dict[tuple[int, str], Sample]:
    """Measure all parties at all numbers of clients."""
    taken = {}
    for clients in CLIENTS:
        # One client's answer is short, and the short is what disturbances show in.
        each = answers * (3 if clients == 1 else 1)
        for party in parties:
            gc.collect()
            with party.awake():
                taken[clients, party.name] = await apply(party, clients=clients, answers=each)
    return taken


def show(samples: Samples, parties: Sequence[Party]) -> None:
    """Print a table; ratios are to the first party."""
    first = parties[0].name
    print(f"{'':22}{'clients':>8}{'tokens/s':>10}{'first token':>13}{'ratio':>8}")
    for clients in CLIENTS:
        for party in parties:
            taken = samples[clients, party.name]
            rate = median(sample.rate for sample in taken)
            milliseconds = median(sample.first_token for sample in taken) * 1e3
            ratio = _ratio(samples, clients, party.name, first)
            print(f"{party.name:22}{clients:8}{rate:10.1f}{milliseconds:10.0f} ms{ratio:8.3f}")


def _ratio(samples: Samples, clients: int, name: str, to: str) -> float:
    pairs = zip(samples[clients, name], samples[clients, to], strict=True)
    return median(ours.rate / theirs.rate for ours, theirs in pairs)


def show_cost(samples: Samples) -> None:
    """Print what the platform adds to the replica's work; other load disturbs this little."""
    print("\nCPU per token: the replica's, the platform's own, and its share")
    for clients in CLIENTS:
        replica, own = (
            median(sample.cpu for sample in samples[clients, name]) for name in (DIRECT, PLATFORM)
        )
        shown = f"{replica * 1e3:10.2f} ms{own * 1e6:10.0f} µs{own / replica:9.2%}"
        print(f"  {clients} clients{shown}")


def judge(samples: Samples, parties: Sequence[Party]) -> None:
    """Say whether the aims are met."""
    names = {party.name for party in parties}
    worst = min(_ratio(samples, clients, PLATFORM, DIRECT) for clients in CLIENTS)
    verdict = "met" if worst >= AIM else "missed"
    print(f"\nAim: at least {AIM} of the direct replica: {worst:.3f} at the least, {verdict}.")
    if LLAMA_CPP_PYTHON in names:
        ratios = [_ratio(samples, clients, PLATFORM, LLAMA_CPP_PYTHON) for clients in CLIENTS]
        verdict = "met" if min(ratios) > 1 and ratios[-1] >= 2.5 else "missed"
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"Aim: ahead of llama-cpp-python, 2.5 times at 8 clients: {shown}, {verdict}.")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="benchmarks.engine")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer rounds")
    parser.add_argument("--llama-cpp-python", metavar="PYTHON", help="an interpreter that has it")
    parser.add_argument("--omp-wait-policy", action="store_true", help="compare wait policies")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.layers, arguments.width = min(arguments.layers, 6), min(arguments.width, 512)
    end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="inferno-benchmark-") as name:
        folder = Path(name)
        model = folder / "benchmark-model.gguf"
        _write_model(model, arguments.layers, arguments.width)
        opened = (
            wait_policies(folder, model)
            if arguments.omp_wait_policy
            else served(folder, model, arguments.llama_cpp_python)
        )
        with opened as parties:
            samples = uvloop.run(compare(parties, QUICK if arguments.quick else THOROUGH))
    show(samples, parties)
    if not arguments.omp_wait_policy:
        show_cost(samples)
        judge(samples, parties)
    print(f"{len(samples[1, parties[0].name])} rounds, {load_average()}")


def _write_model(path: Path, layers: int, width: int) -> None:
    """Write a Llama model of the usual proportions."""
    write_random_gguf(
        path, layers=layers, width=width, heads=width // 64, ffn=width * 8 // 3 // 32 * 32,
        vocab=32000,
    )  # fmt: skip


if __name__ == "__main__":
    main()
