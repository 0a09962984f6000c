"""Run with `python -m benchmarks.registry`; takes some minutes for 100,000 entries.

The seed's example queries and updates over many entries: p50 and p99 of each in milliseconds, with
nothing else going on and beside a writer. Calls go to the catalog and the finder, so what HTTP adds
is not in the numbers. SQLite in a temporary folder, or another database with `--database URL`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa

from benchmarks.startup.processes import load_average
from inferno.core.documents.sorting import parse_sort
from inferno.core.tenancy import ANONYMOUS
from inferno.registry.calls import change_of
from inferno.registry.catalog import Catalog, _columns, present
from inferno.registry.entries import REGISTERED, Document, new_entry
from inferno.registry.finding import Finder, Query, parse
from inferno.registry.paths import values_of
from inferno.storage.database import Database
from inferno.storage.tables import registry_entries, registry_values

FACTS = "inference_server_metadata"
PROVIDERS = ("AWS", "GCP", "Azure", "Hetzner")
TAGS = ("NLP", "LLM", "BERT", "Transformer", "vision", "audio", "embeddings", "rerank")
AT_ONCE = 2000

QUERIES: dict[str, Any] = {
    "by zone and GPU (seed)": {
        f"{FACTS}.availability_zone": "us-east-1a",
        f"{FACTS}.gpu_available": True,
    },
    "on AWS (seed)": {f"{FACTS}.provider": "AWS"},
    "with NLP or LLM (seed)": {"inference_server_tags": {"$in": ["NLP", "LLM"]}},
    "registered after (seed)": {"registered_at": {"$gte": "2025-01-01T00:00:00Z"}},
    "by name": {"inference_server_name": "server-77777"},
    "rare tag": {"inference_server_tags": "rare"},
    "range of numbers": {f"{FACTS}.n": {"$gte": 500, "$lt": 510}},
    "either of two": {"$or": [{f"{FACTS}.n": 5}, {f"{FACTS}.cluster_id": "cluster-7"}]},
    "none (no index can help)": {f"{FACTS}.region": {"$regex": "nowhere$"}},
}


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.registry", description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=100, help="of each query")
    parser.add_argument("--database", help="URL of an empty database")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="inferno-bench-") as folder:
        url = given.database or f"sqlite+aiosqlite:///{folder}/registry.db"
        asyncio.run(measure(url, given.entries, given.calls))
    print(load_average())
    return 0


async def measure(url: str, entries: int, calls: int) -> None:
    """Fill a database and ask it."""
    database = await Database.open(url)
    began = time.monotonic()
    await fill(database, entries)
    print(f"{entries} entries in {time.monotonic() - began:.0f} s")
    catalog, finder = Catalog(database, most=0), Finder(database)
    print(f"{'':32} {'p50':>8} {'p99':>8}   beside a writer {'p50':>8} {'p99':>8}")
    for name, filter_ in QUERIES.items():
        query = Query(filter=parse(filter_), limit=20)
        few = calls if "no index" not in name else 3
        await report(name, few, lambda q=query: finder.find(q), catalog)  # type: ignore[misc]
    newest = Query(sort=parse_sort({"registered_at": -1}), limit=20)
    await report("newest of all", calls, lambda: finder.find(newest), catalog)
    await report("get", calls, lambda: catalog.get("s500"), catalog)
    await report("update", calls, lambda: update(catalog), catalog)
    await database.close()


async def report(
    name: str, calls: int, ask: Callable[[], Awaitable[object]], catalog: Catalog
) -> None:
    """Time calls alone, then beside a writer."""
    alone = await timed(calls, ask)
    writer = asyncio.create_task(write(catalog))
    beside = await timed(calls, ask)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    print(f"{name:32} {shown(alone)}                   {shown(beside)}", flush=True)


async def timed(calls: int, ask: Callable[[], Awaitable[object]]) -> list[float]:
    """Return how long each call took, in milliseconds."""
    await ask()
    taken = []
    for _ in range(calls):
        began = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)


def shown(taken: list[float]) -> str:
    """Return p50 and p99."""
    return f"{taken[len(taken) // 2]:8.2f} {taken[int(len(taken) * 0.99)]:8.2f}"


async def write(catalog: Catalog) -> None:
    """Update entries, one after the other."""
    while True:
        await update(catalog)
        await asyncio.sleep(0.005)


async def update(catalog: Catalog) -> None:
    """Make the seed's changes to some entry."""
    change = change_of(
        b'{"$set": {"inference_server_metadata.region": "r%d"},'
        b' "$inc": {"inference_server_metadata.updates": 1}}' % random.randrange(9)
    )
    await catalog.update(f"s{random.randrange(1000)}", change, ANONYMOUS)


async def fill(database: Database, entries: int) -> None:
    """Write entries, many in one transaction: the catalog's own way takes an fsync for each."""
    for start in range(0, entries, AT_ONCE):
        made = [entry_of(number) for number in range(start, min(start + AT_ONCE, entries))]
        rows = [
            {"seq": start + place + 1, **_columns(one), "owner": "x", REGISTERED: one[REGISTERED]}
            for place, one in enumerate(made)
        ]
        values = [
            {"seq": row["seq"], "place": place, **value._asdict()}
            for row, one in zip(rows, made, strict=True)
            for place, value in enumerate(values_of(one), 1)
        ]
        async with database.transaction() as connection:
            await connection.execute(sa.insert(registry_entries), rows)
            await connection.execute(sa.insert(registry_values), values)
    if database.is_postgres:
        async with database.transaction() as connection:
            await connection.execute(sa.text("ANALYZE"))


def entry_of(number: int) -> Document:
    """Return an entry like the seed's, always the same for a number."""
    chance = random.Random(number)
    tags = chance.sample(TAGS, 3) + (["rare"] if number % 20_000 == 19_999 else [])
    region = chance.choice(("us-east-1", "us-west-2", "eu-central-1", "ap-south-1"))
    return new_entry(
        {
            "inference_server_id": f"s{number}",
            "inference_server_name": f"server-{number}",
            FACTS: {
                "region": region,
                "availability_zone": region + chance.choice("abc"),
                "provider": chance.choice(PROVIDERS),
                "cluster_id": f"cluster-{chance.randrange(500)}",
                "gpu_available": chance.random() < 0.5,
                "n": chance.randrange(10_000),
                "quota_management_data": {
                    "requests_per_second_total": 100,
                    "requests_per_session_id": 1000,
                },
            },
            "inference_server_tags": tags,
            "inference_server_public_url": f"https://s{number}.example.com",
        },
        present(),
    )


if __name__ == "__main__":
    raise SystemExit(main())
