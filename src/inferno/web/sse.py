"""Server-Sent Events in bytes: cut a stream into events, read an event's data, write an event.

Events are passed on as they came, so nothing here decodes text or JSON. Lines end in LF or CRLF;
the lone CR that the specification allows too is used by no server and not looked for.
"""

from __future__ import annotations

import re

from inferno.core.errors import InferenceFailed

MAX_EVENT_BYTES = 8 * 1024 * 1024

_BLANK_LINE = re.compile(rb"\n\r?\n")
_LONGEST_BLANK_LINE = 3
_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventSplitter:
    """Cuts a byte stream into events, however the stream is cut into blocks.

    Each byte is looked at once, and a partial event is only appended to, so many small blocks
    and huge events both cost time in proportion to their bytes.

    Args:
        max_event_bytes: the largest event accepted, its blank line included.
    """

    __slots__ = ("_max", "_partial")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._partial = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        r"""Take the next block of the stream.

        Args:
            data: any number of bytes.

        Returns:
            The events that are complete now, each with the blank line that ends it. Joined, they
            are the stream: comments and stray blank lines stay with the event that they precede.

        Raises:
            InferenceFailed: an event is too large; the stream cannot be used further.
        """
        partial = self._partial
        if not partial:
            end = len(data) - 2
            if data.find(b"\n") == end and data.endswith(b"\n") and end < self._max - 1:
                return [data]  # one event of one line, as most blocks are
            events, end = self._cut(data, 0)
            partial += data[end:]
        else:
            # A blank line may have begun in what is here already, but not ended.
            unseen = max(0, len(partial) - _LONGEST_BLANK_LINE + 1)
            partial += data
            events, end = self._cut(partial, unseen)
            del partial[:end]
        if len(partial) > self._max:
            raise self._too_large()
        return events

    def rest(self) -> bytes:
        """Return and forget what came after the last complete event, at the end of a stream."""
        rest = bytes(self._partial)
        self._partial.clear()
        return rest

    def _cut(self, source: bytes | bytearray, unseen: int) -> tuple[list[bytes], int]:
        """Return the complete events and where the last one ends."""
        events = []
        start = 0
        for match in _BLANK_LINE.finditer(source, unseen):
            end = match.end()
            if end - start > self._max:
                raise self._too_large()
            events.append(bytes(source[start:end]))
            start = end
        return events, start

    def _too_large(self) -> InferenceFailed:
        return InferenceFailed(f"The replica sent an event larger than {self._max} bytes.")


def data_of(event: bytes) -> bytes | None:
    r"""Return the payload of an event.

    Args:
        event: one event, with or without its blank line.

    Returns:
        The values of its `data` lines joined by LF; None if it has none, as a comment has.
    """
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and event[-3] != 0x0D:
        return event[6:-2]
    values = []
    for line in event.split(b"\n"):
        name, _, value = line.removesuffix(b"\r").partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
    return b"\n".join(values) if values else None


def encode_event(payload: bytes) -> bytes:
    r"""Return an event that carries the payload.

    Args:
        payload: such as JSON on one line. Of several lines (LF, CRLF, CR) each gets its own
            `data`, so no payload can end its event or start a field.
    """
    if b"\n" in payload or b"\r" in payload:
        payload = b"\ndata: ".join(_LINE_END.split(payload))
    return b"data: %b\n\n" % payload
