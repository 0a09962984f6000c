"""Passwords: argon2id hashes, generated ones, and those that nobody may use."""

from __future__ import annotations

import secrets

WELL_KNOWN = frozenset({
    "password", "admin", "admin123", "changeme", "change-me", "secret", "letmein", "inferno",
    "default", "root", "toor", "test", "guest", "qwerty", "123456", "12345678", "password1",
    "password123", "administrator", "welcome", "123456789", "1234567890",
})  # fmt: skip
"""Passwords that are tried first by everybody who has no business here."""

MIN_LENGTH = 12


def generate_password() -> str:
    """Return a password with 128 random bits."""
    return secrets.token_urlsafe(16)


def is_weak(password: str) -> bool:
    """Return whether a password is well known or shorter than twelve characters."""
    return password.lower() in WELL_KNOWN or len(password) < MIN_LENGTH


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password, with its parameters and salt (RFC 9106)."""
    from argon2 import PasswordHasher

    return PasswordHasher().hash(password)


def verify_password(hashed: str | None, password: str) -> bool:
    """Return whether a password is the one that was hashed.

    Args:
        hashed: from `hash_password`; None where there is no such user. That takes as long as a
            wrong password, so that time does not tell the difference.
        password: to check.
    """
    from argon2 import PasswordHasher
    from argon2.exceptions import VerificationError

    hasher = PasswordHasher()
    if hashed is None:
        hasher.hash(password)
        return False
    try:
        return hasher.verify(hashed, password)
    except VerificationError:
        return False
