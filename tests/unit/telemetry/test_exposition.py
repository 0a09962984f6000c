from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from inferno.telemetry.exposition import Exposition, as_json, prefers_openmetrics, render
from inferno.telemetry.metrics import Distribution, Family, Measured

REQUESTS = Family("inferno_things_total", "counter", "Things.", ("model",))
SIZE = Family("inferno_size_bytes", "gauge", "Size.")
SPEED = Family("inferno_speed_seconds", "histogram", "Speed.", ("model",))
OLD = Family("inferno_things_count", "unknown", "Things.")
HOSTILE = 'a"b\\c\nd'
MEASURED = [
    Measured(REQUESTS, [(("tiny",), 3), ((HOSTILE,), 1)]),
    Measured.one(SIZE, 2.5),
    Measured(SPEED, [(("tiny",), Distribution((0.5, 1.0), (1, 2, 4), 9.5))]),
    Measured.one(OLD, 1),
]
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (PROMETHEUS_2, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0", True),
        ("text/plain, application/openmetrics-text", True),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.9", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nan", False),
        ("application/openmetrics-text;q=7", False),
        ("application/openmetrics-text; version=0.0.1", False),
        ("application/openmetrics-text; version=x", False),
        ("application/openmetrics-text; version=9.0.0; escaping=\x00", False),
        ("*/*", False),
        ("text/html", False),
        ("", False),
        (";;,;=,q=,", False),
    ],
)
def test_chooses_the_format_that_is_asked_for(accept: str, wanted: bool) -> None:
    assert prefers_openmetrics(accept) is wanted
    expected = "application/openmetrics-text" if wanted else "text/plain"
    assert render(MEASURED, accept).content_type.startswith(expected)


def test_prometheus_text_says_what_was_measured() -> None:
    page = render(MEASURED, "text/plain").body.decode()
    samples = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in read_prometheus(page)
        for s in family.samples
    }
    assert samples == {
        ("inferno_things_total", (("model", "tiny"),)): 3,
        ("inferno_things_total", (("model", HOSTILE),)): 1,
        ("inferno_size_bytes", ()): 2.5,
        ("inferno_speed_seconds_bucket", (("le", "0.5"), ("model", "tiny"))): 1,
        ("inferno_speed_seconds_bucket", (("le", "1.0"), ("model", "tiny"))): 3,
        ("inferno_speed_seconds_bucket", (("le", "+Inf"), ("model", "tiny"))): 7,
        ("inferno_speed_seconds_count", (("model", "tiny"),)): 7,
        ("inferno_speed_seconds_sum", (("model", "tiny"),)): 9.5,
        ("inferno_things_count", ()): 1,
    }


def test_openmetrics_says_the_same() -> None:
    page = render(MEASURED, "application/openmetrics-text").body.decode()
    families = {family.name: family for family in read_openmetrics(page)}  # type: ignore[no-untyped-call]
    assert {name: family.type for name, family in families.items()} == {
        "inferno_things": "counter",
        "inferno_size_bytes": "gauge",
        "inferno_speed_seconds": "histogram",
        "inferno_things_count": "unknown",
    }
    assert {s.labels["model"]: s.value for s in families["inferno_things"].samples} == {
        "tiny": 3,
        HOSTILE: 1,
    }


def test_json_says_the_same() -> None:
    shown = {one["name"]: one for one in as_json(MEASURED)["metrics"]}
    assert shown["inferno_size_bytes"] == {
        "name": "inferno_size_bytes",
        "type": "gauge",
        "help": "Size.",
        "samples": [{"labels": {}, "value": 2.5}],
    }
    assert shown["inferno_speed_seconds"]["samples"] == [
        {
            "labels": {"model": "tiny"},
            "buckets": [{"le": 0.5, "count": 1}, {"le": 1.0, "count": 3}],
            "sum": 9.5,
            "count": 7,
        }
    ]


async def test_gathers_sources_that_have_to_ask() -> None:
    async def late() -> list[Measured]:
        return [Measured.one(OLD, 7)]

    gathered = await Exposition([lambda: [Measured.one(SIZE, 1)]], [late]).gather()
    assert gathered == [Measured.one(SIZE, 1), Measured.one(OLD, 7)]
