"""Regular expressions of callers, bounded in time.

MongoDB and Python's `re` backtrack: a pattern as short as `(a+)+$` takes them exponentially long.
RE2 runs in time linear in the text, whatever the pattern, and bounds its memory too; what it
cannot do so (look-around, back-references) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inferno.core.documents import limits
from inferno.core.errors import InvalidRequest

OPTIONS = "imsux"

_BEGINNING = re.compile(r"\^((?:[\w \-/:@,;=%&#~'\"<>!]|\\[./\-])+)")
_UNJOINED = re.compile(r"\\[AzZC]|\(\?")
_REPEATS = ("?", "*", "+", "{")


class Finder(Protocol):
    """A compiled pattern."""

    @property
    def programsize(self) -> int:
        """Instructions that it was compiled to."""

    def search(self, text: str) -> object | None:
        """Return the first match, or None."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression.

    Args:
        source: as it was written.
        options: of `imsux`, sorted: ignore case, `^` and `$` at every line, `.` takes line ends,
            Unicode (always so), white space and comments are for readers.
        finder: the same, compiled.
    """

    source: str
    options: str
    finder: Finder = field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """Instructions that it was compiled to."""
        return self.finder.programsize

    def is_in(self, text: str) -> bool:
        """Return whether the pattern is found anywhere in a text."""
        try:
            return self.finder.search(text) is not None
        except UnicodeEncodeError:  # a lone surrogate, which no stored document has
            return False


class Sieve:
    """Finds the texts that a pattern is found in, among many of which few are.

    Crossing into RE2 takes longer than a search through a short text. So lines of many texts are
    searched at once, with `^` and `$` at each line; what is found in none of them is in no text.

    Args:
        pattern: which.
    """

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self._together: Finder | None = None
        # What says by itself where a text begins or ends, or how it is read, is asked one by one.
        if not _UNJOINED.search(pattern.source):
            self._together = _compiled(pattern.source, pattern.options + "m", "")

    @property
    def size(self) -> int:
        """Instructions of the pattern."""
        return self._pattern.size

    def found(self, texts: Sequence[str]) -> list[str]:
        """Return the texts that the pattern is found in."""
        if self.is_in_none("\n".join(texts)):
            return []
        return [text for text in texts if self._pattern.is_in(text)]

    def is_in_none(self, lines: str) -> bool:
        """Return whether the pattern is certainly in none of the texts that these lines are."""
        return self._together is not None and self._together.search(lines) is None


def parse_pattern(source: object, options: object, *, where: str) -> Pattern:
    """Return a pattern, compiled.

    Args:
        source: of `$regex`.
        options: of `$options`, or an empty text.
        where: the path that errors name.

    Raises:
        InvalidRequest: it is no pattern, too long, too large, or needs to backtrack.
    """
    if not isinstance(source, str):
        raise InvalidRequest("$regex has to be text.", field=where, operator="$regex")
    if not isinstance(options, str) or set(options) - set(OPTIONS):
        raise InvalidRequest(
            f"$options are letters of '{OPTIONS}'.", field=where, operator="$options"
        )
    if len(source) > limits.PATTERN_LENGTH:
        raise InvalidRequest(
            f"$regex may have {limits.PATTERN_LENGTH} characters, not {len(source)}.",
            field=where,
            operator="$regex",
        )
    letters = "".join(sorted(set(options)))
    return Pattern(source, letters, _compiled(source, letters, where))


def prefix_of(pattern: Pattern) -> str:
    """Return what every text begins with in which a pattern is found; often that is nothing.

    Only letters, digits and a few marks right behind `^` count, where nothing in the pattern lets
    them be repeated, left out, or be one of several.
    """
    if pattern.options.strip("su") or "|" in pattern.source:
        return ""
    found = _BEGINNING.match(pattern.source)
    if found is None:
        return ""
    literal, rest = found[1], pattern.source[found.end() :]
    return re.sub(r"\\(.)", r"\1", literal) if rest[:1] not in _REPEATS else _shorter(literal)


def _shorter(literal: str) -> str:
    """Return a literal without its last character, which a repetition is about."""
    return re.sub(r"\\(.)", r"\1", re.sub(r"(\\.|[^\\])$", "", literal))


def _compiled(source: str, options: str, where: str) -> Finder:
    import re2

    settings = re2.Options()
    settings.max_mem = limits.PATTERN_MEMORY
    settings.log_errors = False
    flags = "".join(letter for letter in options if letter in "ims")
    text = "".join(_without_comments(source)) if "x" in options else source
    try:
        finder: Finder = re2.compile(f"(?{flags}){text}" if flags else text, settings)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if isinstance(error, re2.error) else "it is not Unicode"
        if isinstance(reason, bytes):
            reason = reason.decode("utf-8", "replace")
        raise InvalidRequest(
            f"$regex takes the syntax of RE2, which runs in linear time and has neither "
            f"look-around nor back-references: {reason}.",
            field=where,
            operator="$regex",
        ) from None
    return finder


def _without_comments(source: str) -> Iterator[str]:
    """Yield a pattern without what the option `x` lets authors add for readers."""
    place = 0
    is_set = False
    while place < len(source):
        char = source[place]
        if char == "\\":
            yield source[place : place + 2]
            place += 2
            continue
        if char == "#" and not is_set:
            end = source.find("\n", place)
            place = len(source) if end < 0 else end
            continue
        if is_set or not char.isspace():
            yield char
        is_set = (char == "[") or (is_set and char != "]")
        place += 1
