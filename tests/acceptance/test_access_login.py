"""Signing in and staying signed in, over HTTP and over restarts; tokens that are forged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.acceptance.access import (
    NO_MODEL,
    PASSWORD,
    UNLIMITED,
    as_caller,
    audit,
    bearer,
    login,
    make_caller,
    make_user,
)
from tests.acceptance.platform import Platform
from tests.unit.identity import forge

SECRET = "a secret of the tests' own, long enough"
NEW_PASSWORD = "quite-another-password"


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    environment = {
        **NO_MODEL,
        **UNLIMITED,
        "INFERNO_JWT_SECRET": SECRET,
        "INFERNO_TRUSTED_PROXIES": "127.0.0.0/8",
    }
    with Platform(tmp_path_factory.mktemp("login") / "data", environment=environment) as running:
        yield running


def me(platform: Platform, token: str) -> httpx.Response:
    return httpx.get(f"{platform.url}/auth/me", headers=bearer(token))


def refresh(platform: Platform, token: str) -> httpx.Response:
    return httpx.post(f"{platform.url}/auth/refresh", json={"refresh_token": token})


def test_a_login_answers_with_tokens_and_the_user(doors: Platform) -> None:
    user = make_user(doors, "ann", tenant="red")
    answer = login(doors, "ann")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["token_type"] == "bearer"
    assert body["expires_in"] == 86_400
    assert body["expires_at"] == pytest.approx(time.time() + 86_400, abs=60)
    assert set(body["user"]) == {"id", "username", "email", "role", "tenant", "last_login"}
    assert body["user"]["id"] == user["id"]
    header, payload, _ = body["token"].split(".")
    assert b'"HS256"' in forge.decoded(header)
    claims = forge.decoded(payload).decode()
    for claim in ("sub", "tenant", "role", "iat", "exp", "jti"):
        assert f'"{claim}":' in claims
    shown = me(doors, body["token"]).json()
    assert (shown["username"], shown["tenant"], shown["credential"]) == ("ann", "red", "token")


@pytest.mark.parametrize(
    ("name", "password"), [("known", "wrong-password"), ("nobody", PASSWORD), ("off", PASSWORD)]
)
def test_no_answer_tells_whether_a_user_exists(doors: Platform, name: str, password: str) -> None:
    with doors.http() as admin:
        for user in ("known", "off"):
            body = {"username": user, "password": PASSWORD}
            assert admin.post("/auth/users", json=body).status_code in (201, 409)
        admin.patch("/auth/users/off", json={"disabled": True}).raise_for_status()
    answer = login(doors, name, password)
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert error == {
        "code": "AUTHENTICATION_FAILED",
        "message": "Invalid username or password.",
    }


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"username": "ann"}', b'{"username": 1, "password": "x"}',
     b'{"username": "ann", "password": ""}', b'{"username": "a\'; --", "password": "x"}',
     b'{"username": "ann", "password": "' + b"x" * 2000 + b'"}', b"\xff", b"[" * 10_000],
    ids=lambda body: str(body[:20]),
)  # fmt: skip
def test_a_malformed_login_is_a_bad_request(doors: Platform, body: bytes) -> None:
    answer = httpx.post(f"{doors.url}/auth/login", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "INVALID_REQUEST"


class TestRefreshing:
    def test_gives_a_new_pair_and_spends_the_old_token(self, doors: Platform) -> None:
        make_user(doors, "bob")
        first = login(doors, "bob").json()
        answer = refresh(doors, first["refresh_token"])
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        second = answer.json()
        assert second["refresh_token"] != first["refresh_token"]
        assert me(doors, second["token"]).status_code == 200

    def test_twice_with_one_token_ends_the_whole_session(self, doors: Platform) -> None:
        make_user(doors, "eve")
        other = login(doors, "eve").json()
        first = login(doors, "eve").json()
        second = refresh(doors, first["refresh_token"]).json()
        assert refresh(doors, first["refresh_token"]).status_code == 401
        assert refresh(doors, second["refresh_token"]).status_code == 401
        assert me(doors, second["token"]).status_code == 401
        assert me(doors, first["token"]).status_code == 401
        assert me(doors, other["token"]).status_code == 200, "another session of the same user"
        refused = audit(doors, action="refresh", outcome="refused")
        assert refused[0]["reason"] == "AuthenticationFailed"
        assert refused[0]["address"] == "127.0.0.1"

    def test_takes_no_other_token(self, doors: Platform) -> None:
        make_user(doors, "carl")
        pair = login(doors, "carl").json()
        assert refresh(doors, pair["token"]).status_code == 401
        assert me(doors, pair["refresh_token"]).status_code == 401
        assert refresh(doors, doors.api_key).status_code == 401

    def test_ends_where_the_user_is_disabled(self, doors: Platform) -> None:
        make_user(doors, "dora")
        pair = login(doors, "dora").json()
        with doors.http() as admin:
            admin.patch("/auth/users/dora", json={"disabled": True}).raise_for_status()
        assert me(doors, pair["token"]).status_code == 401
        assert refresh(doors, pair["refresh_token"]).status_code == 401


def test_a_logout_ends_the_session_with_all_its_tokens(doors: Platform) -> None:
    make_user(doors, "fay")
    first = login(doors, "fay").json()
    second = refresh(doors, first["refresh_token"]).json()
    with as_caller(doors, second["token"]) as client:
        assert client.post("/auth/logout").json() == {"status": "logged_out"}
    for token in (first["token"], second["token"]):
        assert me(doors, token).status_code == 401
    assert refresh(doors, second["refresh_token"]).status_code == 401


def test_a_deleted_user_is_nobody_at_once(doors: Platform) -> None:
    key = make_caller(doors, "gone")
    token = login(doors, "gone").json()["token"]
    with doors.http() as admin:
        admin.delete("/auth/users/gone").raise_for_status()
    assert me(doors, token).status_code == 401
    assert me(doors, key.secret).status_code == 401


def test_a_role_that_is_taken_away_is_gone_at_once(doors: Platform) -> None:
    make_user(doors, "demoted", role="service")
    token = login(doors, "demoted").json()["token"]
    with doors.http() as admin:
        admin.patch("/auth/users/demoted", json={"role": "guest"}).raise_for_status()
    assert me(doors, token).json()["permissions"] == ["read_models"]


class TestOnesOwnPassword:
    def test_is_changed_by_whoever_knows_it(self, doors: Platform) -> None:
        make_user(doors, "hal")
        token = login(doors, "hal").json()["token"]
        body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        with as_caller(doors, token) as client:
            assert client.post("/auth/password", json=body).status_code == 200
        assert login(doors, "hal").status_code == 401
        assert login(doors, "hal", NEW_PASSWORD).status_code == 200
        events = audit(doors, action="user.password", user="hal")
        assert [event["outcome"] for event in events] == ["success"]

    def test_is_not_changed_by_whoever_does_not(self, doors: Platform) -> None:
        make_user(doors, "ida")
        token = login(doors, "ida").json()["token"]
        with as_caller(doors, token) as client:
            statuses = [
                client.post(
                    "/auth/password",
                    json={"current_password": f"guess-{i}", "new_password": NEW_PASSWORD},
                ).status_code
                for i in range(8)
            ]
        assert statuses[0] == 401
        assert statuses[-1] == 429, "guessing here is as slow as at the login"
        assert login(doors, "ida").status_code == 429
        assert audit(doors, action="user.password", user="ida", outcome="refused")

    def test_may_not_be_easy_to_guess(self, doors: Platform) -> None:
        make_user(doors, "joe")
        token = login(doors, "joe").json()["token"]
        with as_caller(doors, token) as client:
            body = {"current_password": PASSWORD, "new_password": "password"}
            answer = client.post("/auth/password", json=body)
        assert answer.status_code == 400
        assert login(doors, "joe").status_code == 200


class TestGuessing:
    def test_is_slowed_down(self, doors: Platform) -> None:
        make_user(doors, "victim")
        sent = [
            login(doors, "victim", f"guess-{i}", **{"X-Forwarded-For": "192.0.2.66"})
            for i in range(10)
        ]
        statuses = [answer.status_code for answer in sent]
        assert statuses[:5] == [401] * 5
        assert statuses[-1] == 429
        last = sent[-1]
        assert int(last.headers["retry-after"]) >= 1
        error = last.json()["error"]
        assert error["code"] == "RATE_LIMIT_EXCEEDED"
        assert error["retry_after"] == int(last.headers["retry-after"])
        right = login(doors, "victim", **{"X-Forwarded-For": "192.0.2.66"})
        assert right.status_code == 429, "nor does the right password help now"
        owner = login(doors, "victim", **{"X-Forwarded-For": "198.51.100.7"})
        assert owner.status_code == 200, "the owner gets in from elsewhere"

    def test_is_as_slow_for_users_that_do_not_exist(self, doors: Platform) -> None:
        elsewhere = {"X-Forwarded-For": "192.0.2.67"}
        statuses = [
            login(doors, "never-was", f"guess-{i}", **elsewhere).status_code for i in range(10)
        ]
        assert statuses[:5] == [401] * 5
        assert statuses[-1] == 429

    def test_at_once_gets_no_more_tries(self, start: Callable[..., Platform]) -> None:
        platform = start(environment=NO_MODEL | UNLIMITED)
        make_user(platform, "victim")
        with ThreadPoolExecutor(20) as pool:
            statuses = list(
                pool.map(lambda i: login(platform, "victim", f"guess-{i}").status_code, range(40))
            )
        assert statuses.count(401) <= 7
        assert set(statuses) == {401, 429}


CLAIMS: dict[str, Any] = {"tenant": "default", "role": "admin", "jti": "forged"}


@pytest.fixture(scope="module")
def real(doors: Platform) -> tuple[str, str]:
    """A token of a user's, and the user's id."""
    make_user(doors, "kim")
    answer = login(doors, "kim").json()
    return answer["token"], answer["user"]["id"]


def forged(real: tuple[str, str], kind: str) -> str:
    token, user = real
    header, payload, signature = token.split(".")
    now = int(time.time())
    claims = {**CLAIMS, "sub": user, "iat": now - 100, "exp": now + 1000}
    admin = forge.decoded(payload).replace(b'"user"', b'"admin"')
    rsa, none = forge.segment({"alg": "RS256", "typ": "JWT"}), forge.segment({"alg": "none"})
    return {
        "alg none": f"{none}.{payload}.",
        "alg none with a signature": f"{none}.{payload}.{signature}",
        "payload replaced": f"{header}.{forge.segment(admin)}.{signature}",
        "no signature": f"{header}.{payload}.",
        "RS256 named": f"{rsa}.{payload}.{signature}",
        "another secret": forge.token({"alg": "HS256"}, claims, forge.hs256(b"x" * 40)),
        "empty secret": forge.token({"alg": "HS256"}, claims, forge.hs256(b"")),
        "expired": forge.token(
            {"alg": "HS256"}, {**claims, "exp": now - 100}, forge.hs256(SECRET.encode())
        ),
        "not yet valid": forge.token(
            {"alg": "HS256"}, {**claims, "nbf": now + 500}, forge.hs256(SECRET.encode())
        ),
        "huge": f"{header}.{payload}.{'A' * 9000}",
        "stray bits": f"{header}.{payload}.{forge.with_stray_bits(signature)}",
        "dots": "..",
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["alg none", "alg none with a signature", "payload replaced", "no signature", "RS256 named",
     "another secret", "empty secret", "expired", "not yet valid", "huge", "stray bits", "dots"],
)  # fmt: skip
def test_a_forged_token_is_refused(doors: Platform, real: tuple[str, str], kind: str) -> None:
    assert me(doors, real[0]).status_code == 200
    for management in (False, True):
        with as_caller(doors, forged(real, kind), management=management) as client:
            answer = client.get("/auth/me")
        assert answer.status_code == 401
        assert "forged" not in answer.text


def test_what_was_revoked_stays_revoked(start: Callable[..., Platform]) -> None:
    platform = start(environment=NO_MODEL | UNLIMITED)
    key = make_caller(platform, "ann")
    ended, kept = (login(platform, "ann").json() for _ in range(2))
    with as_caller(platform, ended["token"]) as client:
        client.post("/auth/logout").raise_for_status()
    with platform.http() as admin:
        admin.delete(f"/auth/api-keys/{key.id}").raise_for_status()
    platform.kill()
    (platform.data_dir / "run.json").unlink()
    platform.start()
    assert me(platform, ended["token"]).status_code == 401
    assert refresh(platform, ended["refresh_token"]).status_code == 401
    assert me(platform, key.secret).status_code == 401
    assert me(platform, kept["token"]).status_code == 200, "the generated secret is kept"
    assert refresh(platform, kept["refresh_token"]).status_code == 200


@pytest.mark.parametrize("variable", ["JWT_SECRET", "INFERNO_JWT_SECRET"])
def test_the_secret_of_the_environment_signs(start: Callable[..., Platform], variable: str) -> None:
    first = start(environment={**NO_MODEL, variable: SECRET})
    make_user(first, "ann")
    token = login(first, "ann").json()["token"]
    signing_input, _, signature = token.rpartition(".")
    assert forge.hs256(SECRET.encode())(signing_input.encode()) == forge.decoded(signature)
    first.stop()
    first = start(environment={**NO_MODEL, "INFERNO_JWT_SECRET": SECRET[::-1]})
    assert me(first, token).status_code == 401


def test_a_rotated_key_works_for_its_grace(doors: Platform) -> None:
    key = make_caller(doors, "lea")
    with as_caller(doors, key.secret) as client:
        soft = client.post(f"/auth/api-keys/{key.id}/rotate")
        assert soft.status_code == 201
        assert soft.headers["cache-control"] == "no-store"
        assert client.get("/auth/me").status_code == 200
        body = {"grace_seconds": 0}
        hard = client.post(f"/auth/api-keys/{soft.json()['id']}/rotate", json=body).json()
    assert me(doors, soft.json()["api_key"]).status_code == 401
    assert me(doors, hard["api_key"]).status_code == 200
    assert hard["api_key"].startswith("inf_")
    assert len(hard["api_key"]) >= 4 + 43, "256 random bits"


def test_a_disabled_key_is_refused_and_can_be_enabled_again(doors: Platform) -> None:
    key = make_caller(doors, "max")
    with doors.http() as admin:
        for disabled, status in ((True, 401), (False, 200)):
            admin.patch(f"/auth/api-keys/{key.id}", json={"disabled": disabled})
            assert me(doors, key.secret).status_code == status


def test_a_key_is_shown_once(doors: Platform) -> None:
    key = make_caller(doors, "nan")
    with doors.http() as admin:
        assert key.secret not in admin.get("/auth/api-keys").text
        assert key.secret not in admin.get(f"/auth/api-keys/{key.id}").text
        shown = admin.get(f"/auth/api-keys/{key.id}").json()
    assert key.secret.startswith(shown["prefix"])
    assert len(shown["prefix"]) <= 12
