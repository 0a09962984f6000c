"""What the platform measures as a page: Prometheus' text format, OpenMetrics, or JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from inferno.telemetry.metrics import Distribution, Family, Measured, Source, Value

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

LateSource = Callable[[], Awaitable[Iterable[Measured]]]
"""A source that has to ask somebody."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer to a scraper.

    Args:
        content_type: its format.
        body: its text.
    """

    content_type: str
    body: bytes


class Exposition:
    """Gathers what all sources measure.

    Args:
        sources: asked on the event loop.
        late: asked first, and waited for.
    """

    def __init__(self, sources: Sequence[Source], late: Sequence[LateSource] = ()) -> None:
        self._sources = sources
        self._late = late

    async def gather(self) -> list[Measured]:
        """Return all families with their values."""
        answers = await asyncio.gather(*(ask() for ask in self._late))
        found = [measured for source in self._sources for measured in source()]
        return [*found, *(measured for answer in answers for measured in answer)]

    async def page(self, accept: str) -> Page:
        """Return a page in the format that a scraper prefers.

        Writing thousands of lines takes milliseconds, which requests should not wait for: a
        thread does it.

        Args:
            accept: its `Accept` header; what we do not speak gets Prometheus' text format.
        """
        return await asyncio.to_thread(render, await self.gather(), accept)


def render(families: Sequence[Measured], accept: str) -> Page:
    """Return families as text."""
    from prometheus_client.exposition import choose_encoder

    # Its own reading of the header trusts versions that do not exist.
    encode, content_type = choose_encoder(OPENMETRICS if prefers_openmetrics(accept) else "")
    return Page(content_type, encode(_Collected([_metric(one) for one in families])))


def prefers_openmetrics(accept: str) -> bool:
    """Return whether an `Accept` header (RFC 9110, 12.5.1) asks for OpenMetrics 1.0.

    Args:
        accept: as Prometheus sends it, with a weight for each format; `*/*` is Prometheus' own.
    """
    openmetrics = plain = 0.0
    for one in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in one.split(";"))
        given = dict(part.partition("=")[::2] for part in parameters)
        weight = _weight(given.get("q", "1"))
        if media_type == "text/plain":
            plain = max(plain, weight)
        elif media_type == "application/openmetrics-text" and given.get("version", "") in OURS:
            openmetrics = max(openmetrics, weight)
    return openmetrics > 0 and openmetrics >= plain


OURS = ("", "1.0.0")
"""Versions of OpenMetrics that are spoken; without one, the caller takes any."""


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


class _Collected:
    """Metrics as the encoder takes them."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        """Return them."""
        return self._metrics


def _metric(measured: Measured) -> Metric:
    from prometheus_client.metrics_core import Metric

    family = measured.family
    name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
    metric = Metric(name, family.help, family.kind)
    for values, value in measured.values:
        labels = dict(zip(family.labels, values, strict=True))
        if isinstance(value, Distribution):
            _add_distribution(metric, labels, value)
        else:
            metric.add_sample(family.name, labels, value)
    return metric


def _add_distribution(metric: Metric, labels: dict[str, str], value: Distribution) -> None:
    from prometheus_client.utils import floatToGoString

    *cumulated, count = value.cumulated
    for bound, below in zip(value.bounds, cumulated, strict=True):
        le = floatToGoString(bound)  # type: ignore[no-untyped-call]
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": le}, below)
    metric.add_sample(f"{metric.name}_bucket", {**labels, "le": "+Inf"}, count)
    metric.add_sample(f"{metric.name}_count", labels, count)
    metric.add_sample(f"{metric.name}_sum", labels, value.sum)


def as_json(families: Iterable[Measured]) -> dict[str, Any]:
    """Return families as JSON has them."""
    return {
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "metrics": [
            {
                "name": one.family.name,
                "type": one.family.kind,
                "help": one.family.help,
                "samples": [_sample(one.family, *sample) for sample in one.values],
            }
            for one in families
        ],
    }


def _sample(family: Family, values: tuple[str, ...], value: Value) -> dict[str, Any]:
    labels = dict(zip(family.labels, values, strict=True))
    if not isinstance(value, Distribution):
        return {"labels": labels, "value": value}
    *cumulated, count = value.cumulated
    buckets = [{"le": b, "count": c} for b, c in zip(value.bounds, cumulated, strict=True)]
    return {"labels": labels, "buckets": buckets, "sum": value.sum, "count": count}
