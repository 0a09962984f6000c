"""Counting tokens: what a call is expected to take, and what it took."""

from __future__ import annotations

import msgspec

BYTES_PER_TOKEN = 4
"""Of English text, roughly; only estimates rest on it."""


class Tally(msgspec.Struct):
    """Tokens of one call to a replica.

    Args:
        prompt_estimate: tokens of the prompt, guessed from its length; the engine's count, once
            it has said how far it is with the prompt.
        max_tokens: tokens that may be generated.
        begun: whether a replica has begun to answer.
        pieces: pieces of text that it has streamed; each is a token, or more.
        exact: the engine's own count, once it has said it.
    """

    prompt_estimate: int = 0
    max_tokens: int = 0
    begun: bool = False
    pieces: int = 0
    exact: int | None = None

    @classmethod
    def of(cls, body: bytes, *, max_tokens: int) -> Tally:
        """Return the tally of a call that is about to be made."""
        return cls(prompt_estimate=len(body) // BYTES_PER_TOKEN, max_tokens=max_tokens)

    @property
    def expected(self) -> int:
        """Tokens that the call may take."""
        return self.prompt_estimate + self.max_tokens

    @property
    def used(self) -> int:
        """Tokens that it took.

        The engine's count where it gave one. A client that leaves a stream is charged for the
        prompt and for the pieces that the engine had sent by then. One that leaves an answer that
        is not streamed is charged for what was reserved: nobody knows how far the engine got.
        """
        if self.exact is not None:
            return self.exact
        if not self.begun:
            return 0
        return self.prompt_estimate + self.pieces if self.pieces else self.expected
