"""What is told of a pattern without a text, and of many texts at once, is so of each."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferno.core.documents.patterns import Pattern, Sieve, parse_pattern, prefix_of
from inferno.core.errors import InvalidRequest

PIECES = ("a", "b", "ab", "^", "$", ".", "*", "+", "?", "{2}", "|", "(", ")", "[ab]", r"\b", r"\B")
MORE = (
    r"\A",
    r"\z",
    "(?i)",
    "(?-m)",
    "(?:",
    r"\.",
    r"\-",
    "-",
    "ä",
    r"\w",
    r"\W",
    r"\s",
    "[^a]",
    "#",
)
TEXTS = st.text("ab.-Aä# \n", max_size=5)


@st.composite
def patterns(draw: st.DrawFn) -> Pattern | None:
    """Return a pattern; None where it is none."""
    source = draw(st.sampled_from(("", "^"))) + "".join(
        draw(st.lists(st.sampled_from(PIECES + MORE), max_size=6))
    )
    options = "".join(draw(st.sets(st.sampled_from("imsx"))))
    try:
        return parse_pattern(source, options, where="")
    except InvalidRequest:
        return None


@given(patterns(), st.lists(TEXTS, max_size=8))
@settings(max_examples=150, deadline=None)
def test_many_texts_are_searched_as_each_is(pattern: Pattern | None, texts: list[str]) -> None:
    if pattern is None:
        return
    assert Sieve(pattern).found(texts) == [text for text in texts if pattern.is_in(text)]
    for text in texts:
        assert not pattern.is_in(text) or text.startswith(prefix_of(pattern))


@pytest.mark.parametrize(
    ("source", "options", "prefix"),
    [
        ("^server-1", "", "server-1"),
        ("^server-1$", "s", "server-1"),
        (r"^a\.b-c", "", "a.b-c"),
        ("^abc*", "", "ab"),
        (r"^ab\.?c", "", "ab"),
        ("^ab{2}", "", "a"),
        ("^a(b|c)", "", ""),
        ("^ab|c", "", ""),
        ("^a.b", "", "a"),
        ("^abc", "i", ""),
        ("^abc", "m", ""),
        ("^a b", "x", ""),
        ("abc", "", ""),
        ("(?i)^abc", "", ""),
        ("^", "", ""),
    ],
)
def test_beginnings(source: str, options: str, prefix: str) -> None:
    assert prefix_of(parse_pattern(source, options, where="")) == prefix
