"""What a request asks for: options are told from filters, and mistakes are named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inferno.core.errors import InvalidRequest
from inferno.registry.calls import query_of


def asked(body: Any, url: bytes = b"") -> Any:
    return query_of(url, msgspec.json.encode(body), owner="default/ada")


def test_options_need_no_filter() -> None:
    query = asked({"limit": 5, "sort": {"registered_at": -1}, "count": True})
    assert (query.limit, query.count, len(query.sort.fields)) == (5, True, 1)
    assert asked({"mine": True}).owner == "default/ada"


def test_what_names_a_field_is_a_filter() -> None:
    assert asked({"state": "active", "limit": 5}).limit == 1000
    assert asked({}).limit == 1000


@pytest.mark.parametrize(
    ("body", "url", "field"),
    [
        ({"filter": {}, "limt": 1}, b"", "limt"),
        ({"filter": {}, "$and": []}, b"", "$and"),
        ({}, b"limit=x", "limit"),
        ({}, b"sort=%7B", "sort"),
        ({}, b"limt=1", "limt"),
        ({"limit": 1}, b"limit=1", "limit"),
        ({"limit": True}, b"", "limit"),
    ],
)
def test_mistakes_are_named(body: Any, url: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(body, url)
    assert caught.value.details["field"] == field
    assert f"'{field}'" in caught.value.message
