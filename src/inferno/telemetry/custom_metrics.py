"""Metrics that operators' own programs report: kept in the database, so that they outlive us.

A gauge keeps its last value, a counter adds up, a histogram counts observations. Every report is
written before it is answered. Names of the platform's own metrics are not to be had, and the
number of series is bounded.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import Conflict, InvalidRequest, NotFound, Overloaded
from inferno.storage.database import Database
from inferno.storage.tables import counters
from inferno.storage.tables import custom_metrics as table
from inferno.telemetry.metrics import Distribution, Family, Measured, Value

NAME = "custom_metrics"
MAX_SERIES = 1000
MAX_LABELS = 10
RESERVED_PREFIXES = ("inferno_", "inference_", "process_", "python_", "scrape_", "promhttp_", "go_")
RESERVED_NAMES = frozenset({"up"})
RESERVED_ENDINGS = ("_bucket", "_count", "_sum", "_created", "_info", "_total")
RESERVED_LABELS = frozenset({"le", "quantile"})
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
NO_HELP = "Reported with POST /metrics/custom."

log = structlog.get_logger(__name__)

Type = Literal["gauge", "counter", "histogram"]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*\Z", max_length=128)]
LabelName = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z][a-zA-Z0-9_]*\Z", max_length=64)]
LabelValue = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=128)]
Number = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value of a metric (seed 001).

    Args:
        name: the metric; a counter's may leave out the `_total` that it is shown with.
        value: of a gauge, the value; of a counter, what is added; of a histogram, an observation.
        type: what it is.
        labels: tell the series of a metric apart.
        help: what it means, for people.
        buckets: of a histogram's first report: its upper bounds, ascending.
    """

    name: Name
    value: Number
    type: Type = "gauge"
    labels: Annotated[dict[LabelName, LabelValue], msgspec.Meta(max_length=MAX_LABELS)] = {}
    help: Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=256)] = ""
    buckets: Annotated[list[Number], msgspec.Meta(min_length=1, max_length=50)] | None = None

    @property
    def shown_name(self) -> str:
        """The name that a scraper sees."""
        return f"{self.base_name}_total" if self.type == "counter" else self.name

    @property
    def base_name(self) -> str:
        """The name without a counter's ending."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name


def check(report: Report) -> None:
    """Refuse what would break a page, or pass for a metric of the platform's.

    Raises:
        InvalidRequest: names the field.
    """
    name = report.base_name
    if not name or name in RESERVED_NAMES or name.lower().startswith(RESERVED_PREFIXES):
        raise InvalidRequest(
            f"'{report.name}' is reserved; names of your own must not begin with "
            f"{', '.join(RESERVED_PREFIXES)}.",
            field="name",
        )
    if name.endswith(RESERVED_ENDINGS):
        raise InvalidRequest(
            f"A {report.type}'s name must not end in {', '.join(RESERVED_ENDINGS)}.", field="name"
        )
    for label in report.labels:
        if label in RESERVED_LABELS:
            raise InvalidRequest(f"The label '{label}' is reserved.", field=f"labels.{label}")
    if report.type == "counter" and report.value < 0:
        raise InvalidRequest("A counter can only grow; 'value' must be 0 or more.", field="value")
    if report.buckets is not None:
        if report.type != "histogram":
            raise InvalidRequest(f"A {report.type} has no buckets.", field="buckets")
        if any(high <= low for low, high in pairwise(report.buckets)):
            raise InvalidRequest("'buckets' must ascend.", field="buckets")


class CustomMetrics:
    """Reported metrics.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, report: Report) -> float:
        """Take a report down; returns the series' value: a histogram's is its sum.

        Raises:
            InvalidRequest: it is not possible, or there are too many series.
            Conflict: the metric is of another type, or has other buckets.
        """
        check(report)
        key = {"name": report.base_name, "labels_hash": _hash(report.labels)}
        here = sa.and_(*(table.c[name] == value for name, value in key.items()))
        async with self._database.transaction() as connection:
            await _take_turn(connection)
            await self._begin(connection, report, key)
            row = await _row(connection, sa.select(table).where(here))
            assert row is not None  # noqa: S101 - it was written just now
            changed = _after(report, row)
            await connection.execute(sa.update(table).where(here).values(changed))
        return float(changed["value"])

    async def _begin(
        self, connection: AsyncConnection, report: Report, key: Mapping[str, str]
    ) -> None:
        """Make sure that the series is there, with the type and the buckets of the metric's others.

        Raises:
            Conflict: the metric is of another type.
            InvalidRequest: there are too many series.
        """
        same = sa.select(table).where(table.c.name == key["name"])
        first = await _row(connection, same.limit(1))
        if first is not None and first["kind"] != report.type:
            raise Conflict(f"'{report.name}' is a {first['kind']}.")
        there = await _row(connection, same.where(table.c.labels_hash == key["labels_hash"]))
        if there is not None:
            return
        total = await connection.scalar(sa.select(sa.func.count()).select_from(table))
        if total is not None and total >= MAX_SERIES:
            raise InvalidRequest(
                f"There are {MAX_SERIES} series already; delete some with "
                "DELETE /metrics/custom/NAME, or use fewer labels.",
                field="labels",
            )
        bounds = first["bounds"] if first is not None else list(report.buckets or BOUNDS)
        row = {
            **key,
            "kind": report.type,
            "help": report.help,
            "labels": report.labels,
            "value": 0.0,
            "bounds": bounds if report.type == "histogram" else [],
            "counts": [0] * (len(bounds) + 1) if report.type == "histogram" else [],
            "updated_at": "",
        }
        await connection.execute(sa.insert(table).values(row))

    async def delete(self, name: str) -> None:
        """Forget a metric with all its series.

        Raises:
            NotFound: there is none of that name.
        """
        names = (name, name.removesuffix("_total"))
        async with self._database.transaction() as connection:
            gone = await connection.execute(sa.delete(table).where(table.c.name.in_(names)))
        if not gone.rowcount:
            raise NotFound(f"There is no metric '{name}' of your own.")

    async def measured(self) -> list[Measured]:
        """Return all values; a `LateSource`. None while the database is away: ours go on."""
        query = sa.select(table).order_by(table.c.name, table.c.labels_hash)
        try:
            async with self._database.read() as connection:
                rows = (await connection.execute(query)).mappings().all()
        except Overloaded as error:
            log.warning("custom_metrics_unavailable", error=str(error))
            return []
        by_name: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            by_name.setdefault(row["name"], []).append(row)  # type: ignore[arg-type]
        return [_measured(series) for series in by_name.values()]


async def _take_turn(connection: AsyncConnection) -> None:
    """Make other writers wait until the transaction's end: on Postgres a row's lock does."""
    turn = sa.update(counters).where(counters.c.name == NAME).values(value=counters.c.value + 1)
    if (await connection.execute(turn)).rowcount == 0:
        start = "INSERT INTO counters (name, value) VALUES (:name, 0) ON CONFLICT DO NOTHING"
        await connection.execute(sa.text(start), {"name": NAME})
        await connection.execute(turn)


async def _row(connection: AsyncConnection, query: sa.Select[Any]) -> Mapping[str, Any] | None:
    row = (await connection.execute(query)).mappings().first()
    return dict(row) if row is not None else None


def _after(report: Report, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what changes in a series with a report.

    Raises:
        Conflict: the metric has other buckets.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    changed: dict[str, Any] = {"updated_at": now, "help": report.help or row["help"]}
    if report.type == "gauge":
        return {**changed, "value": report.value}
    changed["value"] = row["value"] + report.value
    if report.type == "histogram":
        bounds = row["bounds"]
        if report.buckets is not None and report.buckets != bounds:
            raise Conflict(f"'{report.name}' has the buckets {bounds}.")
        counts = list(row["counts"])
        counts[bisect_left(bounds, report.value)] += 1
        changed["counts"] = counts
    return changed


def _measured(series: list[Mapping[str, Any]]) -> Measured:
    """Return a metric with its series; a label that one lacks is empty, which means the same."""
    first = series[0]
    assert first["kind"] in get_args(Type)  # noqa: S101 - no other is written
    labels = tuple(sorted({name for one in series for name in one["labels"]}))
    ending = "_total" if first["kind"] == "counter" else ""
    meaning = next((one["help"] for one in series if one["help"]), NO_HELP)
    family = Family(first["name"] + ending, first["kind"], meaning, labels)
    values = [
        (tuple(one["labels"].get(name, "") for name in labels), _value(one)) for one in series
    ]
    return Measured(family, values)


def _value(row: Mapping[str, Any]) -> Value:
    if row["kind"] == "histogram":
        return Distribution(row["bounds"], row["counts"], row["value"])
    return float(row["value"])


def _hash(labels: Mapping[str, str]) -> str:
    """Return what tells sets of labels apart; an empty label is none."""
    canonical = sorted((name, value) for name, value in labels.items() if value)
    return hashlib.sha256(msgspec.json.encode(canonical)).hexdigest()
