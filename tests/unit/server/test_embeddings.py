from typing import Any

import pytest

from inferno.core.errors import InvalidRequest
from inferno.server.embeddings import check_input


@pytest.mark.parametrize("given", ["a", ["a", "b"], [1, 2], [[1], [2, 3]], ["a"] * 2048])
def test_texts_and_token_ids_are_taken(given: Any) -> None:
    assert refused_field(given) is None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("", "input"),
        ([], "input"),
        (["a", ""], "input[1]"),
        (["a", 1], "input"),
        ([1, "a"], "input"),
        ([[]], "input"),
        ([-1], "input"),
        ([2**31], "input"),
        ([None], "input"),
        ([{"text": "a"}], "input"),
        (["a"] * 2049, "input"),
    ],
)
def test_other_input_is_refused_by_name(given: Any, field: str) -> None:
    assert refused_field(given) == field


def refused_field(given: Any) -> str | None:
    try:
        check_input(given)
    except InvalidRequest as refused:
        return refused.field
    return None
