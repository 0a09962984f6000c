"""Tokens of outside issuers: whom they stand for, and how forged ones are refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferno.core.errors import AuthenticationFailed, ConfigurationError
from inferno.core.tenancy import ROLE_PERMISSIONS, UNLIMITED, LimitPolicy, Role
from inferno.identity.issuers import (
    MAX_KEYS,
    IssuerSettings,
    OutsideIdentity,
    OutsideIssuers,
    read_key_set,
)
from inferno.identity.tokens import EXPIRED, INVALID, TokenIssuer, TokenRefused
from tests.unit.identity import forge
from tests.unit.identity.forge import Part, Private, Sign, es256, rs256

NOW = 1_800_000_000
NAME = "https://id.example.com/"
URL = "https://id.example.com/keys"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


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


@pytest.fixture
def world(
    rsa_key: rsa.RSAPrivateKey,
    ec_key: ec.EllipticCurvePrivateKey,
    p384_key: ec.EllipticCurvePrivateKey,
    ed_key: ed25519.Ed25519PrivateKey,
    other_rsa_key: rsa.RSAPrivateKey,
) -> World:
    return World(rsa_key, ec_key, p384_key, ed_key, other_rsa_key)


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


# --- what is right ------------------------------------------------------------------------------


def every_algorithm(world: World) -> dict[str, tuple[str, Sign]]:
    return {
        "RS256": ("r", rs256(world.rsa)),
        "RS384": ("r", lambda m: world.rsa.sign(m, padding.PKCS1v15(), hashes.SHA384())),
        "RS512": ("r", lambda m: world.rsa.sign(m, padding.PKCS1v15(), hashes.SHA512())),
        "PS256": ("r", forge.ps256(world.rsa)),
        "ES256": ("e", es256(world.ec)),
        "ES384": ("e3", forge.es384(world.p384)),
        "EdDSA": ("o", forge.eddsa(world.ed)),
    }


ALL = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")


@pytest.mark.parametrize("algorithm", ALL)
async def test_each_algorithm_verifies(world: World, algorithm: str) -> None:
    key_id, sign = every_algorithm(world)[algorithm]
    token = forge.token({"alg": algorithm, "kid": key_id, "typ": "JWT"}, claims(), sign)
    issuers = world.issuers(algorithms=ALL)
    assert (await issuers.verify(token)).user_id == f"{NAME}#s1"
    assert (await issuers.verify(token.encode())).user_id == f"{NAME}#s1"
    assert len(world.fetched) == 1


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "ES384"])
async def test_algorithms_that_are_not_configured_are_refused(world: World, algorithm: str) -> None:
    key_id, sign = every_algorithm(world)[algorithm]
    token = forge.token({"alg": algorithm, "kid": key_id}, claims(), sign)
    assert await refused(world.issuers(), token) == "wrong algorithm"


async def test_the_principal_says_who_calls(world: World) -> None:
    identity = await world.issuers().identify(world.token())
    principal = identity.principal
    assert (principal.username, principal.tenant, principal.role) == (
        *("alice", "tenant-a"),
        Role.USER,
    )
    assert principal.permissions == ROLE_PERMISSIONS[Role.USER]
    assert (principal.credential, principal.credential_id) == ("issuer", "j1")
    assert principal.limits == LimitPolicy()
    assert identity == OutsideIdentity(principal, NAME, "s1", ("inferno",), NOW + 60)


async def test_limits_are_those_of_the_moment(world: World) -> None:
    asked: list[tuple[str, Role, str]] = []

    def limits(tenant: str, role: Role, user_id: str) -> LimitPolicy:
        asked.append((tenant, role, user_id))
        return UNLIMITED if len(asked) > 1 else LimitPolicy(requests_per_minute=7)

    issuers = OutsideIssuers([outside()], world.fetch, limits=limits, clock=lambda: NOW)
    assert (await issuers.verify(world.token())).limits.requests_per_minute == 7
    assert (await issuers.verify(world.token())).limits == UNLIMITED
    assert asked == [("tenant-a", Role.USER, f"{NAME}#s1")] * 2


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
async def test_types_of_access_tokens_are_accepted(world: World, kind: str | None) -> None:
    header = {"alg": "RS256", "kid": "r"} | ({} if kind is None else {"typ": kind})
    assert await world.issuers().verify(world.token(header))


async def test_issuers_are_told_apart(world: World) -> None:
    second = outside(
        issuer="https://two.example.com", jwks_url=..., public_key=forge.pem(world.other).decode()
    )
    issuers = world.issuers(second)
    mine = forge.token({"alg": "RS256"}, claims(iss="https://two.example.com"), rs256(world.other))
    assert (await issuers.verify(mine)).user_id == "https://two.example.com#s1"
    theirs = forge.token({"alg": "RS256", "kid": "r"}, claims(), rs256(world.other))
    assert await refused(issuers, theirs) == "wrong signature"
    theirs = forge.token({"alg": "RS256"}, claims(iss="https://two.example.com"), rs256(world.rsa))
    assert await refused(issuers, theirs) == "wrong signature"


# --- claims and what they mean here -------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "changes", "expected"),
    [
        ({}, {}, Role.USER),
        ({}, {"role": "service"}, Role.SERVICE),
        ({}, {"role": "guest"}, Role.GUEST),
        ({}, {"role": "admin"}, Role.USER),
        ({}, {"role": "Admin"}, Role.USER),
        ({}, {"role": ["admin", "guest"]}, Role.GUEST),
        ({}, {"role": []}, Role.USER),
        ({}, {"role": ...}, Role.USER),
        ({"default_role": Role.GUEST}, {"role": "admin"}, Role.GUEST),
        ({"role_map": {"admin": Role.ADMIN}}, {"role": "admin"}, Role.ADMIN),
        ({"role_map": {"ops": Role.ADMIN}}, {"role": ["x", "ops", "user"]}, Role.ADMIN),
        ({"role_map": {"ops": Role.ADMIN}}, {"role": "admin"}, Role.USER),
        ({"role_map": {"service": Role.GUEST}}, {"role": "service"}, Role.GUEST),
        ({"role_claim": "realm.roles"}, {"realm": {"roles": ["service"]}}, Role.SERVICE),
        ({"role_claim": "realm.roles"}, {"realm": ["roles"]}, Role.USER),
        ({"role_claim": "https://a.b/role"}, {"https://a.b/role": "guest"}, Role.GUEST),
    ],
)
async def test_roles_are_translated(
    world: World, settings: dict[str, Any], changes: dict[str, Any], expected: Role
) -> None:
    principal = await world.issuers(**settings).verify(world.token(**changes))
    assert principal.role == expected
    assert principal.permissions == ROLE_PERMISSIONS[expected]


@pytest.mark.parametrize(
    ("settings", "changes", "expected"),
    [
        ({}, {"tenant": ...}, None),
        ({"default_tenant": "shared"}, {"tenant": ...}, "shared"),
        ({"default_tenant": "shared"}, {}, "tenant-a"),
        ({"tenant_claim": "org.id"}, {"org": {"id": "red"}}, "red"),
        ({"tenants": ("tenant-a",)}, {}, "tenant-a"),
        ({"tenants": ("tenant-b",)}, {}, None),
        ({}, {"tenant": "../admin"}, None),
        ({}, {"tenant": "a b"}, None),
        ({}, {"tenant": "a\n"}, None),
        ({}, {"tenant": "x" * 64}, None),
        ({}, {"tenant": ""}, None),
        ({"default_tenant": "shared"}, {"tenant": ""}, None),
        ({"default_tenant": "shared"}, {"tenant": ["red"]}, None),
    ],
)
async def test_tenants_are_those_that_the_token_names(
    world: World, settings: dict[str, Any], changes: dict[str, Any], expected: str | None
) -> None:
    issuers = world.issuers(**settings)
    if expected is None:
        await refused(issuers, world.token(**changes))
    else:
        assert (await issuers.verify(world.token(**changes))).tenant == expected


async def test_the_username_is_the_subject_where_there_is_no_other(world: World) -> None:
    token = world.token(preferred_username=..., jti=...)
    principal = await world.issuers().verify(token)
    assert principal.username == "s1"
    assert len(principal.credential_id) == 32


WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "no issuer": {"iss": ...},
    "unknown issuer": {"iss": "https://evil.example.com/"},
    "issuer without its slash": {"iss": NAME[:-1]},
    "issuer is a list": {"iss": [NAME]},
    "issuer is an object": {"iss": {NAME: NAME}},
    "no audience": {"aud": ...},
    "another audience": {"aud": "other"},
    "audience in capitals": {"aud": "INFERNO"},
    "audience with more": {"aud": "inferno2"},
    "other audiences": {"aud": ["other", "another"]},
    "no audiences": {"aud": []},
    "audience is an object": {"aud": {"inferno": 1}},
    "audience holds a list": {"aud": [["inferno"]]},
    "audience holds a number": {"aud": ["inferno", 1]},
    "no subject": {"sub": ...},
    "empty subject": {"sub": ""},
    "subject is a number": {"sub": 1},
    "subject with a newline": {"sub": "s1\nadmin logged in"},
    "subject with an escape": {"sub": "s1\x1b[2J"},
    "subject turns the text around": {"sub": "s1\u202e"},
    "subject is half a character": {"sub": "\ud800"},
    "long subject": {"sub": "s" * 257},
    "username is a number": {"preferred_username": 7},
    "username with NUL": {"preferred_username": "a\0"},
    "token id is a number": {"jti": 7},
    "role is a number": {"role": 7},
    "role is an object": {"role": {"admin": True}},
    "roles hold a number": {"role": ["user", 7]},
    "never expires": {"exp": ...},
    "expires at null": {"exp": None},
    "expired": {"exp": NOW - 30},
    "valid in the future": {"nbf": NOW + 31},
    "issued in the future": {"iat": NOW + 31},
}


@pytest.mark.parametrize("name", WRONG_CLAIMS)
async def test_wrong_claims_are_refused(world: World, name: str) -> None:
    await refused(world.issuers(), world.token(**WRONG_CLAIMS[name]))


@pytest.mark.parametrize("audience", ["inferno", ["inferno"], ["other", "inferno"]])
async def test_one_audience_of_several_is_enough(world: World, audience: Any) -> None:
    assert await world.issuers(audience=("x", "inferno")).verify(world.token(aud=audience))


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", forge.BAD_TIMES)
async def test_times_that_are_none_are_refused(world: World, claim: str, value: str) -> None:
    payload = json.dumps(claims(**{claim: "@"})).encode().replace(b'"@"', forge.BAD_TIMES[value])
    token = forge.token({"alg": "RS256", "kid": "r"}, payload, world.sign)
    await refused(world.issuers(), token)


async def test_times_may_have_fractions(world: World) -> None:
    issuers = world.issuers(leeway_seconds=0)
    assert (await issuers.identify(world.token(exp=NOW + 0.5))).expires_at == NOW
    world.now = NOW + 0.5
    assert await refused(issuers, world.token(exp=NOW + 0.5)) == "expired"


async def test_a_remembered_token_expires_as_well(world: World) -> None:
    issuers = world.issuers()
    assert await issuers.verify(world.token())
    world.now = NOW + 89.9
    assert await issuers.verify(world.token())
    world.now = NOW + 90
    assert await refused(issuers, world.token()) == "expired"


@pytest.mark.parametrize(
    "payload",
    [
        b"null",
        b"[]",
        b"{",
        b"[" * 5000,
        b'{"x":' * 900,
        json.dumps(claims()).encode()[:-1] + b',"iss":"' + NAME.encode() + b'"}',
        json.dumps(claims()).encode()[:-1] + b',"role":"admin"}',
        json.dumps(claims()).encode()[:-1] + b',"\\u0072ole":"admin"}',
        json.dumps(claims()).encode("utf-16"),
        json.dumps(claims()).encode("utf-8-sig"),
    ],
)
async def test_payloads_that_can_be_read_in_two_ways_are_refused(
    world: World, payload: bytes
) -> None:
    token = forge.token({"alg": "RS256", "kid": "r"}, payload, world.sign)
    assert await refused(world.issuers(), token) == "malformed claims"


# --- forged signatures and spellings ------------------------------------------------------------


async def test_a_token_has_one_spelling(world: World) -> None:
    issuers = world.issuers()
    good = forge.token({"alg": "EdDSA", "kid": "o"}, claims(), forge.eddsa(world.ed))
    assert await issuers.verify(good)
    for name, token in forge.misspelt(good).items():
        assert await refused(issuers, token), name


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_every_byte_of_the_signature_counts(world: World, algorithm: str) -> None:
    issuers = world.issuers()
    key_id, sign = every_algorithm(world)[algorithm]
    good = forge.token({"alg": algorithm, "kid": key_id}, claims(), sign)
    assert await issuers.verify(good)
    for token in forge.damaged(good)[::3]:
        assert await refused(issuers, token) == "wrong signature"


@pytest.mark.parametrize("algorithm", [*forge.WRONG_ALGORITHMS, "HS256"])
async def test_other_algorithms_are_refused(world: World, algorithm: str) -> None:
    issuers = world.issuers()
    for key_id in ("r", "e", "o"):
        for sign in (world.sign, forge.constant(b"\0" * 32), forge.hs256(forge.pem(world.rsa))):
            token = forge.token({"alg": algorithm, "kid": key_id}, claims(), sign)
            assert await refused(issuers, token) == "wrong algorithm"


async def test_public_keys_are_no_secret(world: World) -> None:
    """HS/RS confusion: what everybody can read, used as the secret of an HMAC."""
    issuers = world.issuers()
    keys: list[Private] = [world.rsa, world.ec, world.ed]
    for key in keys:
        for secret in (forge.pem(key), forge.pem(key).strip(), forge.der(key), world.keys):
            for algorithm in ("HS256", "RS256", "ES256", "EdDSA"):
                header = {"alg": algorithm, "kid": "r"}
                await refused(issuers, forge.token(header, claims(), forge.hs256(secret)))


@pytest.mark.parametrize("name", forge.STRANGE_HEADERS)
async def test_strange_headers_are_refused(world: World, name: str) -> None:
    header = forge.STRANGE_HEADERS[name].replace(b"%s", b"RS256")
    await refused(world.issuers(), world.token(header))


@pytest.mark.parametrize(
    ("key_id", "algorithm"),
    [
        ("r", "ES256"),
        ("r", "EdDSA"),
        ("e", "RS256"),
        ("e", "EdDSA"),
        ("o", "RS256"),
        ("e3", "ES256"),
    ],
)
async def test_keys_are_not_used_with_algorithms_of_others(
    world: World, key_id: str, algorithm: str
) -> None:
    for sign in (rs256(world.rsa), es256(world.ec), forge.eddsa(world.ed)):
        token = forge.token({"alg": algorithm, "kid": key_id}, claims(), sign)
        assert await refused(world.issuers(), token) == "unknown key"


async def test_the_algorithm_of_a_key_is_honoured(world: World) -> None:
    world.keys = forge.key_set(forge.jwk(world.rsa, kid="r", alg="PS256"))
    issuers = world.issuers(algorithms=("RS256", "PS256"))
    assert await refused(issuers, world.token()) == "unknown key"
    token = forge.token({"alg": "PS256", "kid": "r"}, claims(), forge.ps256(world.rsa))
    assert await issuers.verify(token)


@pytest.mark.parametrize(
    "key_id",
    ["", "R", "r ", "nobody", "../../../dev/null", "/dev/null", "r' OR '1'='1", "r\0", "\ud800"],
)
async def test_wrong_key_ids_are_refused(world: World, key_id: str) -> None:
    token = world.token({"alg": "RS256", "kid": key_id})
    assert await refused(world.issuers(), token) == "unknown key"


async def test_a_token_must_name_its_key_among_several(world: World) -> None:
    assert await refused(world.issuers(), world.token({"alg": "RS256"})) == "unknown key"


async def test_keys_offered_by_the_token_are_not_looked_at(world: World) -> None:
    issuers = world.issuers()
    for offer in (
        {"jwk": forge.jwk(world.other, kid="r")},
        {"jku": "https://attacker.example/keys"},
        {"x5u": "https://attacker.example/certificate"},
        {"x5c": ["MIIB"]},
    ):
        header = {"alg": "RS256", "kid": "r", **offer}
        forged = forge.token(header, claims(), rs256(world.other))
        assert await refused(issuers, forged) == "wrong signature"
        assert await issuers.verify(world.token(header))
    assert set(world.fetched) == {URL}


@pytest.mark.parametrize("width", [0, 1, 31, 32, 63, 65, 128])
async def test_signatures_of_other_lengths_are_refused(world: World, width: int) -> None:
    issuers = world.issuers()
    for algorithm, key_id in (("ES256", "e"), ("EdDSA", "o"), ("RS256", "r")):
        sign = forge.constant(b"\x01" * width)
        token = forge.token({"alg": algorithm, "kid": key_id}, claims(), sign)
        await refused(issuers, token)


@pytest.mark.parametrize("r", [0, 1, P256_ORDER - 1, P256_ORDER, P256_ORDER + 1, 2**256 - 1])
@pytest.mark.parametrize("s", [0, 1, P256_ORDER - 1, P256_ORDER, P256_ORDER + 1, 2**256 - 1])
async def test_psychic_signatures_are_refused(world: World, r: int, s: int) -> None:
    sign = forge.constant(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    token = forge.token({"alg": "ES256", "kid": "e"}, claims(), sign)
    assert await refused(world.issuers(), token) == "wrong signature"


async def test_the_other_form_of_a_signature_gains_nothing(world: World) -> None:
    """(r, n - s) verifies as (r, s) does; it is the same token by id, so revoking one hits both."""
    issuers = world.issuers()
    for jti in ("j1", ...):
        good = forge.token({"alg": "ES256", "kid": "e"}, claims(jti=jti), es256(world.ec))
        head, _, signature = good.rpartition(".")
        raw = forge.decoded(signature)
        s = P256_ORDER - int.from_bytes(raw[32:], "big")
        twin = f"{head}.{forge.segment(raw[:32] + s.to_bytes(32, 'big'))}"
        assert await issuers.verify(twin) == await issuers.verify(good)


async def test_the_signature_as_der_is_refused(world: World) -> None:
    def sign(message: bytes) -> bytes:
        return world.ec.sign(message, ec.ECDSA(hashes.SHA256()))

    token = forge.token({"alg": "ES256", "kid": "e"}, claims(), sign)
    assert await refused(world.issuers(), token) == "wrong signature"


async def test_our_own_tokens_are_none_of_an_issuer(world: World) -> None:
    ours = TokenIssuer(b"0123456789abcdef0123456789abcdef", issuer=NAME)
    pair = ours.issue("s1", username="alice", tenant="tenant-a", role=Role.ADMIN)
    for token in (pair.access, pair.refresh):
        assert await refused(world.issuers(), token) == "wrong algorithm"
    forged = world.token(iss="inferno")
    assert await refused(world.issuers(), forged) == "unknown issuer"
    with pytest.raises(AuthenticationFailed):
        ours.verify(world.token())


# --- keys ---------------------------------------------------------------------------------------


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


async def test_a_key_in_the_settings_or_a_file_works(world: World, tmp_path: Path) -> None:
    key_set, key = tmp_path / "keys.json", tmp_path / "key.pem"
    key_set.write_bytes(world.keys)
    key.write_bytes(forge.pem(world.rsa))
    for source in (
        {"jwks_file": str(key_set)},
        {"public_key_file": str(key)},
        {"public_key": forge.pem(world.rsa).decode()},
    ):
        assert await world.issuers(jwks_url=..., **source).verify(world.token())
    assert world.fetched == []


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


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": ""},
        {"audience": ""},
        {"audience": ()},
        {"audience": ("a", "")},
        {"jwks_url": ...},
        {"public_key": "x"},
        {"jwks_url": "http://id.example.com/keys"},
        {"jwks_url": "http://127.0.0.1.example.com/keys"},
        {"jwks_url": "http://localhost@example.com/keys"},
        {"jwks_url": "https://user@example.com/keys"},
        {"jwks_url": "file:///etc/passwd"},
        {"jwks_url": "ftp://localhost/keys"},
        {"jwks_url": "https://"},
        {"jwks_url": "https://[::1"},
        {"algorithms": ()},
        {"algorithms": ("HS256",)},
        {"algorithms": ("RS256", "none")},
        {"default_role": Role.ADMIN},
        {"default_tenant": "../x"},
        {"tenants": ("a/b",)},
        {"leeway_seconds": -1},
        {"leeway_seconds": 301},
    ],
)
def test_settings_that_are_not_safe_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        outside(**changes)


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]:8000"])
def test_keys_on_this_machine_need_no_tls(host: str) -> None:
    assert outside(jwks_url=f"http://{host}/keys")


def test_settings_are_read_from_tables() -> None:
    table = {"issuer": NAME, "audience": ["a", "b"], "jwks_url": URL, "role_map": {"ops": "admin"}}
    read = msgspec.convert(table, IssuerSettings)
    assert read.audiences == ("a", "b")
    assert read.role_map == {"ops": Role.ADMIN}
    for unknown in ({"jwks_uri": URL}, {"role_map": {"ops": "root"}}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(table | unknown, IssuerSettings)


def test_two_issuers_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        OutsideIssuers([outside(), outside()])


def test_keys_that_cannot_be_read_are_refused_at_the_start(
    tmp_path: Path, short_rsa_key: rsa.RSAPrivateKey, world: World
) -> None:
    private = world.rsa.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for source in (
        {"public_key": "no key"},
        {"public_key": forge.pem(short_rsa_key).decode()},
        {"public_key": private.decode()},
        {"jwks_file": str(tmp_path / "nowhere")},
        {"public_key_file": str(tmp_path / "nowhere")},
    ):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            OutsideIssuers([outside(jwks_url=..., **source)])


# --- anything at all ----------------------------------------------------------------------------

RELAXED = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@RELAXED
@given(st.binary(max_size=200) | st.text(max_size=200))
async def test_nothing_else_is_a_token(world: World, token: str | bytes) -> None:
    await refused(world.issuers(), token)


@RELAXED
@given(st.data())
async def test_no_change_of_a_token_is_a_token(world: World, data: st.DataObject) -> None:
    good = forge.token({"alg": "EdDSA", "kid": "o"}, claims(), forge.eddsa(world.ed))
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, len(good)))
    changed = good[:start] + data.draw(st.text(max_size=8)) + good[end:]
    if changed != good:
        await refused(world.issuers(), changed)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@RELAXED
@given(st.sampled_from(sorted(claims())), JSON)
async def test_claims_of_any_type_make_nobody_an_admin(world: World, name: str, value: Any) -> None:
    try:
        principal = await world.issuers().verify(world.token(**{name: value}))
    except AuthenticationFailed:
        return
    assert principal.role != Role.ADMIN
    assert principal.user_id.startswith(NAME)


@RELAXED
@given(JSON, JSON)
async def test_headers_of_any_type_raise_nothing_else(
    world: World, algorithm: Any, key_id: Any
) -> None:
    await refused(world.issuers(), world.token({"alg": algorithm, "kid": key_id}))
