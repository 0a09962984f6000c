"""Which prompts' beginnings an endpoint has probably in its cache.

A prompt is cut into blocks; each block's hash covers all before it too, so two prompts have as
many leading hashes in common as they have leading blocks in common. An endpoint remembers the
hashes of what it was sent, the latest of a bounded number (the method of the Endpoint Picker's
prefix plugin; here the blocks are of the prompt's text as it is sent, since nobody here tokenises).
It forgets as its engine does: as many as there is room for in the engine's cache, and of a prompt
the end before the beginning, for what comes after a gap is of no use.

A prompt that goes on from where another one ended is the next turn of a conversation; one that has
only its beginning in common with others (a system prompt) is a new conversation.
"""

from __future__ import annotations

from collections import OrderedDict

BLOCK_BYTES = 128
"""About 32 tokens of English."""

MAX_BLOCKS = 1024
"""Of one prompt; what comes after is not looked at."""

TOKEN_BYTES = 4
"""Of English, about."""

REMEMBERED = 31_250
"""Blocks that are remembered for an endpoint whose cache nobody knows."""


SPARE_CONTEXTS = 4
"""What an engine keeps of prompts besides those that it works on, as llama.cpp does in the host's
memory: at least so many contexts."""


LIVE_SECONDS = 120.0
"""After its last turn, a conversation is taken to be over."""


def room_for(slots: int, context_size: int, *, spare: int = SPARE_CONTEXTS) -> int:
    """Return how many blocks an engine keeps in its cache.

    Args:
        slots: requests that it works on at once.
        context_size: tokens that each of them can hold; 0 where nobody knows.
        spare: contexts that it keeps besides.
    """
    if not context_size:
        return REMEMBERED
    return max(1, (slots + spare) * context_size * TOKEN_BYTES // BLOCK_BYTES)


def blocks_of(prompt: bytes, *, salt: str = "") -> list[int]:
    """Return the chained hashes of a prompt's whole blocks.

    Args:
        prompt: its text.
        salt: what else a cache tells apart, such as the model or adapter.
    """
    chained = hash(salt)
    blocks: list[int] = []
    for start in range(
        0, min(len(prompt), BLOCK_BYTES * MAX_BLOCKS) - BLOCK_BYTES + 1, BLOCK_BYTES
    ):
        chained = hash((chained, prompt[start : start + BLOCK_BYTES]))
        blocks.append(chained)
    return blocks


class PrefixIndex:
    """The blocks that one endpoint was sent.

    Args:
        remembered: how many are kept.
    """

    __slots__ = ("_blocks", "_ends", "remembered")

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self._ends: OrderedDict[int, float] = OrderedDict()
        self.remembered = remembered

    def matching(self, blocks: list[int]) -> int:
        """Return how many leading blocks are known."""
        known = self._blocks
        for count, block in enumerate(blocks):
            if block not in known:
                return count
        return len(blocks)

    def displaced(self, new: int) -> int:
        """Return how many blocks would be forgotten if so many new ones were added."""
        return max(0, len(self._blocks) + new - self.remembered)

    def goes_on(self, blocks: list[int]) -> bool:
        """Return whether a prompt is the next turn of a conversation."""
        known = self.matching(blocks)
        return known > 0 and blocks[known - 1] in self._ends

    def live(self, now: float) -> int:
        """Return how many conversations had a turn lately.

        Args:
            now: of `time.monotonic`.
        """
        ends = self._ends
        while ends and next(iter(ends.values())) < now - LIVE_SECONDS:
            ends.popitem(last=False)
        return len(ends)

    def add(self, blocks: list[int], now: float) -> None:
        """Remember blocks as the latest, the first of them for longest.

        Args:
            blocks: of one prompt.
            now: of `time.monotonic`.
        """
        if not blocks:
            return
        if self.goes_on(blocks):
            del self._ends[blocks[self.matching(blocks) - 1]]
        self._ends[blocks[-1]] = now
        self._ends.move_to_end(blocks[-1])
        known = self._blocks
        for block in reversed(blocks):
            known[block] = None
            known.move_to_end(block)
        while len(known) > self.remembered:
            known.popitem(last=False)
        while len(self._ends) > self.remembered:
            self._ends.popitem(last=False)

    def clear(self) -> None:
        """Forget everything: the endpoint was restarted."""
        self._blocks.clear()
        self._ends.clear()

    def __len__(self) -> int:
        return len(self._blocks)
