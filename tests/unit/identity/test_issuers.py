"""Tokens of outside issuers: which are believed, and how forged ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferno.core.errors import AuthenticationFailed, ConfigurationError
from inferno.core.tenancy import ROLE_PERMISSIONS, UNLIMITED, LimitPolicy, Role
from inferno.identity.claims import OutsideIdentity
from inferno.identity.issuers import OutsideIssuers
from inferno.identity.tokens import TokenIssuer
from tests.unit.identity import forge
from tests.unit.identity.forge import Private, Sign, es256, rs256
from tests.unit.identity.world import NAME, NOW, URL, World, claims, outside, refused

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

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


# --- settings -----------------------------------------------------------------------------------


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
