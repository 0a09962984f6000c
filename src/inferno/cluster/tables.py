"""Tables: what `kubectl get` shows, made on the server as Kubernetes does it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from inferno.cluster.catalog import Served
from inferno.cluster.objects import Object, encode_metadata
from inferno.core.kinds import Column
from inferno.core.resources import Resource

Include = Literal["None", "Metadata", "Object"]

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 31_536_000


def columns_of(served: Served) -> list[Object]:
    """Return the headings."""
    if served.version.own_table:
        return [_heading(column) for column in served.version.columns]
    name = {
        "name": "Name", "type": "string", "format": "name", "priority": 0,
        "description": "Name must be unique within a namespace.",
    }  # fmt: skip
    age = {
        "name": "Age", "type": "string", "format": "", "priority": 0,
        "description": "How long ago it was created.",
    }  # fmt: skip
    middle = [_heading(column) for column in served.version.columns]
    shown = [one for one in middle if not one["priority"]]
    wide = [one for one in middle if one["priority"]]
    return [name, *shown, age, *wide]


def _heading(column: Column) -> Object:
    return {
        "name": column.name,
        "type": "string" if column.type == "date" else column.type,
        "format": "",
        "description": column.description or f"{column.name} of the resource.",
        "priority": column.priority,
    }


def row_of(served: Served, resource: Resource, shown: Object, include: Include) -> Object:
    """Return the row of a resource.

    Args:
        served: in which kind and version.
        resource: as it is stored.
        shown: the object that goes with the row, where the whole of it is wanted.
        include: what goes with the row.
    """
    columns = served.version.columns
    now = datetime.now(UTC)
    cells = [_cell(one, resource, now) for one in columns if not one.priority]
    wide = [_cell(one, resource, now) for one in columns if one.priority]
    created = age(resource.metadata.creation_timestamp, now)
    row: Object = {"cells": [resource.metadata.name, *cells, created, *wide]}
    if served.version.own_table:
        row["cells"] = [_cell(one, resource, now) for one in columns]
    if include == "Object":
        row["object"] = shown
    elif include == "Metadata":
        row["object"] = partial(served, resource)
    return row


def partial(served: Served, resource: Resource) -> Object:
    """Return a resource as `PartialObjectMetadata`."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": encode_metadata(served, resource.metadata),
    }


def table(
    served: Served, rows: Iterable[Object], metadata: Object, *, headed: bool = True
) -> Object:
    """Return a table.

    Args:
        served: of what kind.
        rows: from `row_of`.
        metadata: of the list.
        headed: whether headings come with it; in a watch only the first table has them.
    """
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns_of(served) if headed else [],
        "rows": list(rows),
    }


def _cell(column: Column, resource: Resource, now: datetime) -> Any:
    value = column.value(resource)
    if column.type == "date":
        return age(value, now)
    return "" if value is None and column.type == "string" else value


def age(since: str | None, now: datetime) -> str:
    """Return how long ago a moment was, as `kubectl` writes it."""
    if not since:
        return "<unknown>"
    try:
        seconds = int((now - datetime.fromisoformat(since)).total_seconds())
    except (ValueError, TypeError):
        return "<invalid>"
    return duration(max(0, seconds))


def duration(seconds: int) -> str:
    """Return a duration with the precision that people want of it."""
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if seconds < 10 * _MINUTE:
        return _two(seconds, _MINUTE, "m", 1, "s")
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 8 * _HOUR:
        return _two(seconds, _HOUR, "h", _MINUTE, "m")
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    if seconds < 8 * _DAY:
        return _two(seconds, _DAY, "d", _HOUR, "h")
    if seconds < 2 * _YEAR:
        return f"{seconds // _DAY}d"
    if seconds < 8 * _YEAR:
        return _two(seconds, _YEAR, "y", _DAY, "d")
    return f"{seconds // _YEAR}y"


def _two(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    whole, rest = divmod(seconds, large)
    return f"{whole}{large_name}" + (f"{rest // small}{small_name}" if rest // small else "")
