"""Applies updates to documents."""

from __future__ import annotations

from datetime import datetime

from inferno.core.documents.tree import Filter
from inferno.core.documents.update_tree import Update


def apply_update(
    update: Update,
    document: dict[str, object],
    *,
    now: datetime,
    matched: Filter | None = None,
    is_insert: bool = False,
) -> dict[str, object]:
    """Return a document as an update leaves it; the one given stays as it is.

    A document that an update does not change is returned equal to the one given.

    Args:
        update: what to do.
        document: what to do it to.
        now: what `$currentDate` sets.
        matched: the filter that chose the document, which says what `$` stands for.
        is_insert: whether the document is new, so that `$setOnInsert` counts.

    Raises:
        InvalidRequest: it cannot be applied to this document; names the operator and the path.
    """
    raise NotImplementedError
