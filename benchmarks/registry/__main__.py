"""Run with `python -m benchmarks.registry`; takes ten minutes for 100,000 entries.

The seed's example queries and updates, and others, over many entries in SQLite, in a Postgres of
its own, and in mongomock: p50 and p99 of each in milliseconds, with nothing else going on and then
beside a writer; which indexes the database says it uses; and how many times longer mongomock takes.
Calls go to the catalog and the finder, so what HTTP adds is not in the numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.registry import gin, mongo
from benchmarks.registry.entries import fill
from benchmarks.registry.plans import explained, indexes, scans
from benchmarks.registry.questions import questions
from benchmarks.startup.processes import load_average
from inferno.core.tenancy import ANONYMOUS
from inferno.registry.calls import change_of
from inferno.registry.catalog import Catalog
from inferno.registry.finding import Finder
from inferno.storage.database import Database
from tests.postgres_server import PostgresServer

PARTIES = ("sqlite", "postgres", "mongomock")
HEADER = f"{'':28}{'p50':>8}{'p99':>8}   {'p50':>8}{'p99':>8}"


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.registry", description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=100, help="of each query")
    parser.add_argument("--seconds", type=float, default=4, help="most for each query")
    parser.add_argument("--only", choices=PARTIES, help="of the parties")
    parser.add_argument("--questions", default="", help="only those with this in their name")
    parser.add_argument("--plans", action="store_true", help="print the databases' plans whole")
    given = parser.parse_args()
    print(load_average())
    medians: dict[str, dict[str, float]] = {}
    for party in PARTIES if given.only is None else (given.only,):
        print(f"\n{party}", flush=True)
        if party == "mongomock":
            medians[party] = mongo.measured(given.entries, given.seconds)
            continue
        with address(party) as url:
            bench = Bench(url, given)
            medians[party] = asyncio.run(bench.run())
    if "mongomock" in medians:
        print_ratios(medians)
    print(load_average())
    return 0


@contextmanager
def address(party: str) -> Iterator[str]:
    """Give the address of an empty database."""
    with ExitStack() as stack:
        if party == "postgres":
            # Its own defaults, but for what a server of this size is usually given.
            server = stack.enter_context(PostgresServer(fsync="on", shared_buffers="512MB"))
            yield server.url
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="inferno-bench-"))
            yield f"sqlite+aiosqlite:///{folder}/registry.db"


def print_ratios(medians: dict[str, dict[str, float]]) -> None:
    """Say how many times longer mongomock took."""
    others = [party for party in medians if party != "mongomock"]
    print(f"\n{'mongomock takes … times as long':34}" + "".join(f"{one:>10}" for one in others))
    for name, theirs in medians["mongomock"].items():
        ratios = "".join(f"{theirs / medians[one][name]:10.1f}" for one in others)
        print(f"{name:34}{ratios}")


class Bench:
    """Measures one database.

    Args:
        url: its address; it is empty.
        given: the options of the command line.
    """

    def __init__(self, url: str, given: argparse.Namespace) -> None:
        self._url = url
        self._given = given
        self.medians: dict[str, float] = {}

    async def run(self) -> dict[str, float]:
        """Fill the database, ask it, and return the medians."""
        database = await Database.open(self._url)
        entries = self._given.entries
        began = time.monotonic()
        await fill(database, self._url, entries)
        print(f"{entries} entries in {time.monotonic() - began:.0f} s; then beside a writer")
        print(HEADER)
        catalog, finder = Catalog(database, most=0), Finder(database)
        for question in questions(entries):
            if self._given.questions not in question.name:
                continue
            query = question.query()

            async def ask(query: object = query) -> object:
                return await finder.find(query)  # type: ignore[arg-type]

            lines = await explained(database, ask)
            await self._report(question.name, ask, catalog, lines)
        if not self._given.questions:
            await self._others(database, catalog)
        await database.close()
        return self.medians

    async def _others(self, database: Database, catalog: Catalog) -> None:
        entries = self._given.entries
        await self._report("one by its id", lambda: catalog.get("s500"), catalog, [])
        await self._report("update (seed)", lambda: update(catalog, entries), catalog, [])
        await self._report("push (seed)", lambda: push(catalog, entries), catalog, [])
        if database.is_postgres:
            await gin.compare(database, self._timed)

    async def _report(
        self, name: str, ask: Callable[[], Awaitable[object]], catalog: Catalog, lines: list[str]
    ) -> None:
        """Time calls alone, then beside a writer."""
        alone = await self._timed(ask)
        writer = asyncio.create_task(write(catalog, self._given.entries))
        beside = await self._timed(ask)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        self.medians[name] = alone[len(alone) // 2]
        used = ", ".join(name.removeprefix("ix_registry_") for name in indexes(lines))
        whole = ", ".join(scans(lines))
        print(f"{name:28}{shown(alone)}   {shown(beside)}  {used} {whole}".rstrip(), flush=True)
        if self._given.plans:
            print("    " + "\n    ".join(lines))

    async def _timed(self, ask: Callable[[], Awaitable[object]]) -> list[float]:
        """Return how long each call took, in milliseconds."""
        await ask()
        taken: list[float] = []
        end = time.monotonic() + self._given.seconds
        while len(taken) < self._given.calls and (len(taken) < 3 or time.monotonic() < end):
            began = time.perf_counter()
            await ask()
            taken.append((time.perf_counter() - began) * 1000)
        return sorted(taken)


def shown(taken: list[float]) -> str:
    """Return p50 and p99."""
    return f"{taken[len(taken) // 2]:8.2f}{taken[int(len(taken) * 0.99)]:8.2f}"


async def write(catalog: Catalog, entries: int) -> None:
    """Update entries, one after the other."""
    while True:
        await update(catalog, entries)
        await asyncio.sleep(0.005)


async def update(catalog: Catalog, entries: int) -> None:
    """Make the seed's first change to some entry."""
    change = change_of(
        b'{"$set": {"inference_server_metadata.region": "r%d",'
        b' "inference_server_metadata.provider": "Google Cloud"}}' % random.randrange(9)
    )
    await catalog.update(f"s{random.randrange(entries)}", change, ANONYMOUS)


async def push(catalog: Catalog, entries: int) -> None:
    """Make the seed's second change to some entry."""
    change = change_of(b'{"$push": {"inference_server_tags": "tag-%d"}}' % random.randrange(9))
    await catalog.update(f"s{random.randrange(entries)}", change, ANONYMOUS)


if __name__ == "__main__":
    raise SystemExit(main())
