"""API keys: 256 random bits that callers show, kept only as SHA-256."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from inferno.core.tenancy import Principal

PREFIX = "inf_"

SHOWN_CHARACTERS = 12
"""Characters of a key that are kept readable, so that a person can tell keys apart."""


def generate() -> str:
    """Return a new API key: a readable prefix and 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> bytes:
    """Return the SHA-256 of a key: what is stored, and what look-ups go by.

    A slow hash is for passwords; 256 random bits need none.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that is neither disabled nor revoked.

    Args:
        digest: SHA-256 of the key.
        principal: whom it stands for.
        expires_at: seconds since the epoch; None for never.
    """

    digest: bytes
    principal: Principal
    expires_at: float | None = None


class KeyRing:
    """The keys that are known now, in memory.

    Finding a key takes one hash and one look-up, both in a time that does not depend on how much
    of a guess is right: what is compared are digests, and nobody can choose those (so there is no
    secret left to leak by comparing).

    Args:
        keys: all known keys.
        clock: seconds since the epoch.
    """

    def __init__(
        self, keys: Iterable[KnownKey] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._keys: dict[bytes, KnownKey] = {}
        self._by_id: dict[str, KnownKey] = {}
        self.last_used: dict[str, float] = {}
        self.replace(keys)

    def replace(self, keys: Iterable[KnownKey]) -> None:
        """Know just these keys from now on."""
        self._keys = {key.digest: key for key in keys}
        self._by_id = {key.principal.credential_id: key for key in self._keys.values()}

    def find(self, key: bytes) -> Principal | None:
        """Return whom a key stands for, or None where it is unknown or has expired."""
        return self.find_digest(hashlib.sha256(key).digest())

    def find_digest(self, digest: bytes) -> Principal | None:
        """Return whom the key with a digest stands for, or None likewise."""
        known = self._keys.get(digest)
        if known is None:
            return None
        now = self._clock()
        if known.expires_at is not None and now >= known.expires_at:
            return None
        self.last_used[known.principal.credential_id] = now
        return known.principal

    def holder_of(self, key_id: str) -> Principal | None:
        """Return whom a key stands for that is neither disabled nor revoked, or None.

        It may have expired: what was handed in with it before goes on.
        """
        known = self._by_id.get(key_id)
        return None if known is None else known.principal

    def take_last_used(self) -> dict[str, float]:
        """Return when keys were last used, by key id, since this was last asked."""
        taken, self.last_used = self.last_used, {}
        return taken

    def __len__(self) -> int:
        return len(self._keys)
