"""Values that are stored encrypted: what tables, history and backups hold of Secrets.

Whoever reads a Secret from the store gets sealed values; only who has a `Sealer` can open one, and
does so where the value is needed. A sealed value opens in its own place alone, so that somebody who
can write to the database cannot move one to where it is shown to another server.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from typing import TypeVar

import msgspec

from inferno.core.errors import InfernoError, InvalidRequest
from inferno.core.resources import Resource
from inferno.core.secrets import SEALED_PREFIX, Secret, decoded, is_sealed

R = TypeVar("R", bound=Resource)

_FORMAT = f"{SEALED_PREFIX}1:"
"""AES-256-GCM: base64 of a nonce and the encrypted value."""

_NONCE_BYTES = 12


class Sealer:
    """Encrypts values for the store, and opens them.

    Args:
        secret: the platform's; a key of its own is derived from it.
    """

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"secrets", "sha256")

    def seal(self, value: bytes, *, place: str) -> str:
        """Return a value encrypted for one place."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # slow to load

        nonce = os.urandom(_NONCE_BYTES)
        encrypted = AESGCM(self._key).encrypt(nonce, value, place.encode())
        return _FORMAT + base64.b64encode(nonce + encrypted).decode()

    def open(self, sealed: str, *, place: str) -> bytes:
        """Return the value that was sealed for a place.

        Raises:
            InfernoError: it was sealed elsewhere, with another secret, or was changed since.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            if not sealed.startswith(_FORMAT):
                raise ValueError
            raw = base64.b64decode(sealed.removeprefix(_FORMAT), validate=True)
            return AESGCM(self._key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode())
        except (InvalidTag, binascii.Error, ValueError):
            raise InfernoError(
                "A stored value cannot be opened: it was sealed with another platform secret, or "
                "changed since. Write it again."
            ) from None

    def value(self, secret: Secret, key: str) -> bytes | None:
        """Return a value of a stored Secret, or None where it has none of that key.

        Raises:
            InfernoError: it cannot be opened.
        """
        sealed = secret.spec.data.get(key)
        return None if sealed is None else self.open(sealed, place=_place(secret, key))

    def protected(self, resource: R, current: R | None) -> R:
        """Return a resource as it may be stored: a Secret with all of its values sealed.

        A value that is what it was stays sealed as it was, so that nothing changes by it.

        Args:
            resource: about to be stored.
            current: what is stored now, where there is anything.

        Raises:
            InvalidRequest: a value is not base64.
        """
        if not isinstance(resource, Secret):
            return resource
        known = current.spec.data if isinstance(current, Secret) else {}
        data = {
            key: value if is_sealed(value) else self._sealed(resource, key, value, known.get(key))
            for key, value in resource.spec.data.items()
        }
        spec = msgspec.structs.replace(resource.spec, data=data)
        return msgspec.structs.replace(resource, spec=spec)

    def _sealed(self, secret: Secret, key: str, value: str, known: str | None) -> str:
        plain = decoded(value)
        if plain is None:
            raise InvalidRequest("A Secret's values must be base64.", field=f"data[{key}]")
        place = _place(secret, key)
        if known is not None and self._says(known, plain, place):
            return known
        return self.seal(plain, place=place)

    def _says(self, sealed: str, plain: bytes, place: str) -> bool:
        try:
            return hmac.compare_digest(self.open(sealed, place=place), plain)
        except InfernoError:
            return False


class NoSealer(Sealer):
    """Keeps Secrets out of a store that was given no platform secret."""

    def __init__(self) -> None:
        super().__init__(b"")

    def seal(self, value: bytes, *, place: str) -> str:
        """Raise InfernoError."""
        raise InfernoError("This process has no platform secret to encrypt values with.")

    def open(self, sealed: str, *, place: str) -> bytes:
        """Raise InfernoError."""
        raise InfernoError("This process has no platform secret to decrypt values with.")


def _place(secret: Secret, key: str) -> str:
    metadata = secret.metadata
    return f"secrets/{metadata.namespace}/{metadata.name}/{key}"
