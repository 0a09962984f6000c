"""What is measured, before anybody asks in which format: families, histograms, bounded labels.

A `Family` is a metric's name, type and meaning; a `Measured` is a family with its values at one
moment. Whoever counts something declares its families in a tuple `FAMILIES` and returns its
values from a `Source`; `exposition` makes a page of them. Counting is attribute arithmetic on the
event loop: no locks, no look-up of label sets, and no metrics library until somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "unknown"]

UNKNOWN = "unknown"
"""The model label of requests for models that do not exist: anybody can think of new names."""

OTHER = "other"
"""The label of all models, or tenants, beyond those that have series of their own."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric.

    Args:
        name: as Prometheus writes it; a counter's ends in `_total`.
        kind: its type.
        help: one sentence.
        labels: names of its labels.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a histogram holds at one moment.

    Args:
        bounds: upper bounds of the buckets; one more, without a bound, follows them.
        counts: observations in each bucket, not cumulated.
        sum: of all that was observed.
    """

    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self.counts)

    @property
    def cumulated(self) -> list[int]:
        """Observations at or below each bound, and all of them at the end."""
        return list(accumulate(self.counts))


Value = float | Distribution


@dataclass(slots=True)
class Measured:
    """A family with its values.

    Args:
        family: what was measured.
        values: label values, in the order of the family's labels, and the value.
    """

    family: Family
    values: list[tuple[tuple[str, ...], Value]] = field(default_factory=list)

    @classmethod
    def one(cls, family: Family, value: Value) -> Measured:
        """Return a family without labels, with its value."""
        return cls(family, [((), value)])


Source = Callable[[], Iterable[Measured]]
"""Returns what one part of the platform measures; called on the event loop."""


class Histogram:
    """Counts observations by size.

    Args:
        bounds: upper bounds of its buckets, ascending.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count an observation; a bucket holds what is at or below its bound."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def now(self) -> Distribution:
        """Return what it holds."""
        return Distribution(self.bounds, list(self.counts), self.sum)


def together(bounds: Sequence[float], parts: Iterable[Histogram]) -> Distribution:
    """Return the sum of histograms with the same bounds."""
    total = Histogram(bounds)
    for part in parts:
        total.sum += part.sum
        for place, count in enumerate(part.counts):
            total.counts[place] += count
    return total.now()
