"""An issuer of the world outside, and a platform that trusts it."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from inferno.core.errors import AuthenticationFailed
from inferno.identity.compact import EXPIRED, INVALID, TokenRefused
from inferno.identity.issuer_settings import IssuerSettings
from inferno.identity.issuers import OutsideIssuers
from tests.unit.identity import forge
from tests.unit.identity.forge import Part, Sign, rs256

NOW = 1_800_000_000
NAME = "https://id.example.com/"
URL = "https://id.example.com/keys"


class World:
    """An issuer with a key of each kind, and a platform that trusts it."""

    def __init__(
        self, rsa_key: rsa.RSAPrivateKey, ec_key: Any, p384_key: Any, ed_key: Any, other: Any
    ) -> None:
        self.rsa: rsa.RSAPrivateKey = rsa_key
        self.ec: ec.EllipticCurvePrivateKey = ec_key
        self.p384: ec.EllipticCurvePrivateKey = p384_key
        self.ed: ed25519.Ed25519PrivateKey = ed_key
        self.other: rsa.RSAPrivateKey = other
        self.keys = forge.key_set(
            forge.jwk(rsa_key, kid="r", use="sig"),
            forge.jwk(ec_key, kid="e", alg="ES256"),
            forge.jwk(p384_key, kid="e3"),
            forge.jwk(ed_key, kid="o", key_ops=["verify"]),
        )
        self.now = float(NOW)
        self.monotonic = 0.0
        self.fetched: list[str] = []

    def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        return self.keys

    def issuers(self, *more: IssuerSettings, **changes: Any) -> OutsideIssuers:
        return OutsideIssuers(
            [outside(**changes), *more],
            self.fetch,
            clock=lambda: self.now,
            monotonic=lambda: self.monotonic,
        )

    def token(self, header: Part | None = None, **changes: Any) -> str:
        return forge.token(header or {"alg": "RS256", "kid": "r"}, claims(**changes), self.sign)

    @property
    def sign(self) -> Sign:
        return rs256(self.rsa)


def outside(**changes: Any) -> IssuerSettings:
    given: dict[str, Any] = {"issuer": NAME, "audience": "inferno", "jwks_url": URL, **changes}
    return IssuerSettings(**{name: value for name, value in given.items() if value is not ...})


def claims(**changes: Any) -> dict[str, Any]:
    good = {
        "iss": NAME,
        "aud": "inferno",
        "sub": "s1",
        "tenant": "tenant-a",
        "role": "user",
        "preferred_username": "alice",
        "exp": NOW + 60,
        "iat": NOW,
        "jti": "j1",
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


async def refused(issuers: OutsideIssuers, token: str | bytes) -> str:
    """Return why a token is refused; the caller learns no more than the one sentence."""
    with pytest.raises(AuthenticationFailed) as caught:
        await issuers.verify(token)
    reason = caught.value.__cause__
    assert isinstance(reason, TokenRefused)
    assert caught.value.message == (EXPIRED if str(reason) == "expired" else INVALID)
    assert caught.value.details == {}
    return str(reason)
