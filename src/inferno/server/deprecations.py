"""The table of calls that will go."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from inferno.server.operation import Operation
from inferno.web.deprecation import Deprecations

DEPRECATED: Deprecations = {}
"""Calls that will go. None will: OpenAI's legacy completions are served for as long as its clients
send them."""


def with_deprecations(table: Sequence[Operation], deprecated: Deprecations) -> list[Operation]:
    """Return the operations, with what is to be said of those that will go.

    Args:
        table: all operations.
        deprecated: those of them that will go, by path.

    Raises:
        ValueError: there is nothing at a path that is said to be deprecated.
    """
    if missing := deprecated.keys() - {operation.path for operation in table}:
        raise ValueError(f"Deprecated, but not served: {', '.join(sorted(missing))}")
    return [dataclasses.replace(o, deprecation=deprecated.get(o.path)) for o in table]
