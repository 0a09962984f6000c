"""Run with `python -m benchmarks.routing`; takes about ten minutes, with `--quick` one and a half.

All parties share the same replicas and take turns, in an order that turns round; every turn has
conversations of its own, so that nobody finds in a cache what another one left there. Medians over
the rounds count, and each ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import psutil
import uvloop

from benchmarks.peers import add_options, chosen
from benchmarks.routing.conversations import Party, Plan, Sample, converse
from benchmarks.routing.parties import CACHE_AWARE, INFERNO, PEER, PICKERS, all_parties
from benchmarks.startup.processes import end_on_sigterm, load_average
from training.random_gguf import write_random_gguf

AIM = 1.15
"""Of sglang-router's tokens/s with its policy `cache_aware`."""

ROUNDS, QUICK_ROUNDS = 3, 1

Samples = dict[str, list[Sample]]


async def compare(
    parties: Sequence[Party],
    replicas: Sequence[psutil.Process],
    model: str,
    plan: Plan,
    rounds: int,
) -> Samples:
    """Let the parties take turns."""
    samples: Samples = defaultdict(list)
    warm_up = replace(plan, turns=1, conversations=plan.clients)
    for party in parties:
        with party.awake():
            await converse(party, model, warm_up, replicas)
    for number in range(rounds):
        for party in parties if number % 2 else parties[::-1]:
            gc.collect()
            with party.awake():
                sample = await converse(party, model, plan, replicas)
            samples[party.name].append(sample)
            figures = f"{sample.rate:.1f} tokens/s, {sample.first_token * 1e3:.0f} ms"
            print(f"{party.name}: {figures}", file=sys.stderr, flush=True)
    return samples


def show(samples: Samples, parties: Sequence[Party]) -> None:
    """Print a table; ratios are Inferno's to each party."""
    print(
        f"{'':28}{'tokens/s':>10}{'first token':>13}{'90 %':>10}{'cached':>9}"
        f"{'CPU ms/token':>14}{'busiest':>9}{'inferno: rate':>16}{'first token':>13}"
    )
    for party in parties:
        taken = samples[party.name]
        rate, first, slowest, cached, cpu, share = (
            median(getattr(sample, field) for sample in taken)
            for field in ("rate", "first_token", "slowest", "cached", "cpu", "share")
        )
        print(
            f"{party.name:28}{rate:10.1f}{first * 1e3:10.0f} ms{slowest * 1e3:7.0f} ms"
            f"{cached:9.0%}{cpu * 1e3:14.2f}{share:9.0%}"
            f"{_ratio(samples, party.name, 'rate'):16.2f}"
            f"{_ratio(samples, party.name, 'first_token'):13.2f}"
        )


def _ratio(samples: Samples, name: str, field: str) -> float:
    pairs = zip(samples[INFERNO], samples[name], strict=True)
    ratios = [getattr(ours, field) / getattr(theirs, field) for ours, theirs in pairs]
    return float(median(ratios))


def judge(samples: Samples) -> None:
    """Say whether the aims are met."""
    if CACHE_AWARE not in samples:
        return
    rate = _ratio(samples, CACHE_AWARE, "rate")
    first = _ratio(samples, CACHE_AWARE, "first_token")
    print(
        f"\nAim: at least {AIM} times the tokens/s of {CACHE_AWARE}: {rate:.2f}, "
        f"{'met' if rate >= AIM else 'missed'}."
        f"\nAim: below it in time to the first token: {first:.2f} of it, "
        f"{'met' if first < 1 else 'missed'}."
    )


def main() -> None:
    """Measure and report."""
    plan = Plan()
    parser = argparse.ArgumentParser(prog="benchmarks.routing")
    parser.add_argument("--quick", action="store_true", help="a smaller model, one short round")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--conversations", type=int, default=plan.conversations)
    parser.add_argument("--prompts", type=int, default=plan.prompts, help="system prompts")
    parser.add_argument("--clients", type=int, default=plan.clients)
    parser.add_argument(
        "--at-once", action="store_true", help="lead each conversation to its end at once"
    )
    parser.add_argument(
        "--picker", action="append", default=[], help="compare the default with these pickers only"
    )
    add_options(parser)
    arguments = parser.parse_args()
    plan = replace(
        plan,
        conversations=arguments.conversations,
        prompts=arguments.prompts,
        clients=arguments.clients,
        in_turn=not arguments.at_once,
    )
    if arguments.quick:
        arguments.layers, arguments.width = min(arguments.layers, 6), min(arguments.width, 512)
        arguments.rounds = QUICK_ROUNDS
    pickers = {INFERNO: "", **{f"inferno, {one}": one for one in arguments.picker}}
    peers = chosen(arguments, [PEER])
    end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="inferno-benchmark-") as name:
        folder = Path(name)
        model = folder / "benchmark-model.gguf"
        _write_model(model, arguments.layers, arguments.width)
        chosen_pickers = pickers if arguments.picker else PICKERS
        with all_parties(folder, model, peers, chosen_pickers) as (parties, replicas):
            samples = uvloop.run(compare(parties, replicas, model.stem, plan, arguments.rounds))
    show(samples, parties)
    judge(samples)
    print(f"{arguments.rounds} rounds, {load_average()}")


def _write_model(path: Path, layers: int, width: int) -> None:
    """Write a Llama model of the usual proportions."""
    write_random_gguf(
        path, layers=layers, width=width, heads=width // 64, ffn=width * 8 // 3 // 32 * 32,
        vocab=4096,
    )  # fmt: skip


if __name__ == "__main__":
    main()
