"""Every metric is in the guide, with its type and its labels, and none that does not exist."""

from __future__ import annotations

import re
import subprocess
from collections import Counter

from inferno.gateway import gauges
from inferno.telemetry import metrics_inferences, metrics_process, metrics_requests, otlp
from inferno.telemetry.custom_metrics import RESERVED_PREFIXES
from inferno.telemetry.exposition import render
from inferno.telemetry.metrics import Distribution, Family, Measured
from tests.architecture.source import ROOT

FAMILIES = (
    *metrics_inferences.FAMILIES,
    *metrics_requests.FAMILIES,
    *metrics_process.FAMILIES,
    *gauges.FAMILIES,
    *otlp.FAMILIES,
)
GUIDE = ROOT / "docs" / "guides" / "observability.md"


def _row(family: Family) -> tuple[str, str, str]:
    return family.name, family.kind, ", ".join(f"`{label}`" for label in family.labels)


def test_the_guide_lists_every_metric() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (counter|gauge|histogram|unknown) \| ([^|]*?) ?\|",
        GUIDE.read_text("utf-8"),
        re.MULTILINE,
    )
    assert sorted(rows) == sorted(_row(family) for family in FAMILIES)


def test_names_are_used_once_and_reserved() -> None:
    names = Counter(family.name for family in FAMILIES)
    assert [name for name, count in names.items() if count > 1] == []
    assert [name for name in names if not name.startswith(RESERVED_PREFIXES)] == []


def test_promtool_finds_nothing_wrong_with_any_metric() -> None:
    """A metric without a value, as most are where nothing happens, it would not look at."""
    some = Distribution((0.5, 1.0), (1, 2, 3), 4.5)
    page = render(
        [
            Measured(one, [(("x",) * len(one.labels), some if one.kind == "histogram" else 1.0)])
            for one in FAMILIES
        ],
        "",
    )
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page.body, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_counters_and_no_others_end_in_total() -> None:
    assert [f.name for f in FAMILIES if f.name.endswith("_total") != (f.kind == "counter")] == []


def test_every_metric_says_what_it_means() -> None:
    assert [f.name for f in FAMILIES if not f.help.endswith(".")] == []
