"""Parses filters: JSON as callers write it, into the tree of `tree.py`."""

from __future__ import annotations

from inferno.core.documents.tree import Filter, Path


def parse_filter(value: object, *, text_paths: tuple[Path, ...] = ()) -> Filter:
    """Return the filter that JSON stands for.

    Args:
        value: `{"tags": {"$in": ["NLP", "LLM"]}}`, say; `None` is the empty filter.
        text_paths: the fields that `$text` searches; without any, `$text` is refused.

    Raises:
        InvalidRequest: it is malformed, too deep, or uses what is unknown or refused; names the
            operator and the path.
    """
    raise NotImplementedError
