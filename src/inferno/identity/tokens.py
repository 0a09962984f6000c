"""Our own tokens: signed with HMAC-SHA256, short-lived, revocable.

They are read in the order that RFC 8725 asks for: size, shape, algorithm, signature, and only then
what is signed (RFC 7519). One algorithm is accepted. Tokens of others are none of ours.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

import msgspec

from inferno.core.errors import AuthenticationFailed, ConfigurationError
from inferno.core.tenancy import Role
from inferno.identity.compact import (
    EXPIRED,
    INVALID,
    MAX_TIME,
    TokenRefused,
    decode_segment,
    encode_segment,
    read_header,
    split,
    to_bytes,
)
from inferno.identity.revocation import RevocationList

MIN_SECRET_LENGTH = 32
"""RFC 7518 §3.2: the key is at least as long as the hash."""

MAX_LEEWAY = 30
"""Seconds by which the clocks of our own machines may differ."""

Kind: TypeAlias = Literal["access", "refresh"]

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
