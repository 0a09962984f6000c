"""Run with `python -m benchmarks.gateway_overhead`; takes about a minute.

The gateways share one core and take turns; the backend and the load have another. The backend and
the load are faster than any gateway in Python but not than nginx, so requests/s compare the former
and CPU per request compares all: it is the gateway's own, user and system, its workers included.
Each ratio is the median over the rounds. Inferno asks its replicas to stream, whatever the client
asks for, and joins the pieces; that is part of its cost. The others pass on what they are given.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop

from benchmarks.gateway_overhead.backend import EVENTS, PAUSE, SHORT
from benchmarks.gateway_overhead.load import apply, request
from benchmarks.gateway_overhead.parties import Party, all_parties
from benchmarks.startup.processes import end_on_sigterm, load_average, pin

CONNECTIONS = 32
ROUNDS = 5
SECONDS = 75.0
"""After which no further round begins."""

PROMPT = "word " * 180
"""Makes a request of about 1 KB."""


@dataclass(frozen=True)
class Kind:
    """A kind of load."""

    name: str
    stream: bool
    connections: int
    seconds: float

    @property
    def body(self) -> bytes:
        """The request's body."""
        messages = [{"role": "user", "content": PROMPT}]
        tokens = EVENTS if self.stream else SHORT
        content = {"model": "inferno-tiny", "messages": messages, "max_tokens": tokens}
        if self.stream:
            content["stream"] = True
        return json.dumps(content, separators=(",", ":")).encode()


KINDS = (
    Kind("chat", False, CONNECTIONS, 1.0),
    Kind("one at a time", False, 1, 0.4),
    Kind("streams", True, CONNECTIONS, 0.6),
)


@dataclass(frozen=True)
class Sample:
    """One party's share of a round: per second, and per unit of work in microseconds of CPU."""

    rate: float
    cpu: float
    latency: float


async def measure(party: Party, kind: Kind) -> Sample:
    """Put a kind of load on a party. The unit of work is an event where there are events."""
    message = request(party.address, party.key, kind.body)
    gc.collect()
    began, used = time.perf_counter(), party.cpu()
    load = await apply(party.address, message, connections=kind.connections, seconds=kind.seconds)
    wall, used = time.perf_counter() - began, party.cpu() - used
    units = load.events if kind.stream else len(load.latencies)
    return Sample(units / wall, used / units * 1e6, median(load.latencies) * 1e6)


Samples = dict[str, list[Sample]]


async def compare(parties: list[Party]) -> dict[str, Samples]:
    """Let the parties take turns; the first round warms up."""
    samples: dict[str, Samples] = {kind.name: defaultdict(list) for kind in KINDS}
    end = time.monotonic() + SECONDS
    for number in range(ROUNDS + 1):
        for kind in KINDS:
            for party in parties:
                sample = await measure(party, kind)
                if number:
                    samples[kind.name][party.name].append(sample)
        if number and time.monotonic() > end:
            break
    return samples


def show(samples: dict[str, Samples]) -> None:
    """Print a table for each kind; ratios are to Inferno."""
    chat, alone, streams = (samples[kind.name] for kind in KINDS)
    print(f"\nchat, 1 KB of prompt and {SHORT} tokens, {CONNECTIONS} in flight")
    _table(chat, "requests/s", "request")
    print(f"\nstreams, {CONNECTIONS} in flight, {1 / PAUSE:.0f} events/s each")
    _table(streams, "events/s", "event")
    print("\nthe same chat, one at a time: median latency in µs, and over the backend alone")
    base = median(sample.latency for sample in alone["backend alone"])
    for name, taken in alone.items():
        latency = median(sample.latency for sample in taken)
        print(f"  {name:16}{latency:8,.0f}{latency - base:+8,.0f}")


def _table(samples: Samples, rates: str, unit: str) -> None:
    print(f"  {'':16}{rates:>12}{f'CPU µs/{unit}':>18}{'inferno: rate':>16}{'CPU':>8}")
    ours = samples["inferno"]
    for name, taken in samples.items():
        rate, cpu = (median(getattr(s, field) for s in taken) for field in ("rate", "cpu"))
        faster = median(a.rate / b.rate for a, b in zip(ours, taken, strict=True))
        dearer = median(a.cpu / max(b.cpu, 1e-9) for a, b in zip(ours, taken, strict=True))
        print(f"  {name:16}{rate:12,.0f}{cpu:18.1f}{faster:16.2f}{dearer:8.2f}")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="benchmarks.gateway_overhead", description=__doc__)
    parser.add_argument("--sglang-router", metavar="PYTHON", help="an interpreter that has it")
    arguments = parser.parse_args()
    end_on_sigterm()
    with (
        tempfile.TemporaryDirectory(prefix="inferno-benchmark-") as folder,
        all_parties(Path(folder), arguments.sglang_router) as parties,
    ):
        pin(1)
        samples = uvloop.run(compare(parties))
    show(samples)
    print(f"\n{load_average()}")


if __name__ == "__main__":
    main()
