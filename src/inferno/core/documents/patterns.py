"""Regular expressions of callers, bounded in time.

MongoDB and Python's `re` backtrack: a pattern as short as `(a+)+$` takes them exponentially long.
RE2 runs in time linear in the text, whatever the pattern, and bounds its memory too; what it
cannot do so (look-around, back-references) is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from inferno.core.documents import limits
from inferno.core.errors import InvalidRequest

OPTIONS = "imsux"


class Finder(Protocol):
    """A compiled pattern."""

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

    def is_in(self, text: str) -> bool:
        """Return whether the pattern is found anywhere in a text."""
        try:
            return self.finder.search(text) is not None
        except UnicodeEncodeError:  # a lone surrogate, which no stored document has
            return False


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
