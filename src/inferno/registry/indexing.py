"""What of an entry is indexed: its values by path, and its words. Pure."""

from __future__ import annotations

from inferno.core.documents.matching import texts_in
from inferno.registry.entries import (
    EXPIRES,
    ID,
    METADATA,
    NAME,
    REGISTERED,
    STATE,
    TAGS,
    UPDATED,
    URL,
    URLS,
    Document,
)
from inferno.registry.paths import Value, values_of, words_in

TIMES = frozenset({REGISTERED, UPDATED, EXPIRES})
"""Paths where text is always a time in its canonical form."""

ALWAYS = frozenset({ID, NAME, METADATA, TAGS, URL, REGISTERED, UPDATED, STATE})
"""Paths at which every entry has something."""

SEARCHED = ((NAME,), (TAGS,), (METADATA,))
"""Where `$text`, and `search`, look for words."""


_BRIEF = {
    ID: "$i",
    NAME: "$n",
    METADATA: "$m",
    TAGS: "$g",
    URL: "$u",
    URLS: "$a",
}
"""Stands for the first part of a path; no field's name begins so."""


def kept_path(path: str) -> str:
    """Return how the table has a path: it is there so often that its length is worth something."""
    first, dot, rest = path.partition(".")
    return f"{_BRIEF.get(first, first)}{dot}{rest}"


def index_of(entry: Document) -> set[Value]:
    """Return what an entry is found by."""
    searched = (entry.get(path[0]) for path in SEARCHED)
    words = words_in(text for value in searched for text in texts_in(value))
    return values_of(entry, times=TIMES) | words
