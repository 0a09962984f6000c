"""Metrics that an operator's own programs report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.access import NO_MODEL
from tests.acceptance.metrics import scrape
from tests.acceptance.platform import Platform

SEED = {
    "name": "custom_metric",
    "value": 42.5,
    "type": "gauge",
    "labels": {"environment": "production"},
}


def test_the_seeds_example_works_and_outlives_kill_9(start: Callable[..., Platform]) -> None:
    platform = start(environment=NO_MODEL)
    with platform.http() as client:
        answer = client.post("/metrics/custom", json=SEED)
        assert answer.status_code == 200
        assert answer.json() == {"status": "recorded", **SEED}
        jobs = {"name": "jobs", "type": "counter", "value": 2}
        assert client.post("/metrics/custom", json=jobs).json()["name"] == "jobs_total"
        times = {"name": "job_seconds", "type": "histogram", "value": 3, "buckets": [1, 5]}
        assert client.post("/metrics/custom", json=times).status_code == 200
    platform.kill()
    (platform.data_dir / "run.json").unlink()
    platform.start()
    with platform.http() as client:
        assert client.post("/metrics/custom", json=jobs).json()["value"] == 4
    seen = scrape(platform)
    assert seen.value("custom_metric", environment="production") == 42.5
    assert seen.value("jobs_total") == 4
    assert seen.value("job_seconds_bucket", le="1.0") == 0
    assert seen.value("job_seconds_bucket", le="5.0") == 1
    with platform.http() as client:
        assert client.delete("/metrics/custom/jobs_total").status_code == 200
        assert client.delete("/metrics/custom/jobs_total").status_code == 404
    assert "jobs" not in scrape(platform).families


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "x"}, "value"),
        ({"name": "x", "value": "1"}, "value"),
        ({"name": "x", "value": 1, "type": "summary"}, "type"),
        ({"name": "x", "value": 1, "kind": "gauge"}, "kind"),
        ({"name": "", "value": 1}, "name"),
        ({"name": "a b", "value": 1}, "name"),
        ({"name": "x\n", "value": 1}, "name"),
        ({"name": 'x{a="b"} 1\ny', "value": 1}, "name"),
        ({"name": "x" * 129, "value": 1}, "name"),
        ({"name": "inferno_uptime_seconds", "value": 1}, "name"),
        ({"name": "x", "value": 1, "labels": {"a b": "c"}}, "labels"),
        ({"name": "x", "value": 1, "labels": {"__name__": "c"}}, "labels"),
        ({"name": "x", "value": 1, "labels": {"a": "c\n"}}, "labels"),
        ({"name": "x", "value": 1, "labels": {"a": "\x00"}}, "labels"),
        ({"name": "x", "value": 1, "labels": {"a": "c" * 129}}, "labels"),
        ({"name": "x", "value": 1, "labels": {f"l{n}": "" for n in range(11)}}, "labels"),
        ({"name": "x", "value": -1, "type": "counter"}, "value"),
    ],
)
def test_what_cannot_be_a_metric_is_refused(
    platform: Platform, body: dict[str, Any], field: str
) -> None:
    with platform.http() as client:
        answer = client.post("/metrics/custom", json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "INVALID_REQUEST"
    assert str(error["details"]["field"]).split(".")[0].startswith(field)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", "1e301"])
def test_a_value_has_to_be_a_number(platform: Platform, value: str) -> None:
    with platform.http() as client:
        content = f'{{"name": "x", "value": {value}}}'
        answer = client.post("/metrics/custom", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "INVALID_REQUEST"
