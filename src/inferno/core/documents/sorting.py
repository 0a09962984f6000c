"""Sorts documents in MongoDB's order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inferno.core.documents.tree import Path


@dataclass(frozen=True, slots=True)
class SortField:
    """One field to sort by."""

    path: Path
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    """What to sort by, the most important first; nothing keeps the order as it is."""

    fields: tuple[SortField, ...] = ()


def parse_sort(value: object) -> Sort:
    """Return what JSON says to sort by.

    Args:
        value: `{"name": 1, "age": -1}`, `[["name", 1], ["age", -1]]` or `None`.

    Raises:
        InvalidRequest: it is neither, or says the same field twice.
    """
    raise NotImplementedError


def sorted_documents(documents: Iterable[dict[str, object]], sort: Sort) -> list[dict[str, object]]:
    """Return documents in order; those that are equal keep theirs."""
    raise NotImplementedError


def sort_key(document: dict[str, object], sort: Sort) -> tuple[object, ...]:
    """Return what to compare a document by, for `sorted(…, key=…)`, `heapq` and cursors."""
    raise NotImplementedError
