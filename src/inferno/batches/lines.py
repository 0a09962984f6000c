"""JSON lines: cutting a stream into lines, and reading a line of OpenAI's batch format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from inferno.batches.types import MAX_ITEM_BYTES, Item, LineError
from inferno.core.errors import InvalidRequest

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not empty.

    Args:
        number: as an editor counts, from 1.
        content: without its end.
    """

    number: int
    content: bytes


class LineTooLong(InvalidRequest):
    """A line is larger than one request may be."""


class LineSplitter:
    """Cuts pieces of a text into lines; empty ones are counted and left out.

    Args:
        max_bytes: longest line.
    """

    def __init__(self, max_bytes: int = MAX_ITEM_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest = b""
        self._number = 0

    def feed(self, piece: bytes) -> Iterator[Line]:
        """Yield the lines that a piece completes. Raises LineTooLong."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for content in lines:
            yield from self._line(content)
        if len(self._rest) > self._max_bytes:
            self._number += 1
            raise self._too_long()

    def end(self) -> Iterator[Line]:
        """Yield the last line, if it had no end. Raises LineTooLong."""
        rest, self._rest = self._rest, b""
        yield from self._line(rest)

    def _line(self, content: bytes) -> Iterator[Line]:
        self._number += 1
        if self._number == 1:
            content = content.removeprefix(BYTE_ORDER_MARK)
        if len(content) > self._max_bytes:
            raise self._too_long()
        content = content.strip()
        if content:
            yield Line(self._number, content)

    def _too_long(self) -> LineTooLong:
        return LineTooLong(
            f"Line {self._number} is longer than {self._max_bytes} bytes.", line=self._number
        )


class _OpenAILine(msgspec.Struct, kw_only=True):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Head(msgspec.Struct, kw_only=True):
    """What has to be known of a request before it is run."""

    model: str
    stream: bool | None = None


_lines: msgspec.json.Decoder[_OpenAILine] = msgspec.json.Decoder(_OpenAILine)
_heads: msgspec.json.Decoder[_Head] = msgspec.json.Decoder(_Head)

MAX_ID_LENGTH = 512


class LineFault(Exception):
    """A line cannot become a request.

    Args:
        error: says why.
    """

    def __init__(self, error: LineError) -> None:
        super().__init__(error.message)
        self.error = error


class OpenAILines:
    """Reads the lines of one batch in OpenAI's format, one after the other.

    Args:
        endpoints: what `url` may be.
        knows_model: whether there is a model of a name.
        ids: those of the batch so far.
    """

    def __init__(
        self, endpoints: tuple[str, ...], knows_model: Callable[[str], bool], ids: UniqueIds
    ) -> None:
        self._endpoints = endpoints
        self._knows_model = knows_model
        self._ids = ids
        self.model = ""

    def read(self, line: Line, place: int) -> Item:
        """Return the request in a line, at a place among the others. Raises LineFault."""
        parsed = self._parsed(line, _lines, line.content)
        if parsed.method != "POST":
            raise fault(line, "invalid_method", "'method' has to be 'POST'.", "method")
        if parsed.url not in self._endpoints:
            wanted = " or ".join(f"'{endpoint}'" for endpoint in self._endpoints)
            raise fault(line, "invalid_url", f"'url' has to be {wanted} in this batch.", "url")
        if (problem := self._ids.problem_with(parsed.custom_id)) is not None:
            code, message = problem
            raise fault(line, code, message, "custom_id")
        body = bytes(parsed.body)
        head = self._parsed(line, _heads, body, "body.")
        if head.stream:
            message = "'stream' cannot be true in a batch: results come whole."
            raise fault(line, "unsupported_parameter", message, "body.stream")
        if not self._knows_model(head.model):
            raise fault(line, "model_not_found", f"Model '{head.model}' not found.", "body.model")
        self.model = self.model or head.model
        return Item(place, parsed.custom_id, parsed.url, body)

    def _parsed(
        self, line: Line, decoder: msgspec.json.Decoder[Any], content: bytes, prefix: str = ""
    ) -> Any:
        try:
            if b"\x00" in content:
                raise UnicodeError
            content.decode()
            return decoder.decode(content)
        except msgspec.ValidationError as error:
            raise LineFault(_explained(line.number, str(error), prefix)) from None
        except (UnicodeError, msgspec.DecodeError, RecursionError):
            raise fault(line, "invalid_json_line", "This line is not valid JSON.") from None


class UniqueIds:
    """Tells ids apart that were seen from those that were not.

    Hashes are kept rather than ids: there may be a hundred thousand, as long as callers please.
    Python's hash of a text has 64 bits and a secret key, so nobody can make two that meet.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def problem_with(self, given: str) -> tuple[str, str] | None:
        """Return code and message of what is wrong with an id, or None and remember it."""
        if not given or len(given) > MAX_ID_LENGTH or "\x00" in given:
            return (
                "invalid_custom_id",
                f"An id has to have between 1 and {MAX_ID_LENGTH} characters.",
            )
        if hash(given) in self._seen:
            return "duplicate_custom_id", f"The id '{given}' occurs twice in the batch."
        self._seen.add(hash(given))
        return None


def fault(line: Line, code: str, message: str, param: str | None = None) -> LineFault:
    """Return the exception that says what is wrong with a line."""
    return LineFault(LineError(code=code, message=message, line=line.number, param=param))


def _explained(number: int, message: str, prefix: str) -> LineError:
    text, _, path = message.replace("`", "'").partition(" - at '$")
    if text.startswith("Object missing required field"):
        name = prefix + text.split("'")[1]
        return LineError(
            code="missing_required_parameter", message=f"'{name}' is missing.", line=number,
            param=name,
        )  # fmt: skip
    param = (prefix + path.strip(".'")).strip(".") or None
    return LineError(code="invalid_type", message=f"{text}.", line=number, param=param)
