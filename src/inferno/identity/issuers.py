"""Tokens of outside issuers: whose they are, and whether to believe them.

An identity provider signs JSON Web Tokens (RFC 7519) with keys that it publishes as a JWK Set
(RFC 7517). The issuer is picked among the configured ones alone; its keys and algorithms come from
the settings, never from the token (RFC 8725 §3). Import this module only where issuers are
configured: the cryptography behind it takes longer to load than the rest of a command.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from inferno.core.errors import AuthenticationFailed, ConfigurationError
from inferno.core.tenancy import LimitPolicy, Principal, Role
from inferno.identity.claims import OutsideIdentity, identity_of, time_of
from inferno.identity.compact import (
    EXPIRED,
    TokenRefused,
    decode_segment,
    read_header,
    split,
    strict_object,
    to_bytes,
)
from inferno.identity.issuer_settings import IssuerSettings
from inferno.identity.key_sources import Fetch, KeySource, fetch_over_http
from inferno.identity.verification_keys import VerificationKey, read_key_set, read_pem

Limits: TypeAlias = Callable[[str, Role, str], LimitPolicy]
"""The limits in force for a tenant, a role and a user id."""


def default_limits(tenant: str, role: Role, user_id: str) -> LimitPolicy:
    """Return the limits of callers of whom nothing else is said."""
    return LimitPolicy()


@dataclass(frozen=True, slots=True)
class _Issuer:
    settings: IssuerSettings
    keys: KeySource


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was verified before, and with which keys."""

    issuer: _Issuer
    version: int
    expires_at: float
    identity: OutsideIdentity


class OutsideIssuers:
    """Tells tokens of trusted issuers from all others; to be used on one event loop.

    Args:
        settings: the issuers.
        fetch: returns what is at a URL; blocks; called in a thread.
        limits: fills in the limits of callers.
        clock: seconds since 1970.
        monotonic: seconds, monotonic.
        wait: seconds that a token whose key is unknown may wait for the issuer's keys.
        remember: how many verified tokens need no second look at their signature.

    Raises:
        ConfigurationError: two issuers of one name, or keys in a file or the settings that cannot
            be read. Keys at a URL are fetched when they are first needed.
    """

    def __init__(
        self,
        settings: Iterable[IssuerSettings],
        fetch: Fetch = fetch_over_http,
        *,
        limits: Limits = default_limits,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        wait: float = 2.0,
        remember: int = 4096,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._remember = remember
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._issuers: dict[str, _Issuer] = {}
        for one in settings:
            if one.issuer in self._issuers:
                raise ConfigurationError(f"Token issuer '{one.issuer}' is configured twice.")
            read, parse = _source(one, fetch)
            keys = KeySource(one.issuer, read, parse, wait=wait, clock=monotonic)
            if one.jwks_url is None:
                keys.load()
            self._issuers[one.issuer] = _Issuer(one, keys)

    @property
    def remembered(self) -> int:
        """How many verified tokens are remembered."""
        return len(self._verified)

    async def verify(self, token: str | bytes) -> Principal:
        """Return who a token stands for.

        Raises:
            AuthenticationFailed: see `identify`.
        """
        return (await self.identify(token)).principal

    async def identify(self, token: str | bytes) -> OutsideIdentity:
        """Return who a token stands for, and what it says of itself.

        Raises:
            AuthenticationFailed: it is not from a trusted issuer, not for us, not valid now, or
                names no tenant. The cause is a `TokenRefused`, which says why.
        """
        try:
            data = to_bytes(token)
            digest = hashlib.sha256(data).digest()
            identity = self._recall(digest)
            if identity is None:
                identity = await self._verify(data, digest)
        except TokenRefused as refused:
            raise AuthenticationFailed(refused.answer) from refused
        return self._with_limits(identity)

    def _recall(self, digest: bytes) -> OutsideIdentity | None:
        """Return a token's identity where it was verified with the keys in force."""
        known = self._verified.get(digest)
        if known is None:
            return None
        if self._clock() >= known.expires_at or known.issuer.keys.look() != known.version:
            del self._verified[digest]
            return None
        self._verified.move_to_end(digest)
        return known.identity

    async def _verify(self, token: bytes, digest: bytes) -> OutsideIdentity:
        parts = split(token)
        header = read_header(parts.header)
        signature = decode_segment(parts.signature)
        try:
            claims = strict_object(decode_segment(parts.payload))
        except ValueError:
            raise TokenRefused("malformed claims") from None
        issuer = self._issuer_of(claims)
        if header.algorithm not in issuer.settings.algorithms:
            raise TokenRefused("wrong algorithm")
        keys = await issuer.keys.find(header)
        if not any(key.verifies(parts, header.algorithm, signature) for key in keys):
            raise TokenRefused("wrong signature" if keys else "unknown key")
        expires_at = self._check_times(issuer.settings, claims)
        identity = identity_of(issuer.settings, claims, parts)
        self._keep(digest, _Verified(issuer, issuer.keys.version, expires_at, identity))
        return identity

    def _issuer_of(self, claims: Mapping[str, Any]) -> _Issuer:
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise TokenRefused("unknown issuer")
        return issuer

    def _check_times(self, settings: IssuerSettings, claims: Mapping[str, Any]) -> float:
        """Check when a token is valid, and return when it ceases to be."""
        leeway, now = settings.leeway_seconds, self._clock()
        expires_at = time_of(claims, "exp")
        if expires_at is None:
            raise TokenRefused("never expires")
        if max(time_of(claims, "nbf") or 0, time_of(claims, "iat") or 0) > now + leeway:
            raise TokenRefused("not valid yet")
        if now >= expires_at + leeway:
            raise TokenRefused("expired", EXPIRED)
        return expires_at + leeway

    def _keep(self, digest: bytes, verified: _Verified) -> None:
        self._verified[digest] = verified
        while len(self._verified) > self._remember:
            self._verified.popitem(last=False)

    def _with_limits(self, identity: OutsideIdentity) -> OutsideIdentity:
        """Return an identity with the limits of this moment."""
        principal = identity.principal
        limits = self._limits(principal.tenant, principal.role, principal.user_id)
        if limits == principal.limits:
            return identity
        return replace(identity, principal=replace(principal, limits=limits))


def _source(
    settings: IssuerSettings, fetch: Fetch
) -> tuple[Callable[[], bytes], Callable[[bytes], tuple[VerificationKey, ...]]]:
    """Return how the keys of an issuer are read, and how they are understood."""
    if settings.jwks_url:
        return functools.partial(fetch, settings.jwks_url), read_key_set
    if settings.jwks_file:
        return Path(settings.jwks_file).read_bytes, read_key_set
    if settings.public_key_file:
        return Path(settings.public_key_file).read_bytes, read_pem
    return (settings.public_key or "").encode, read_pem
