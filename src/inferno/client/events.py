"""Streamed answers as values: the call, and what reads its events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec

from inferno.client.calls import Call
from inferno.client.errors import ConnectionFailed, ServerFailed, error_in

T = TypeVar("T")
Piece = TypeVar("Piece")
Result = TypeVar("Result")
Piece_co = TypeVar("Piece_co", covariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class EventReader(Protocol[Piece_co, Result_co]):
    """Reads the events of one stream."""

    @property
    def result(self) -> Result_co | None:
        """What the stream came to; None until its last event."""

    def read(self, data: str) -> Piece_co | None:
        """Take an event's data; return the piece of the answer in it, if there is one.

        Raises:
            ApiError: the platform says that it failed.
            UnexpectedAnswer: it is no event of such a stream.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCall(Generic[Piece, Result]):
    """A call that is answered with a stream.

    Args:
        call: what to send.
        reader: makes what reads the events.
    """

    call: Call[bytes]
    reader: Callable[[], EventReader[Piece, Result]]


def event(data: str, read: Callable[[bytes], T]) -> T:
    """Return the value in an event.

    Args:
        data: JSON.
        read: reads the value.

    Raises:
        ApiError: it is an error's envelope, in either form.
        UnexpectedAnswer: it is neither.
    """
    if data.startswith('{"error"'):
        content = msgspec.json.decode(data)
        raise error_in(content) or ServerFailed(f"The stream ended with an error: {data[:200]}")
    return read(data.encode())


def cut_off() -> ConnectionFailed:
    """Return the error for a stream that ended before it was complete."""
    return ConnectionFailed("The stream ended before it was complete.", sent=True)
