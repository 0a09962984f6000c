"""Which of our tokens are no longer accepted.

Kept in memory, by id and by family; storing it is somebody else's work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

_KEEP_AFTER = 3600.0
"""Seconds that a revocation outlives its token: a clock set back must not bring the token back."""


class RevocationList:
    """Tokens, and families of tokens, that are no longer accepted.

    A snapshot in memory: whoever stores revocations loads them here.

    Args:
        entries: ids and the time at which the last token that they concern expires.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        entries: Iterable[tuple[str, float]] = (),
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._prune_at = 1024
        self.load(entries)

    def __len__(self) -> int:
        return len(self._until)

    def revoke(self, jti: str, until: float) -> None:
        """Refuse a token, or all tokens of a family, from now on.

        Args:
            jti: the token's id, or its family's.
            until: when the last of them expires; the later one holds where there is one already.
        """
        self._until[jti] = max(until, self._until.get(jti, until))
        if len(self._until) >= self._prune_at:
            self.prune()

    def is_revoked(self, jti: str) -> bool:
        """Return whether a token, or a family, is revoked."""
        return jti in self._until

    def load(self, entries: Iterable[tuple[str, float]]) -> None:
        """Add many; nothing that is revoked becomes valid by it."""
        for jti, until in entries:
            self.revoke(jti, until)

    def prune(self) -> int:
        """Forget what has expired long ago by itself, and return how many that were."""
        edge = self._clock() - _KEEP_AFTER
        before = len(self._until)
        self._until = {jti: until for jti, until in self._until.items() if until > edge}
        # Looking again only once the list has doubled keeps the cost per revocation constant.
        self._prune_at = max(1024, 2 * len(self._until))
        return before - len(self._until)
