"""Secrets of webhooks, encrypted at rest: signing needs them in clear, so a hash will not do."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

from inferno.storage import sealing
from inferno.webhooks.signing import standard_text


class SecretSealer:
    """Encrypts the secrets of webhooks, and opens them.

    Args:
        secret: the platform's.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._sealer = sealing.Sealer(secret)
        self._is_loaded = False

    async def load(self) -> None:
        """Get ready beside the event loop: loading cryptography would hold up whoever is on it."""
        if not self._is_loaded:
            await asyncio.to_thread(self._sealer.seal, b"", place="")
            self._is_loaded = True

    def seal(self, text: str, belongs_to: str) -> str:
        """Return a secret as it is stored, for what has this id alone."""
        return self._sealer.seal(text.encode("utf-8"), place=f"webhooks/{belongs_to}")

    def open(self, sealed: str, belongs_to: str) -> str:
        """Return a stored secret in clear.

        Raises:
            InfernoError: it was stored under another secret.key, or changed.
        """
        return self._sealer.open(sealed, place=f"webhooks/{belongs_to}").decode("utf-8")

    def secret_of(self, tenant: str) -> str:
        """Return the secret of a tenant's deliveries that belong to no subscription."""
        purpose = b"inferno webhooks of tenant " + tenant.encode("utf-8")
        return standard_text(hmac.new(self._secret, purpose, hashlib.sha256).digest())
