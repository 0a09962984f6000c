"""Our own tokens: signed with HMAC-SHA256, short-lived, revocable.

The compact form of a JSON Web Signature is read here by hand (RFC 7515, 7519), strictly and in the
order that RFC 8725 asks for: size, shape, algorithm, signature, and only then what is signed. One
algorithm and one spelling of each token are accepted, which leaves nothing to confuse. What is
revoked is kept in memory; storing it is somebody else's work.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NoReturn, TypeAlias

import msgspec

from inferno.core.errors import AuthenticationFailed, ConfigurationError
from inferno.core.tenancy import Role

MAX_TOKEN_BYTES = 8192
"""The longest token that is looked at."""

MAX_TIME = 253_402_300_799
"""The last second that a date can hold: 9999-12-31T23:59:59Z."""

MIN_SECRET_LENGTH = 32
"""RFC 7518 §3.2: the key is at least as long as the hash."""

MAX_LEEWAY = 30
"""Seconds by which the clocks of our own machines may differ."""

INVALID = "The token is not valid."
EXPIRED = "The token has expired."

Kind: TypeAlias = Literal["access", "refresh"]


class TokenRefused(Exception):
    """Why a token is refused: the cause of an `AuthenticationFailed`, for the audit trail.

    Args:
        reason: a fixed phrase; never a part of the token.
        answer: what the caller is told.
    """

    def __init__(self, reason: str, answer: str = INVALID) -> None:
        super().__init__(reason)
        self.answer = answer


# --- the compact form ---------------------------------------------------------------------------


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


# --- revocation ---------------------------------------------------------------------------------

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


# --- our tokens ---------------------------------------------------------------------------------

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME)]


class Claims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one of our tokens says (RFC 7519 §4).

    Args:
        subject: the user's id.
        username: its name.
        tenant: whose it is.
        role: the user's role when the token was issued.
        kind: what the token is for.
        jti: its id.
        family: the id of the login that it descends from; revoking it revokes all of them.
        issuer: who issued it: this platform, by its name in the settings.
        issued_at: seconds since 1970.
        expires_at: seconds since 1970; it is invalid from then on.
        not_before: seconds since 1970.
    """

    subject: _Id = msgspec.field(name="sub")
    username: _Id
    tenant: _Id
    role: Role
    kind: Kind = msgspec.field(name="typ")
    jti: _Id
    family: _Id = msgspec.field(name="fam")
    issuer: _Id = msgspec.field(name="iss")
    issued_at: _Time = msgspec.field(name="iat")
    expires_at: _Time = msgspec.field(name="exp")
    not_before: _Time = msgspec.field(name="nbf", default=0)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a login gets.

    Args:
        access: shown with every request.
        refresh: shown once, for the next pair.
        access_claims: what the access token says.
        refresh_claims: what the refresh token says.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    access_claims: Claims
    refresh_claims: Claims

    @property
    def expires_at(self) -> int:
        """When the access token expires, in seconds since 1970."""
        return self.access_claims.expires_at


def generate_secret() -> str:
    """Return a secret to sign tokens with: 384 random bits."""
    return secrets.token_urlsafe(48)


class TokenIssuer:
    """Issues our tokens, and tells them from all others.

    Args:
        secret: what they are signed with; at least 32 characters.
        issuer: our name in them.
        lifetime_seconds: of access tokens.
        refresh_lifetime_seconds: of refresh tokens.
        leeway_seconds: by which clocks may differ: 0 to 30.
        revocations: what is no longer accepted.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: the secret is short or not a secret, or a time makes no sense.
    """

    def __init__(
        self,
        secret: str | bytes,
        *,
        issuer: str = "inferno",
        lifetime_seconds: int = 86_400,
        refresh_lifetime_seconds: int = 7 * 86_400,
        leeway_seconds: int = 0,
        revocations: RevocationList | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check_settings(secret, issuer, lifetime_seconds, refresh_lifetime_seconds, leeway_seconds)
        self.revocations = RevocationList(clock=clock) if revocations is None else revocations
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self._issuer = issuer
        self._lifetimes: dict[Kind, int] = {
            "access": lifetime_seconds,
            "refresh": refresh_lifetime_seconds,
        }
        self._leeway = leeway_seconds
        self._clock = clock
        self._header = encode_segment(b'{"alg":"HS256","typ":"JWT"}')
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Claims)

    def issue(
        self, subject: str, *, username: str, tenant: str, role: Role, family: str | None = None
    ) -> TokenPair:
        """Return a new pair of tokens.

        Args:
            subject: the user's id.
            username: its name.
            tenant: whose it is.
            role: its role.
            family: that of the refresh token that this pair replaces; a login starts a new one.
        """
        now = int(self._clock())
        family = family or secrets.token_urlsafe(16)
        access, refresh = (
            Claims(
                subject=subject,
                username=username,
                tenant=tenant,
                role=role,
                kind=kind,
                jti=secrets.token_urlsafe(16),
                family=family,
                issuer=self._issuer,
                issued_at=now,
                expires_at=now + lifetime,
            )
            for kind, lifetime in self._lifetimes.items()
        )
        return TokenPair(self._sign(access), self._sign(refresh), access, refresh)

    def verify(
        self, token: str | bytes, kind: Kind = "access", *, check_revoked: bool = True
    ) -> Claims:
        """Return what a token of ours says.

        Args:
            token: what the caller showed.
            kind: what it must be for.
            check_revoked: off only where a used refresh token must be told from a forged one: then
                the family of a token whose `jti` is revoked is to be revoked as well.

        Raises:
            AuthenticationFailed: it is not ours, not of this kind, expired or revoked. The cause
                is a `TokenRefused`, which says why.
        """
        try:
            claims = self._authentic(to_bytes(token))
            self._check(claims, kind)
        except TokenRefused as refused:
            raise AuthenticationFailed(refused.answer) from refused
        if check_revoked and self._is_revoked(claims):
            raise AuthenticationFailed(INVALID) from TokenRefused("revoked")
        return claims

    def _is_revoked(self, claims: Claims) -> bool:
        is_revoked = self.revocations.is_revoked
        return is_revoked(claims.jti) or is_revoked(claims.family)

    def _sign(self, claims: Claims) -> str:
        signing_input = self._header + b"." + encode_segment(self._encoder.encode(claims))
        return (signing_input + b"." + self._signature(signing_input)).decode("ascii")

    def _signature(self, signing_input: bytes) -> bytes:
        return encode_segment(hmac.digest(self._secret, signing_input, "sha256"))

    def _authentic(self, token: bytes) -> Claims:
        """Return the claims of a token that was signed with our secret."""
        parts = split(token)
        # Tokens of ours have one header. Another may come from a tool that was given the secret.
        if parts.header != self._header and read_header(parts.header).algorithm != "HS256":
            raise TokenRefused("wrong algorithm")
        # Comparing the encoded signatures accepts one spelling only.
        if not hmac.compare_digest(self._signature(parts.signing_input), parts.signature):
            raise TokenRefused("wrong signature")
        try:
            return self._decoder.decode(decode_segment(parts.payload))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise TokenRefused("malformed claims") from None

    def _check(self, claims: Claims, kind: Kind) -> None:
        if claims.issuer != self._issuer:
            raise TokenRefused("wrong issuer")
        if claims.kind != kind:
            raise TokenRefused("wrong kind of token")
        now = self._clock()
        if max(claims.issued_at, claims.not_before) > now + self._leeway:
            raise TokenRefused("not valid yet")
        if claims.expires_at <= now - self._leeway:
            raise TokenRefused("expired", EXPIRED)


def _check_settings(
    secret: str | bytes, issuer: str, lifetime: int, refresh_lifetime: int, leeway: int
) -> None:
    if len(secret) < MIN_SECRET_LENGTH:
        raise ConfigurationError(
            f"The secret that signs tokens has {len(secret)} characters; "
            f"it needs at least {MIN_SECRET_LENGTH}."
        )
    # A public key in a secret's place is known to everybody (RFC 8725 §2.1).
    if b"-----BEGIN" in (secret.encode() if isinstance(secret, str) else secret):
        raise ConfigurationError("The secret that signs tokens is a key file; use random text.")
    if not issuer:
        raise ConfigurationError("The issuer's name of our tokens is empty.")
    if lifetime <= 0 or refresh_lifetime <= 0:
        raise ConfigurationError("The lifetime of tokens must be above 0 seconds.")
    if not 0 <= leeway <= MAX_LEEWAY:
        raise ConfigurationError(f"The leeway of tokens must be 0 to {MAX_LEEWAY} seconds.")
