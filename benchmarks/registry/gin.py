"""The road not taken: Postgres' JSONB with a GIN index of `jsonb_path_ops`, for equality."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import sqlalchemy as sa

from inferno.registry.entries import METADATA, NAME, TAGS
from inferno.storage.database import Database

Timed = Callable[[Callable[[], Awaitable[object]]], Awaitable[list[float]]]

CONTAINED: dict[str, dict[str, Any]] = {
    "GIN: by zone and GPU (seed)": {
        METADATA: {"availability_zone": "us-east-1a", "gpu_available": True}
    },
    "GIN: on AWS (seed)": {METADATA: {"provider": "AWS"}},
    "GIN: by name": {NAME: "server-75000"},
    "GIN: by a rare tag": {TAGS: ["rare"]},
}
_PAGE = "SELECT seq, document FROM gin WHERE facts @> CAST(:wanted AS jsonb) ORDER BY seq LIMIT 20"
_UPDATE = (
    "UPDATE gin SET facts = jsonb_set(facts, '{inference_server_metadata,region}', '\"r\"')"
    " WHERE seq = :seq"
)


async def compare(database: Database, timed: Timed) -> None:
    """Put the entries into a table with such an index, and ask it the same."""
    began = time.monotonic()
    async with database.transaction() as connection:
        for statement in (
            "CREATE TABLE gin AS SELECT seq, document, CAST(document AS jsonb) AS facts"
            " FROM registry_entries",
            "ALTER TABLE gin ADD PRIMARY KEY (seq)",
            "CREATE INDEX ix_gin ON gin USING gin (facts jsonb_path_ops)",
            "ANALYZE gin",
        ):
            await connection.execute(sa.text(statement))
    print(f"GIN made in {time.monotonic() - began:.0f} s")
    for name, wanted in CONTAINED.items():
        text = msgspec.json.encode(wanted).decode()

        async def ask(text: str = text) -> object:
            async with database.read() as connection:
                return (await connection.execute(sa.text(_PAGE), {"wanted": text})).all()

        _print(name, await timed(ask))

    async def update() -> None:
        async with database.transaction() as connection:
            await connection.execute(sa.text(_UPDATE), {"seq": 500})

    _print("GIN: an update of one value", await timed(update))
    async with database.read() as connection:
        for name in ("ix_gin", "registry_values", "registry_entries"):
            size = sa.text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
            taken = await connection.scalar(size, {"name": name})
            print(f"size of {name}: {(taken or 0) / 2**20:.0f} MiB")


def _print(name: str, taken: list[float]) -> None:
    print(f"{name:28}{taken[len(taken) // 2]:8.2f}{taken[int(len(taken) * 0.99)]:8.2f}", flush=True)
