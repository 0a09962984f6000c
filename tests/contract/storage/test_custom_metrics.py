"""Reported metrics, in every database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inferno.core.errors import Conflict, InvalidRequest, NotFound
from inferno.storage.database import Database
from inferno.telemetry import custom_metrics
from inferno.telemetry.custom_metrics import CustomMetrics, Report
from inferno.telemetry.metrics import Distribution, Measured


def report(name: str = "jobs", value: float = 1.0, **fields: Any) -> Report:
    return Report(name=name, value=value, **fields)


async def only(metrics: CustomMetrics) -> Measured:
    (found,) = await metrics.measured()
    return found


async def test_a_gauge_keeps_its_last_value(database: Database) -> None:
    metrics = CustomMetrics(database)
    await metrics.report(report(value=42.5, labels={"environment": "production"}))
    assert await metrics.report(report(value=-7.0, labels={"environment": "production"})) == -7.0
    found = await only(metrics)
    assert (found.family.name, found.family.kind) == ("jobs", "gauge")
    assert found.family.labels == ("environment",)
    assert found.values == [(("production",), -7.0)]


async def test_a_counter_adds_up_under_a_name_that_says_so(database: Database) -> None:
    metrics = CustomMetrics(database)
    await metrics.report(report(value=2, type="counter"))
    assert await metrics.report(report(name="jobs_total", value=3, type="counter")) == 5
    found = await only(metrics)
    assert (found.family.name, found.values) == ("jobs_total", [((), 5.0)])


async def test_a_histogram_counts_observations(database: Database) -> None:
    metrics = CustomMetrics(database)
    await metrics.report(report(value=1.0, type="histogram", buckets=[1.0, 10.0]))
    await metrics.report(report(value=5.0, type="histogram"))
    await metrics.report(report(value=50.0, type="histogram", labels={"kind": "x"}))
    found = dict((await only(metrics)).values)
    assert found["",] == Distribution([1.0, 10.0], [1, 1, 0], 6.0)
    assert found["x",] == Distribution([1.0, 10.0], [0, 0, 1], 50.0)
    with pytest.raises(Conflict, match="buckets"):
        await metrics.report(report(type="histogram", buckets=[2.0]))


async def test_what_was_answered_outlives_the_process(database: Database, url: str) -> None:
    await CustomMetrics(database).report(report(value=3, type="counter", help="Jobs done."))
    other = await Database.open(url)
    try:
        found = await only(CustomMetrics(other))
        assert (found.family.help, found.values) == ("Jobs done.", [((), 3.0)])
    finally:
        await other.close()


async def test_reports_at_once_all_count(database: Database) -> None:
    metrics = CustomMetrics(database)
    await asyncio.gather(*(metrics.report(report(type="counter")) for _ in range(20)))
    assert (await only(metrics)).values == [((), 20.0)]


async def test_an_empty_label_is_none(database: Database) -> None:
    metrics = CustomMetrics(database)
    await metrics.report(report(value=1, labels={"a": ""}))
    await metrics.report(report(value=2))
    assert [value for _, value in (await only(metrics)).values] == [2.0]


async def test_a_metric_has_one_type(database: Database) -> None:
    metrics = CustomMetrics(database)
    await metrics.report(report(type="counter"))
    with pytest.raises(Conflict, match="counter"):
        await metrics.report(report(type="gauge"))
    assert (await only(metrics)).values == [((), 1.0)]


async def test_series_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom_metrics, "MAX_SERIES", 2)
    metrics = CustomMetrics(database)
    await metrics.report(report(labels={"n": "1"}))
    await metrics.report(report(labels={"n": "2"}))
    with pytest.raises(InvalidRequest, match="2 series"):
        await metrics.report(report(labels={"n": "3"}))
    await metrics.report(report(value=9, labels={"n": "2"}))
    await metrics.delete("jobs")
    await metrics.report(report(labels={"n": "3"}))
    assert (await only(metrics)).values == [(("3",), 1.0)]


async def test_a_metric_is_deleted_under_either_of_its_names(database: Database) -> None:
    metrics = CustomMetrics(database)
    await metrics.report(report(type="counter"))
    await metrics.delete("jobs_total")
    assert await metrics.measured() == []
    with pytest.raises(NotFound):
        await metrics.delete("jobs_total")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "inferno_requests_running"}, "name"),
        ({"name": "Inferno_x"}, "name"),
        ({"name": "process_x"}, "name"),
        ({"name": "up"}, "name"),
        ({"name": "jobs_total"}, "name"),
        ({"name": "jobs_bucket"}, "name"),
        ({"name": "jobs_sum", "type": "counter"}, "name"),
        ({"name": "_total", "type": "counter"}, "name"),
        ({"labels": {"le": "1"}}, "labels.le"),
        ({"value": -1, "type": "counter"}, "value"),
        ({"buckets": [1.0]}, "buckets"),
        ({"type": "histogram", "buckets": [1.0, 1.0]}, "buckets"),
    ],
)
async def test_what_would_clash_is_refused(
    database: Database, fields: dict[str, Any], field: str
) -> None:
    metrics = CustomMetrics(database)
    with pytest.raises(InvalidRequest) as refused:
        await metrics.report(report(**fields))
    assert refused.value.field == field
    assert await metrics.measured() == []
