"""Parses updates: `{"$set": {…}}` and its like."""

from __future__ import annotations

from inferno.core.documents.update_tree import Update


def parse_update(value: object, array_filters: object = None) -> Update:
    """Return the update that JSON stands for.

    Args:
        value: `{"$set": {"a.b": 1}}`, say.
        array_filters: a list of filters, one for each identifier of the paths' `$[identifier]`.

    Raises:
        InvalidRequest: it is malformed, has no operators, uses what is unknown or refused, or two
            of its paths are in each other's way; names the operator and the path.
    """
    raise NotImplementedError
