"""Labels, and the selectors that find resources by them (seed 002, `LabelKey`, `LabelValue`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from msgspec import Meta

from inferno.core.kinds import Cause

MAX_KEY_LENGTH = 253
KEY_PATTERN = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$"
)
"""A name of at most 63 characters, after a DNS name and a slash where it has a prefix."""

LabelKey = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_LENGTH, pattern=KEY_PATTERN)]

LabelValue = Annotated[
    str, Meta(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
]
"""Empty, or letters, digits, '-', '_' and '.', with a letter or digit at both ends."""


_KEY = re.compile(KEY_PATTERN)
_SHOWN = 64  # characters of a wrong key that a message repeats


def key_violations(keys: Iterable[str], field: str) -> Iterator[Cause]:
    """Find keys of a selector that are none: a schema says nothing of the keys of a map.

    Args:
        keys: of the selector.
        field: its path.
    """
    for key in keys:
        if not key:
            yield Cause(field, 'Invalid value: "": a label key should be at least 1 character long')
        elif len(key) > MAX_KEY_LENGTH:
            message = f"Too long: a label key may not be more than {MAX_KEY_LENGTH} characters"
            yield Cause(field, message, "FieldValueTooLong")
        elif not _KEY.fullmatch(key):
            shown = key[:_SHOWN]
            yield Cause(
                field, f"Invalid value: \"{shown}\": a label key should match '{KEY_PATTERN}'"
            )


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return whether a selector finds what carries these labels.

    Every entry has to match. An empty selector finds nothing, as with a `Service`, whose map of
    labels it is: a pool that says nothing of its members has none, rather than all there are.
    """
    return bool(selector) and selector.items() <= labels.items()
