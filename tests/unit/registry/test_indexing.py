"""Keys sort as the values do, and levels say what a path finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferno.core.documents.paths import reach
from inferno.core.documents.sorting import SortField, extreme
from inferno.core.documents.values import MISSING, order_key
from inferno.registry.entries import METADATA
from inferno.registry.indexing import index_of, kept_path
from inferno.registry.keys import (
    ANY,
    INSTANT,
    MAX_KEY,
    beginning_with,
    behind,
    is_exact,
    key_of,
    key_of_order,
    kind,
)
from inferno.registry.paths import (
    HIDDEN,
    MANY_WORDS,
    MAX_WORDS,
    PLAIN,
    WORDS,
    is_indexable,
    values_of,
    words_in,
)

texts = st.one_of(
    st.text(max_size=4),
    st.sampled_from(["x" * 199, "x" * 200, "x" * 200 + "a", "x" * 200 + "b", "\ud7ff", "\ue000"]),
).filter(lambda text: "\x00" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**53 - 1, 2**53, 2**53 + 1, -0.0, 0, 5e-324, 1e308]),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)


@given(scalars, scalars)
@settings(max_examples=80)
def test_keys_sort_as_values_do(one: Any, other: Any) -> None:
    keys, orders = (key_of(one), key_of(other)), (order_key(one), order_key(other))
    # As databases compare them: byte by byte.
    if keys[0].encode() < keys[1].encode():
        assert orders[0] < orders[1]
    if keys[0] == keys[1] and is_exact(keys[0]):
        assert orders[0] == orders[1]
    if orders[0] == orders[1]:
        assert keys[0] == keys[1]
    first, last = kind(keys[0])
    assert first <= keys[0] < behind(keys[0]) < last
    assert ANY[0] <= keys[0] < ANY[1]
    assert len(keys[0]) <= MAX_KEY


@given(texts, texts)
def test_a_range_has_what_begins_with_something(prefix: str, text: str) -> None:
    low, high = beginning_with(prefix)
    for one in (text, prefix + text):
        is_inside = low.encode() <= key_of(one).encode() < high.encode()
        assert is_inside or not one.startswith(prefix)
        if len(prefix) <= 200:
            assert is_inside == one.startswith(prefix)


documents = st.dictionaries(
    st.sampled_from(["a", "b"]),
    st.recursive(
        st.sampled_from([None, True, 1, 2.5, "x", "2025-01-01T00:00:00Z"]),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["a", "b", "0", "c.d", ""]), inner, max_size=2),
        ),
        max_leaves=8,
    ),
)
PATHS = [("a",), ("b",), ("a", "a"), ("a", "b"), ("b", "a"), ("a", "b", "a"), ("a", "a", "b")]


@given(documents, st.sampled_from(PATHS))
@settings(max_examples=80)
def test_levels_say_what_a_path_finds(document: dict[str, Any], path: tuple[str, ...]) -> None:
    rows = [row for row in values_of(document) if row.path == ".".join(path)]
    rows = [row for row in rows if not row.value.startswith(INSTANT)]
    reached = reach(document, path)
    found = [value for value in reached if value is not MISSING]
    flat = [inner for value in found for inner in (value if isinstance(value, list) else [value])]
    if not rows:
        assert found == []
    plain = [row for row in rows if row.level == PLAIN]
    if plain:
        assert len(rows) == len(reached) == 1
        assert plain[0].value == key_of(found[0])
    # What a path finds is there, and what is there and not hidden is found.
    keys = {row.value for row in rows}
    assert {key_of(value) for value in flat} <= keys
    shown = {row.value for row in rows if row.level < HIDDEN}
    assert shown <= {key_of(value) for value in flat} | {"0"}
    if MISSING in reached and rows:
        assert "1" in keys
    for is_descending in (False, True):
        key = key_of_order(extreme(document, SortField(path, is_descending)))
        assert key in keys or (key == "1" and not shown)


@pytest.mark.parametrize("path", ["a.0", "", "a..b", "a." + "b" * 199, "²"])
def test_what_is_not_indexable(path: str) -> None:
    assert not is_indexable(path)


def test_paths_are_kept_short() -> None:
    assert kept_path(f"{METADATA}.a") == "$m.a"
    assert kept_path(METADATA) == "$m"
    assert kept_path("state") == "state"
    assert kept_path(WORDS) == WORDS


def test_too_many_words_are_one() -> None:
    few = words_in([" ".join(f"w{number}" for number in range(MAX_WORDS))])
    assert len(few) == MAX_WORDS
    [many] = words_in([" ".join(f"w{number}" for number in range(MAX_WORDS + 1))])
    assert many.value == MANY_WORDS


def test_words_are_of_all_that_is_searched() -> None:
    entry = {
        "inference_server_name": "East-1",
        METADATA: {"0": {"c.d": ["Größe"]}, "n": 5},
        "inference_server_tags": ["NLP"],
        "inference_server_public_url": "https://elsewhere.example",
    }
    words = {row.value for row in index_of(entry) if row.path == WORDS}
    assert words == {"3east", "31", "3grösse", "3nlp"}
