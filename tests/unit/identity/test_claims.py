"""What claims of outside issuers mean here, and which are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferno.core.tenancy import ROLE_PERMISSIONS, Role
from tests.unit.identity import forge
from tests.unit.identity.world import NAME, NOW, World, claims, refused


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
