"""Labels, and the selectors that find resources by them (seed 002, `LabelKey`, `LabelValue`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

LabelKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
        r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$",
    ),
]
"""A name of at most 63 characters, after a DNS name and a slash where it has a prefix."""

LabelValue = Annotated[
    str, Meta(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
]
"""Empty, or letters, digits, '-', '_' and '.', with a letter or digit at both ends."""


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return whether a selector finds what carries these labels.

    Every entry has to match. An empty selector finds nothing, as with a `Service`, whose map of
    labels it is: a pool that says nothing of its members has none, rather than all there are.
    """
    return bool(selector) and selector.items() <= labels.items()
