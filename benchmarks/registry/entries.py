"""Entries like the seed's, and a way to write many of them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from inferno.registry.catalog import columns_of
from inferno.registry.entries import METADATA, REGISTERED, Document, new_entry
from inferno.registry.index import rows_of
from inferno.registry.indexing import index_of
from inferno.storage.database import Database
from inferno.storage.tables import registry_entries, registry_values

PROVIDERS = ("AWS", "GCP", "Azure", "Hetzner")
TAGS = ("NLP", "LLM", "BERT", "Transformer", "vision", "audio", "embeddings", "rerank")
BEGAN = datetime(2025, 1, 1, tzinfo=UTC)
AT_ONCE = 1000


def entry_of(number: int) -> Document:
    """Return an entry like the seed's, always the same for a number."""
    chance = random.Random(number)
    tags = chance.sample(TAGS, 3) + (["rare"] if number % 20_000 == 1999 else [])
    region = chance.choice(("us-east-1", "us-west-2", "eu-central-1", "ap-south-1"))
    return new_entry(
        {
            "inference_server_id": f"s{number}",
            "inference_server_name": f"server-{number}",
            METADATA: {
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
        BEGAN + timedelta(seconds=number),
    )


async def fill(database: Database, url: str, entries: int) -> None:
    """Write entries, many in one transaction: the catalog's own way takes an fsync for each.

    Args:
        database: an empty one.
        url: its address.
        entries: how many.
    """
    for start in range(0, entries, AT_ONCE):
        made = [entry_of(number) for number in range(start, min(start + AT_ONCE, entries))]
        numbered = list(enumerate(made, start + 1))
        rows = [
            {"seq": seq, **columns_of(one), "owner": "x", REGISTERED: one[REGISTERED]}
            for seq, one in numbered
        ]
        values = [row for seq, one in numbered for row in rows_of(seq, index_of(one))]
        async with database.transaction() as connection:
            await connection.execute(sa.insert(registry_entries), rows)
            await connection.execute(sa.insert(registry_values), values)
    if database.is_postgres:  # as autovacuum does, after a minute or so
        engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
        async with engine.connect() as plain:
            await plain.execute(sa.text("VACUUM ANALYZE"))
        await engine.dispose()
