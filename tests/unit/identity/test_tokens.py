"""Our own tokens: what they say, and every way in which a forged one is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from inferno.core.errors import AuthenticationFailed, ConfigurationError
from inferno.core.tenancy import Role
from inferno.identity.compact import EXPIRED, INVALID, MAX_TOKEN_BYTES, TokenRefused
from inferno.identity.revocation import RevocationList
from inferno.identity.tokens import Claims, Kind, TokenIssuer, TokenPair, generate_secret
from tests.unit.identity import forge

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000
HEADER = {"alg": "HS256", "typ": "JWT"}
SIGN = forge.hs256(SECRET)


def issuer(now: float = NOW, **settings: Any) -> TokenIssuer:
    return TokenIssuer(SECRET, clock=lambda: now, **settings)


def issue(tokens: TokenIssuer, family: str | None = None) -> TokenPair:
    return tokens.issue("u1", username="alice", tenant="red", role=Role.USER, family=family)


def claims(**changes: Any) -> dict[str, Any]:
    good = {
        "sub": "u1",
        "username": "alice",
        "tenant": "red",
        "role": "user",
        "typ": "access",
        "jti": "j1",
        "fam": "f1",
        "iss": "inferno",
        "iat": NOW,
        "exp": NOW + 60,
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


def refused(token: str | bytes, kind: Kind = "access", tokens: TokenIssuer | None = None) -> str:
    """Return why a token is refused; the caller learns no more than the one sentence."""
    with pytest.raises(AuthenticationFailed) as caught:
        (tokens or issuer()).verify(token, kind)
    reason = caught.value.__cause__
    assert isinstance(reason, TokenRefused)
    assert caught.value.message == (EXPIRED if str(reason) == "expired" else INVALID)
    assert caught.value.details == {}
    return str(reason)


GOOD = forge.token(HEADER, claims(), SIGN)

# --- what is right ------------------------------------------------------------------------------


def test_a_pair_says_who_logged_in() -> None:
    tokens = issuer()
    pair = issue(tokens)
    access, refresh = tokens.verify(pair.access), tokens.verify(pair.refresh, "refresh")
    assert (access, refresh) == (pair.access_claims, pair.refresh_claims)
    assert (access.subject, access.username, access.tenant, access.role) == (
        *("u1", "alice", "red"),
        Role.USER,
    )
    assert (access.issued_at, access.expires_at) == (NOW, NOW + 86_400)
    assert refresh.expires_at == NOW + 7 * 86_400
    assert pair.expires_at == access.expires_at
    assert access.family == refresh.family
    assert access.jti != refresh.jti


def test_a_renewed_pair_stays_in_its_family() -> None:
    first = issue(issuer())
    second = issue(issuer(), family=first.refresh_claims.family)
    assert second.access_claims.family == first.access_claims.family
    assert len({*_ids(first), *_ids(second)}) == 4
    assert issue(issuer()).access_claims.family != first.access_claims.family


def _ids(pair: TokenPair) -> tuple[str, str]:
    return pair.access_claims.jti, pair.refresh_claims.jti


def test_other_libraries_read_our_tokens_and_we_read_theirs() -> None:
    pair = issue(issuer())
    read = jwt.decode(pair.access, SECRET, algorithms=["HS256"], options={"verify_iat": False})
    assert set(read) == {*("sub", "username", "tenant", "role"), "typ", "jti", "fam", "iss"} | {
        "iat",
        "exp",
    }
    theirs = jwt.encode(claims(nbf=NOW), SECRET, algorithm="HS256", headers={"kid": "1"})
    assert issuer().verify(theirs).subject == "u1"


@pytest.mark.parametrize("as_bytes", [False, True])
def test_text_and_bytes_are_alike(as_bytes: bool) -> None:
    assert issuer().verify(GOOD.encode() if as_bytes else GOOD).jti == "j1"


def test_claims_that_we_do_not_know_are_no_hindrance() -> None:
    token = forge.token(HEADER, claims(email="a@example.com"), SIGN)
    assert issuer().verify(token).subject == "u1"


def test_a_pair_shows_no_token_when_it_is_printed() -> None:
    pair = issue(issuer())
    assert pair.access not in repr(pair)
    assert pair.refresh not in repr(pair)


def test_the_type_may_be_missing_from_the_header() -> None:
    assert issuer().verify(forge.token({"alg": "HS256"}, claims(), SIGN)).jti == "j1"


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "settings"),
    [
        ("", {}),
        ("x" * 31, {}),
        (b"x" * 31, {}),
        ("-----BEGIN PUBLIC KEY-----\n" + "x" * 64, {}),
        (SECRET, {"issuer": ""}),
        (SECRET, {"lifetime_seconds": 0}),
        (SECRET, {"refresh_lifetime_seconds": -1}),
        (SECRET, {"leeway_seconds": 31}),
        (SECRET, {"leeway_seconds": -1}),
    ],
)
def test_settings_that_are_not_safe_are_refused(
    secret: str | bytes, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TokenIssuer(secret, **settings)
    assert "xxxx" not in caught.value.message


def test_generated_secrets_are_long_and_different() -> None:
    one, other = generate_secret(), generate_secret()
    assert one != other
    assert issue(TokenIssuer(one))


# --- forged signatures and spellings ------------------------------------------------------------


@pytest.mark.parametrize("name", forge.misspelt(GOOD))
def test_a_token_has_one_spelling(name: str) -> None:
    refused(forge.misspelt(GOOD)[name])


@pytest.mark.parametrize("size", [MAX_TOKEN_BYTES + 1, 1_000_000])
def test_long_tokens_are_not_looked_at(size: int) -> None:
    payload = claims(filler="x" * size)
    assert refused(forge.token(HEADER, payload, SIGN)) == "too long"


def test_every_bit_of_the_signature_counts() -> None:
    damaged = forge.damaged(GOOD)
    assert len(damaged) == 256
    assert {refused(token) for token in damaged} == {"wrong signature"}


def test_every_character_of_the_token_counts() -> None:
    for i, old in enumerate(GOOD):
        for new in {"A", "B", "-", ".", "=", "\x7f"} - {old}:
            refused(GOOD[:i] + new + GOOD[i + 1 :])


@pytest.mark.parametrize("algorithm", [*forge.WRONG_ALGORITHMS, "RS256", "ES256", "EdDSA", "PS256"])
@pytest.mark.parametrize("sign", [SIGN, forge.constant(b""), forge.constant(b"\0" * 32)])
def test_other_algorithms_are_refused(algorithm: str, sign: forge.Sign) -> None:
    refused(forge.token({"alg": algorithm, "typ": "JWT"}, claims(), sign))


@pytest.mark.parametrize("name", forge.STRANGE_HEADERS)
def test_strange_headers_are_refused(name: str) -> None:
    header = forge.STRANGE_HEADERS[name].replace(b"%s", b"HS256")
    refused(forge.token(header, claims(), SIGN))


def test_public_keys_are_no_secret(
    rsa_key: rsa.RSAPrivateKey,
    ec_key: ec.EllipticCurvePrivateKey,
    ed_key: ed25519.Ed25519PrivateKey,
) -> None:
    for key in (rsa_key, ec_key, ed_key):
        for secret in (forge.pem(key), forge.pem(key).strip(), forge.der(key)):
            token = forge.token(HEADER, claims(), forge.hs256(secret))
            assert refused(token) == "wrong signature"
        with pytest.raises(ConfigurationError):
            TokenIssuer(forge.pem(key))


@pytest.mark.parametrize("secret", [b"", b"\0", b"secret", SECRET[:-1], SECRET.upper(), SECRET * 2])
def test_other_secrets_are_refused(secret: bytes) -> None:
    token = forge.token(HEADER, claims(), forge.hs256(secret))
    assert refused(token) == "wrong signature"


@pytest.mark.parametrize(
    "offer",
    [
        {"jwk": {"kty": "oct", "k": forge.segment(b"attacker's own secret, 32 bytes!")}},
        {"jku": "https://attacker.example/keys"},
        {"x5u": "https://attacker.example/certificate"},
        {"x5c": ["MIIB"]},
        {"kid": "../../../../dev/null"},
        {"kid": "x' UNION SELECT 'secret"},
    ],
)
def test_keys_offered_by_the_token_are_not_looked_at(offer: dict[str, Any]) -> None:
    for secret in (b"attacker's own secret, 32 bytes!", b"", b"secret"):
        token = forge.token(HEADER | offer, claims(), forge.hs256(secret))
        assert refused(token) == "wrong signature"
    assert issuer().verify(forge.token(HEADER | offer, claims(), SIGN)).jti == "j1"


# --- claims -------------------------------------------------------------------------------------

WRONG_CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    **{f"no {name}": ({name: ...}, "malformed claims") for name in claims()},
    **{f"{name} is null": ({name: None}, "malformed claims") for name in claims()},
    **{f"{name} is a list": ({name: [claims()[name]]}, "malformed claims") for name in claims()},
    "empty subject": ({"sub": ""}, "malformed claims"),
    "long subject": ({"sub": "x" * 257}, "malformed claims"),
    "unknown role": ({"role": "root"}, "malformed claims"),
    "another issuer": ({"iss": "inferno2"}, "wrong issuer"),
    "our name in capitals": ({"iss": "INFERNO"}, "wrong issuer"),
    "refresh token": ({"typ": "refresh"}, "wrong kind of token"),
    "unknown kind": ({"typ": "id"}, "malformed claims"),
    "expired": ({"exp": NOW - 1}, "expired"),
    "expires now": ({"exp": NOW}, "expired"),
    "expired in 1970": ({"exp": 0}, "expired"),
    "issued in the future": ({"iat": NOW + 1}, "not valid yet"),
    "valid in the future": ({"nbf": NOW + 1}, "not valid yet"),
    "fraction": ({"exp": NOW + 60.5}, "malformed claims"),
}


@pytest.mark.parametrize("name", WRONG_CLAIMS)
def test_wrong_claims_are_refused(name: str) -> None:
    changes, reason = WRONG_CLAIMS[name]
    assert refused(forge.token(HEADER, claims(**changes), SIGN)) == reason


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", forge.BAD_TIMES)
def test_times_that_are_none_are_refused(claim: str, value: str) -> None:
    payload = json.dumps(claims(**{claim: "@"})).encode().replace(b'"@"', forge.BAD_TIMES[value])
    assert refused(forge.token(HEADER, payload, SIGN)) == "malformed claims"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"{}" * 2,
        b"[" * 5000,
        b'{"x":' * 900,
        b'{"sub":"\xff"}',
        json.dumps(claims()).encode("utf-16"),
        json.dumps(claims(sub="@")).encode().replace(b"@", b"\\ud800"),
    ],
)
def test_payloads_that_are_no_claims_are_refused(payload: bytes) -> None:
    refused(forge.token(HEADER, payload, SIGN))


@pytest.mark.parametrize("opening", [b"[", b'{"x":'])
def test_nesting_without_end_is_refused(opening: bytes) -> None:
    assert refused(forge.token(HEADER, opening * 100_000, SIGN)) == "too long"


@pytest.mark.parametrize(("kind", "other"), [("access", "refresh"), ("refresh", "access")])
def test_each_kind_is_for_its_own_use(kind: Kind, other: Kind) -> None:
    token = forge.token(HEADER, claims(typ=kind), SIGN)
    assert issuer().verify(token, kind).kind == kind
    assert refused(token, other) == "wrong kind of token"


@pytest.mark.parametrize(
    ("now", "is_valid"),
    [(NOW - 11, False), (NOW - 10, True), (NOW + 69.9, True), (NOW + 70, False)],
)
def test_leeway_is_for_clocks_that_differ(now: float, is_valid: bool) -> None:
    tokens = issuer(now, leeway_seconds=10)
    if is_valid:
        assert tokens.verify(GOOD).jti == "j1"
    else:
        refused(GOOD, tokens=tokens)


# --- revocation ---------------------------------------------------------------------------------


def test_a_revoked_token_is_refused_and_its_sibling_is_not() -> None:
    tokens = issuer()
    pair = issue(tokens)
    tokens.revocations.revoke(pair.access_claims.jti, pair.access_claims.expires_at)
    assert refused(pair.access, tokens=tokens) == "revoked"
    assert tokens.verify(pair.refresh, "refresh")


def test_revoking_a_family_revokes_all_of_it() -> None:
    tokens = issuer()
    first = issue(tokens)
    second = issue(tokens, first.access_claims.family)
    stranger = issue(tokens)
    tokens.revocations.revoke(first.access_claims.family, NOW + 7 * 86_400)
    for pair in (first, second):
        assert refused(pair.access, tokens=tokens) == "revoked"
        assert refused(pair.refresh, "refresh", tokens) == "revoked"
    assert tokens.verify(stranger.access)


def test_a_used_refresh_token_can_be_told_from_a_forged_one() -> None:
    tokens = issuer()
    pair = issue(tokens)
    tokens.revocations.revoke(pair.refresh_claims.jti, pair.refresh_claims.expires_at)
    again = tokens.verify(pair.refresh, "refresh", check_revoked=False)
    assert tokens.revocations.is_revoked(again.jti)
    with pytest.raises(AuthenticationFailed):
        tokens.verify(forge.damaged(pair.refresh)[0], "refresh", check_revoked=False)


def test_an_empty_list_that_is_shared_is_used() -> None:
    shared = RevocationList()
    tokens = issuer(revocations=shared)
    pair = issue(tokens)
    shared.revoke(pair.access_claims.jti, NOW + 60)
    assert refused(pair.access, tokens=tokens) == "revoked"


# --- anything at all ----------------------------------------------------------------------------

ANYTHING = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200),
    st.text(alphabet=forge.ALPHABET + ".=+/ \n", max_size=200),
    st.lists(st.text(alphabet=forge.ALPHABET, max_size=60), min_size=3, max_size=3).map(".".join),
)


@given(ANYTHING)
def test_nothing_else_is_a_token(token: str | bytes) -> None:
    refused(token)


@given(st.data())
def test_no_change_of_a_token_is_a_token(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, len(GOOD)))
    changed = GOOD[:start] + data.draw(st.text(max_size=8)) + GOOD[end:]
    if changed != GOOD:
        refused(changed)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(claims())), JSON)
def test_claims_of_any_type_raise_nothing_else(name: str, value: Any) -> None:
    token = forge.token(HEADER, claims(**{name: value}), SIGN)
    with contextlib.suppress(AuthenticationFailed):
        assert isinstance(issuer().verify(token), Claims)


def test_a_refusal_costs_no_more_than_a_glance() -> None:
    """Nothing is decoded before the signature is known to be right."""
    token = forge.token(HEADER, b"[" * 5000, forge.constant(b"\0" * 32))
    assert refused(token) == "wrong signature"
