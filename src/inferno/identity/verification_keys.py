"""Public keys of outside issuers: read from what issuers publish, bound to safe algorithms.

Whatever a key set holds, weak keys, secrets and keys for other uses are left out. Where the bytes
come from, and how fresh they are, is not known here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms
from jwt.exceptions import InvalidKeyError

from inferno.identity.compact import Compact, Header, strict_object
from inferno.identity.issuer_settings import ALGORITHMS

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""Longer keys make each verification cost milliseconds."""

MAX_KEYS = 64


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key of an issuer.

    Args:
        key_id: its name; None matches every name.
        algorithms: those that it may be used with.
        key: the key itself.
    """

    key_id: str | None
    algorithms: frozenset[str]
    key: PublicKey

    def matches(self, header: Header) -> bool:
        """Return whether a token with this header may have been signed with the key."""
        if header.algorithm not in self.algorithms:
            return False
        return self.key_id is None or header.key_id is None or self.key_id == header.key_id

    def verifies(self, token: Compact, algorithm: str, signature: bytes) -> bool:
        """Return whether the key signed the token."""
        verifier = _verifiers()[algorithm]
        return bool(verifier.verify(token.signing_input, self.key, signature))


@functools.cache
def _verifiers() -> Mapping[str, Any]:
    return {name: it for name, it in get_default_algorithms().items() if name in ALGORITHMS}


def algorithms_of(key: object) -> frozenset[str]:
    """Return the algorithms that a key can be used with safely; none for keys that are too weak.

    Binding algorithms to the type of the key is what prevents confusion of the two (RFC 8725
    §3.1).
    """
    if isinstance(key, RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return frozenset({"RS256", "RS384", "RS512", "PS256"})
    if isinstance(key, EllipticCurvePublicKey):
        return _BY_CURVE.get(type(key.curve), frozenset())
    return frozenset({"EdDSA"} if isinstance(key, Ed25519PublicKey) else ())


_BY_CURVE = {SECP256R1: frozenset({"ES256"}), SECP384R1: frozenset({"ES384"})}
_READERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}
_PUBLIC_MEMBERS = ("kty", "n", "e", "crv", "x", "y")


def read_key_set(data: bytes) -> tuple[VerificationKey, ...]:
    """Read a JWK Set (RFC 7517 §5). Keys that cannot be used are left out.

    Raises:
        ValueError: not a JWK Set, or one without a key that could be used.
    """
    entries = strict_object(data).get("keys")
    if not isinstance(entries, list):
        raise ValueError("no JWK Set")
    keys = [key for key in map(_read_key, entries[:MAX_KEYS]) if key is not None]
    if len(keys) > 1:
        # Among several, one without a name would match every token.
        keys = [key for key in keys if key.key_id is not None]
    if not keys:
        raise ValueError("no usable key")
    return tuple(keys)


def _read_key(entry: object) -> VerificationKey | None:
    """Return a key of a JWK Set, or None where it is not for us to verify with."""
    if not isinstance(entry, dict) or not _is_for_signatures(entry):
        return None
    key_id, declared = entry.get("kid"), entry.get("alg")
    if not isinstance(key_id, str | None) or not isinstance(declared, str | None):
        return None
    # Only public members are read: a private key published by mistake stays a public one here.
    members = {name: entry[name] for name in _PUBLIC_MEMBERS if name in entry}
    if not all(isinstance(member, str) for member in members.values()):
        return None
    try:
        key = _READERS[members["kty"]](members)
    except (KeyError, ValueError, InvalidKeyError, UnsupportedAlgorithm):
        return None
    algorithms = algorithms_of(key)
    if declared is not None:
        algorithms &= {_NAMES.get(declared, declared)}
    return VerificationKey(key_id, algorithms, cast("PublicKey", key)) if algorithms else None


_NAMES = {"Ed25519": "EdDSA"}
"""RFC 9864 names the curve where RFC 8037 named the family."""


def _is_for_signatures(entry: dict[str, Any]) -> bool:
    if entry.get("use", "sig") != "sig":
        return False
    operations = entry.get("key_ops", ["verify"])
    return isinstance(operations, list) and "verify" in operations


def read_pem(data: bytes) -> tuple[VerificationKey, ...]:
    """Read a public key, or the certificate that holds one.

    Raises:
        ValueError: neither, or a key that could not be used.
    """
    try:
        if b"-----BEGIN CERTIFICATE" in data:
            key: object = load_pem_x509_certificate(data).public_key()
        else:
            key = load_pem_public_key(data)
    except UnsupportedAlgorithm as problem:
        raise ValueError(str(problem)) from None
    algorithms = algorithms_of(key)
    if not algorithms:
        raise ValueError(
            f"only RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, P-256, P-384 and Ed25519 work"
        )
    return (VerificationKey(None, algorithms, cast("PublicKey", key)),)
