"""`multipart/form-data` (RFC 7578) as it arrives: fields are kept, the file goes on at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from inferno.core.errors import InvalidRequest, PayloadTooLarge

MAX_FIELD_BYTES = 64 * 1024
MAX_PARTS = 32
MAX_BOUNDARY = 200
"""RFC 2046 allows 70."""

MAX_HEADER_BYTES = 16 * 1024

Receive = Callable[[bytes], Awaitable[None]]


class Form:
    """A form with one file in it.

    Args:
        file_field: name of the field that has the file.
    """

    def __init__(self, file_field: str) -> None:
        self._file_field = file_field
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.ended = False
        self._pieces: list[bytes] = []
        self._parts = 0
        self._in_file = False
        self._name = ""
        self._value = bytearray()
        self._header_bytes = 0
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}

    async def read(self, content_type: str, body: AsyncIterator[bytes], receive: Receive) -> None:
        """Read the form to its end.

        Args:
            content_type: of the request.
            body: the request's.
            receive: takes the file, piece by piece.

        Raises:
            InvalidRequest: it is no such form, or has no file, or more than one.
        """
        parser = self._parser(content_type)
        async for piece in body:
            try:
                parser.write(piece)
            except FormParserError:
                raise InvalidRequest("The body is not valid multipart/form-data.") from None
            pieces, self._pieces = self._pieces, []
            for content in pieces:
                await receive(content)
            # A file that arrives at full speed must not keep others waiting.
            await asyncio.sleep(0)
        if not self.ended:
            raise InvalidRequest("The multipart/form-data body ends too early.")
        if self.filename is None:
            raise InvalidRequest(
                f"The form has no file: send one as '{self._file_field}'.", field=self._file_field
            )

    def _parser(self, content_type: str) -> MultipartParser:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequest(
                "A file is uploaded as multipart/form-data.", field=self._file_field
            )
        if len(boundary) > MAX_BOUNDARY:
            raise InvalidRequest(f"A form's boundary may have {MAX_BOUNDARY} characters.")
        callbacks: Any = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        return MultipartParser(boundary, callbacks)

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidRequest(f"A form may have {MAX_PARTS} parts.")
        self._headers = {}
        self._header_bytes = 0
        self._value.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += self._bounded(data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += self._bounded(data[start:end])

    def _bounded(self, part: bytes) -> bytes:
        self._header_bytes += len(part)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise InvalidRequest("The headers of a part of the form are too large.")
        return part

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = self._name == self._file_field
        if self._in_file and self.filename is not None:
            raise InvalidRequest("A form may have one file.", field=self._file_field)
        if self._in_file:
            self.filename = plain_name(options.get(b"filename", b""))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise PayloadTooLarge(limit=MAX_FIELD_BYTES)

    def _on_part_end(self) -> None:
        if not self._in_file:
            self.fields[self._name] = bytes(self._value).decode("utf-8", "replace")

    def _on_end(self) -> None:
        self.ended = True


def plain_name(given: bytes) -> str:
    """Return a file's name without folders and control characters; it is only ever shown."""
    name = given.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    shown = "".join(character for character in name if character.isprintable()).strip()
    return shown[:255] or "file"
