"""The road not taken: Postgres' JSONB with a GIN index of `jsonb_path_ops`, for equality."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import sqlalchemy as sa

from inferno.registry.compiling import possible
from inferno.registry.deadline import Deadline
from inferno.registry.entries import METADATA, NAME, TAGS
from inferno.registry.examining import Examiner
from inferno.registry.finding import parse
from inferno.registry.parts import All
from inferno.registry.planning import Planner
from inferno.storage.database import Database

Timed = Callable[[Callable[[], Awaitable[object]]], Awaitable[list[float]]]

_ZONE = {"availability_zone": "us-east-1a", "gpu_available": True}

ASKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "by zone and GPU": (
        {METADATA: _ZONE},
        {f"{METADATA}.{name}": value for name, value in _ZONE.items()},
    ),
    "on AWS": ({METADATA: {"provider": "AWS"}}, {f"{METADATA}.provider": "AWS"}),
    "by name": ({NAME: "server-750"}, {NAME: "server-750"}),
    "by a rare tag": ({TAGS: ["rare"]}, {TAGS: "rare"}),
}
"""What is contained, and the filter that says the same."""

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
    print(f"GIN made in {time.monotonic() - began:.0f} s; the statements alone, for a page")
    planner = Planner(database, Examiner())
    for name, (wanted, filter_) in ASKED.items():
        text = msgspec.json.encode(wanted).decode()
        parts = possible(parse(filter_))

        async def contain(text: str = text) -> object:
            async with database.read() as connection:
                return (await connection.execute(sa.text(_PAGE), {"wanted": text})).all()

        async def plan(parts: All = parts) -> object:
            chosen = await planner.plan(parts, None, Deadline())
            return await anext(chosen.pages(database, 0, 20))

        _print(f"GIN: {name}", await timed(contain))
        _print(f"values: {name}", await timed(plan))

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
