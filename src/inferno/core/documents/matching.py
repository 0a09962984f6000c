"""Says whether a document matches a filter."""

from __future__ import annotations

from inferno.core.documents.tree import Filter


def matches(filter: Filter, document: dict[str, object]) -> bool:  # noqa: A002
    """Return whether a document matches a filter."""
    raise NotImplementedError
