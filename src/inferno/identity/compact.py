"""The compact form of a JSON Web Signature, read by hand (RFC 7515): ours and other people's.

One spelling of each token is accepted, which leaves nothing to confuse (RFC 8725). Nothing here
checks a signature or a claim: this module knows no keys.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_TOKEN_BYTES = 8192
"""The longest token that is looked at."""

MAX_TIME = 253_402_300_799
"""The last second that a date can hold: 9999-12-31T23:59:59Z."""

INVALID = "The token is not valid."
EXPIRED = "The token has expired."


class TokenRefused(Exception):
    """Why a token is refused: the cause of an `AuthenticationFailed`, for the audit trail.

    Args:
        reason: a fixed phrase; never a part of the token.
        answer: what the caller is told.
    """

    def __init__(self, reason: str, answer: str = INVALID) -> None:
        super().__init__(reason)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Compact:
    """The three parts of a token, still encoded (RFC 7515 §3.1).

    Args:
        header: says how it is signed.
        payload: what is signed with the header.
        signature: over `signing_input`.
        signing_input: the bytes that are signed.
    """

    header: bytes
    payload: bytes
    signature: bytes
    signing_input: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What we heed of a header. Keys and places of keys that it offers are never looked at.

    Args:
        algorithm: how the token says it is signed.
        key_id: which key it says signed it.
    """

    algorithm: str
    key_id: str | None


def to_bytes(token: str | bytes) -> bytes:
    """Return a token as bytes.

    Raises:
        TokenRefused: it is longer than any token we accept, or not ASCII.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenRefused("too long")
    if isinstance(token, bytes):
        return token
    try:
        return token.encode("ascii")
    except UnicodeEncodeError:
        raise TokenRefused("not ASCII") from None


def split(token: bytes) -> Compact:
    """Take a token apart.

    Raises:
        TokenRefused: it has not exactly three parts, or an empty one.
    """
    # One more split than a good token needs: 8,000 dots make four parts, not 8,001.
    parts = token.split(b".", 3)
    if len(parts) != 3 or not all(parts):
        raise TokenRefused("not three parts")
    header, payload, signature = parts
    return Compact(header, payload, signature, token[: -len(signature) - 1])


_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/   ")
"""From the URL-safe alphabet to the standard one; what only the latter has becomes invalid."""

_LAST_CHARACTERS = {0: None, 2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}
"""By length modulo four: the last characters that leave no stray bits (RFC 4648 §3.5)."""


def decode_segment(segment: bytes) -> bytes:
    """Decode base64url without padding (RFC 7515 §2), accepting one spelling of each value.

    Raises:
        TokenRefused: padding, white space, other characters or stray bits.
    """
    rest = len(segment) % 4
    last = _LAST_CHARACTERS.get(rest, frozenset())
    if last is not None and segment[-1] not in last:
        raise TokenRefused("not base64url")
    try:
        return binascii.a2b_base64(
            segment.translate(_TO_STANDARD) + b"=" * (-rest % 4), strict_mode=True
        )
    except binascii.Error:
        raise TokenRefused("not base64url") from None


def encode_segment(data: bytes) -> bytes:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def strict_object(data: bytes) -> dict[str, Any]:
    """Decode a JSON object in UTF-8, refusing what readers may understand differently.

    Raises:
        ValueError: not a JSON object; names that occur twice (RFC 7515 §4, RFC 7519 §4), numbers
            that JSON does not have, nesting deeper than the interpreter's stack.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_such_number
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name occurs twice")
    return names


def _no_such_number(_: str) -> NoReturn:
    raise ValueError("not a JSON number")


MAX_HEADER_BYTES = 2048
MAX_KEY_ID_LENGTH = 256
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_UNHEEDED = ("crit", "b64", "zip", "enc", "cty")
"""Header parameters that change what a token means, in ways that we do not support."""


def read_header(segment: bytes) -> Header:
    """Read a token's header.

    Raises:
        TokenRefused: malformed; of another type than an access token's (RFC 8725 §3.11); with
            extensions that must be understood (RFC 7515 §4.1.11); encrypted or nested.
    """
    data = decode_segment(segment)
    if len(data) > MAX_HEADER_BYTES:
        raise TokenRefused("header too long")
    try:
        header = strict_object(data)
    except ValueError:
        raise TokenRefused("malformed header") from None
    if any(name in header for name in _UNHEEDED):
        raise TokenRefused("unsupported header")
    return _header_of(header)


def _header_of(header: dict[str, Any]) -> Header:
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str):
        raise TokenRefused("no algorithm")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenRefused("wrong type of token")
    if key_id is not None and not (isinstance(key_id, str) and len(key_id) <= MAX_KEY_ID_LENGTH):
        raise TokenRefused("malformed key id")
    return Header(algorithm, key_id)
