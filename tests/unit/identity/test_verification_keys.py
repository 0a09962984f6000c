"""Keys that issuers publish: which are used, and which are left out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from inferno.identity.verification_keys import MAX_KEYS, read_key_set
from tests.unit.identity import forge
from tests.unit.identity.world import World


def usable(*entries: Any) -> Iterable[str | None]:
    try:
        return [key.key_id for key in read_key_set(json.dumps({"keys": entries}).encode())]
    except ValueError:
        return []


def test_keys_that_are_not_for_verifying_are_left_out(
    world: World, short_rsa_key: rsa.RSAPrivateKey
) -> None:
    good = forge.jwk(world.rsa, kid="good")
    p521 = ec.generate_private_key(ec.SECP521R1())
    bad: list[Any] = [
        good | {"use": "enc"},
        good | {"use": ["sig"]},
        good | {"key_ops": ["encrypt"]},
        good | {"key_ops": "verify"},
        good | {"alg": "HS256"},
        good | {"alg": "RSA-OAEP"},
        good | {"alg": "ES256"},
        good | {"alg": 1},
        good | {"kid": 1},
        good | {"kty": "rsa"},
        good | {"kty": "EC"},
        good | {"kty": 1},
        good | {"n": 1},
        good | {"n": ""},
        good | {"n": "!"},
        good | {"e": "AQ"},
        good | {"e": "Ag"},
        {"kty": "RSA", "kid": "x"},
        {"kty": "oct", "k": forge.segment(b"x" * 32), "kid": "x"},
        forge.jwk(short_rsa_key, kid="x"),
        forge.jwk(p521, kid="x"),
        forge.jwk(world.ec, kid="x") | {"x": forge.number(1, 32)},
        forge.jwk(world.ec, kid="x") | {"crv": "P-384"},
        forge.jwk(world.ed, kid="x") | {"x": forge.segment(b"x" * 31)},
        forge.jwk(world.ed, kid="x") | {"crv": "X25519"},
        *(None, 1, "RSA", []),
    ]
    for entry in bad:
        assert usable(entry) == [], entry
        assert usable(good, entry) == ["good"], entry


def test_a_private_key_published_by_mistake_is_a_public_one_here(world: World) -> None:
    secret = forge.number(world.ec.private_numbers().private_value, 32)
    (key,) = read_key_set(forge.key_set(forge.jwk(world.ec, d=secret)))
    assert isinstance(key.key, ec.EllipticCurvePublicKey)


def test_keys_without_names_count_only_alone(world: World) -> None:
    nameless, named = forge.jwk(world.rsa), forge.jwk(world.ec, kid="e")
    assert usable(nameless) == [None]
    assert usable(nameless, named) == ["e"]
    assert usable(nameless, forge.jwk(world.ed)) == []


def test_a_set_has_a_bounded_number_of_keys(world: World) -> None:
    entries = [forge.jwk(world.ed, kid=str(i)) for i in range(MAX_KEYS + 10)]
    assert len(list(usable(*entries))) == MAX_KEYS


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[],"keys":[]}', b"[" * 100_000]
)
def test_what_is_no_key_set_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_key_set(data)


@pytest.mark.parametrize("header", [{"alg": "RS256"}, {"alg": "RS256", "kid": "any"}])
async def test_a_single_key_without_a_name_serves_every_token(
    world: World, header: dict[str, str]
) -> None:
    world.keys = forge.key_set(forge.jwk(world.rsa))
    assert await world.issuers().verify(world.token(header))


async def test_a_certificate_holds_a_key(world: World) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "id.example.com")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(world.rsa.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .sign(world.rsa, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    assert await world.issuers(jwks_url=..., public_key=pem).verify(world.token())
