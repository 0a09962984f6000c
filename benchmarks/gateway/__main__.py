"""Requests/s, latency, CPU and memory of gateways to one backend, at several loads.

Run with `python -m benchmarks.gateway`; takes about four minutes, with `--quick` one.

The gateways share one core and take turns; the backend and the load have another. The backend and
the load are faster than any gateway in Python but not than nginx, so requests/s compare the former
and CPU per request compares all: it is the gateway's own, user and system, its workers included.
Each ratio is the median over the rounds. Inferno checks keys, counts limits and keeps accounts; as
a gateway to a replica of its own it asks for a stream, whatever the client asks for, and joins the
pieces. The others pass on what they are given.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop

from benchmarks.gateway.load import Spoilt, apply, request
from benchmarks.gateway.parties import (
    BACKEND,
    ENVOY,
    INFERNO,
    LITELLM,
    MODEL,
    PEERS,
    SGLANG,
    Party,
    all_parties,
    profiled_inferno,
)
from benchmarks.gateway.profiled import profiling
from benchmarks.gateway.profiled import show as show_profile
from benchmarks.peers import add_options, chosen
from benchmarks.startup.processes import end_on_sigterm, load_average, pin

PROMPTS = {"1 KB": "word " * 180, "100 KB": "word " * 20_000}
CONNECTIONS = (1, 32, 256)
SLOW_CONNECTIONS = 32
"""More are too many for those who are slow."""

PACES = {1: (50, 5), 32: (50, 5), 256: (25, 40)}
"""Events of a stream and milliseconds between two, by connections: 6,400 events/s at the most."""


@dataclass(frozen=True)
class Kind:
    """A kind of load."""

    stream: bool
    size: str
    connections: int

    @property
    def title(self) -> str:
        """How it is called in the report."""
        what = "streams" if self.stream else "whole answers"
        return f"{what}, prompts of {self.size}, {self.connections} connections"

    @property
    def body(self) -> bytes:
        """The request's body."""
        events, pause = PACES[self.connections] if self.stream else (0, 0)
        content = {
            "model": MODEL,
            "seed": events * 1000 + pause,
            "stream": self.stream,
            "max_tokens": 100,
            "messages": [{"role": "user", "content": PROMPTS[self.size]}],
        }
        return json.dumps(content, separators=(",", ":")).encode()


MAIN, MAIN_STREAM, ALONE = Kind(False, "1 KB", 32), Kind(True, "1 KB", 32), Kind(False, "1 KB", 1)
ALL = [
    Kind(stream, size, connections)
    for stream in (False, True)
    for size in PROMPTS
    for connections in CONNECTIONS
]
QUICK = [ALONE, MAIN, MAIN_STREAM, Kind(False, "100 KB", 32)]


@dataclass(frozen=True)
class Sample:
    """One party's share of a round: a rate per second, the rest in microseconds.

    Args:
        rate: of requests, or of events of streams.
        cpu: of each of them.
        median: time until an answer begins.
        slowest: the 99th percentile of the same.
    """

    rate: float
    cpu: float
    median: float
    slowest: float


async def measure(party: Party, kind: Kind, seconds: float) -> Sample:
    """Put a kind of load on a party. Raises Spoilt."""
    message = request(party.address, party.key, kind.body)
    gc.collect()
    began, used = time.perf_counter(), party.cpu()
    load = await apply(party.address, message, connections=kind.connections, seconds=seconds)
    wall, used = time.perf_counter() - began, party.cpu() - used
    units = load.events if kind.stream else load.answers
    taken = sorted(load.latencies)
    slowest = taken[len(taken) * 99 // 100]
    return Sample(units / wall, used / units * 1e6, median(taken) * 1e6, slowest * 1e6)


Samples = dict[Kind, dict[str, list[Sample]]]


async def compare(
    parties: list[Party], kinds: Iterable[Kind], rounds: int, seconds: float
) -> Samples:
    """Let the parties take turns; the first round warms up."""
    samples: Samples = {kind: defaultdict(list) for kind in kinds}
    for number in range(rounds + 1):
        for kind in kinds:
            for party in parties if number % 2 else parties[::-1]:
                if party.slow and (number != 1 or kind.connections > SLOW_CONNECTIONS):
                    continue
                try:
                    sample = await measure(party, kind, seconds if number else seconds / 4)
                except Spoilt as spoilt:
                    print(f"{party.name}: {kind.title}: {spoilt}")
                    continue
                if number:
                    samples[kind][party.name].append(sample)
    return samples


def show(samples: Samples, parties: list[Party]) -> None:
    """Print a table for each kind; ratios are Inferno's to each party."""
    for kind, by_party in samples.items():
        unit = "event" if kind.stream else "request"
        base = median(sample.median for sample in by_party[BACKEND])
        print(
            f"\n{kind.title}\n  {'':28}{unit + 's/s':>12}{'CPU µs/' + unit:>16}"
            f"{'p50 ms':>10}{'p99 ms':>10}{'added':>10}{'inferno: rate':>16}{'CPU':>8}"
        )
        for party in parties:
            taken = by_party.get(party.name)
            if not taken:
                continue
            rate, cpu, middle, slowest = (
                median(getattr(sample, field) for sample in taken)
                for field in ("rate", "cpu", "median", "slowest")
            )
            ratios = [_ratio(by_party, party.name, field) for field in ("rate", "cpu")]
            print(
                f"  {party.name:28}{rate:12,.0f}{cpu:16.1f}{middle / 1e3:10.2f}"
                f"{slowest / 1e3:10.2f}{(middle - base) / 1e3:+10.2f}"
                f"{ratios[0]:16.2f}{ratios[1]:8.2f}"
            )


def _ratio(by_party: dict[str, list[Sample]], name: str, field: str) -> float:
    """Return the median of the rounds' own ratios; a slow party has been in the first only."""
    pairs = zip(by_party[INFERNO], by_party[name], strict=False)
    ratios = [getattr(a, field) / max(getattr(b, field), 1e-9) for a, b in pairs]
    return float(median(ratios))


def judge(samples: Samples) -> None:
    """Say whether the aims are met, at 32 connections and 1 KB."""
    print()
    for name, aim in ((ENVOY, 0.5), (SGLANG, 1.0), (LITELLM, 100.0)):
        if samples[MAIN].get(name):
            ratio = _ratio(samples[MAIN], name, "rate")
            _verdict(f"at least {aim:g} times the requests/s of {name}", ratio, ratio >= aim)
            cpu = _ratio(samples[MAIN], name, "cpu")
            print(f"  CPU of a request, which other load disturbs less: {cpu:.2f} times {name}'s.")
    if samples[MAIN_STREAM].get(ENVOY):
        ratio = _ratio(samples[MAIN_STREAM], ENVOY, "cpu")
        _verdict("at most 1.3 times envoy's CPU for an event of a stream", ratio, ratio <= 1.3)
    ours, base = (
        median(sample.median for sample in samples[ALONE][name]) for name in (INFERNO, BACKEND)
    )
    added = (ours - base) / 1e3
    _verdict("less than 1 ms added to one request at a time", added, added < 1)


def _verdict(aim: str, value: float, met: bool) -> None:
    print(f"Aim: {aim}: {value:.2f}, {'met' if met else 'missed'}.")


def profile(seconds: float) -> None:
    """Print where Inferno's time goes, for whole answers and for streams."""
    with tempfile.TemporaryDirectory(prefix="inferno-benchmark-") as name:
        folder = Path(name)
        file = folder / "profile.json"
        with profiled_inferno(folder, file) as party:
            pin(1)
            for kind in (MAIN, MAIN_STREAM):
                uvloop.run(measure(party, kind, seconds))
                with profiling(party.processes[0], file):
                    sample = uvloop.run(measure(party, kind, max(seconds, 5.0)))
                print(f"\n{kind.title}: {sample.cpu:.1f} µs of CPU each")
                show_profile(file, sample.cpu)
    print(load_average())


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="benchmarks.gateway")
    parser.add_argument("--quick", action="store_true", help="fewer kinds of load, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--profile", action="store_true", help="show where Inferno's time goes")
    add_options(parser)
    arguments = parser.parse_args()
    rounds, kinds = (1, QUICK) if arguments.quick else (arguments.rounds, ALL)
    peers = chosen(arguments, PEERS)
    end_on_sigterm()
    if arguments.profile:
        profile(arguments.seconds)
        return
    with (
        tempfile.TemporaryDirectory(prefix="inferno-benchmark-") as folder,
        all_parties(Path(folder), peers) as parties,
    ):
        idle = {party.name: party.memory() for party in parties}
        pin(1)
        samples = uvloop.run(compare(parties, kinds, rounds, arguments.seconds))
        print("\nresident memory in MiB, before and after the load")
        for party in parties:
            print(f"  {party.name:28}{idle[party.name]:10.0f}{party.memory():10.0f}")
    show(samples, parties)
    judge(samples)
    print(f"{rounds} rounds, {load_average()}")


if __name__ == "__main__":
    main()
