"""Memory for answers that are held until they are whole, over all requests together."""

from __future__ import annotations

from inferno.core.errors import Overloaded

MAX_HELD_BYTES = 2**30


class Room:
    """So much may be held at once; whoever would need more is refused, and nobody waits.

    Args:
        limit: in bytes.
    """

    __slots__ = ("_left", "_limit")

    def __init__(self, limit: int = MAX_HELD_BYTES) -> None:
        self._limit = limit
        self._left = limit

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return self._limit - self._left

    def take(self, size: int) -> None:
        """Take room for some bytes. Raises Overloaded where there is not so much left."""
        if size > self._left:
            raise Overloaded(
                f"Answers that are not streamed take all of the {self._limit} bytes that there "
                "are for them. Ask for a stream, or try again.",
                retry_after=5,
            )
        self._left -= size

    def give_back(self, size: int) -> None:
        """Give room back."""
        self._left += size
