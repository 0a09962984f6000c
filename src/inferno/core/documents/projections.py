"""Chooses the fields of documents that a caller wants to see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Projection:
    """Which fields to show.

    Args:
        is_inclusion: whether only what is named is shown, or all else.
        fields: by part of a path: a projection of what is inside, or what to do with it.
    """

    is_inclusion: bool
    fields: dict[str, object]


def parse_projection(value: object) -> Projection:
    """Return the projection that JSON stands for.

    Args:
        value: `{"name": 1, "tags": {"$slice": 2}}`, say; `None` and `{}` show everything.

    Raises:
        InvalidRequest: it is malformed, mixes inclusion and exclusion, or uses what is refused.
    """
    raise NotImplementedError


def project(projection: Projection, document: dict[str, object]) -> dict[str, object]:
    """Return what a projection shows of a document."""
    raise NotImplementedError
