"""Every route of both planes: closed to strangers, and open to those who may and to no others."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from inferno.core.tenancy import ROLE_PERMISSIONS, Permission, Role
from inferno.server import websocket
from inferno.server.errors import speaks_openai
from inferno.server.operation import Operation
from inferno.server.operations import operations
from tests.acceptance.access import (
    NO_MODEL,
    UNLIMITED,
    Key,
    as_caller,
    bearer,
    login,
    make_caller,
    make_key,
    make_user,
)
from tests.acceptance.platform import Platform

PERMISSIONS: dict[str | None, str] = {
    "read_metrics": """
        GET /metrics
        GET /metrics/json
        GET /metrics/snapshot
        GET /traces
    """,
    "write_config": """
        POST /metrics/custom
        DELETE /metrics/custom/{name}
    """,
    "run_inference": """
        POST /inference
        POST /inference/stream
        POST /embeddings
        POST /v1/inference
        POST /v1/inference/stream
        POST /v1/chat/completions
        POST /v1/completions
        POST /v1/embeddings
        POST /batch
        GET /batch
        GET /batch/{batch_id}
        GET /batch/{batch_id}/results
        POST /batch/{batch_id}/cancel
        DELETE /batch/{batch_id}
        POST /v1/batch
        GET /v1/batch
        GET /v1/batch/{batch_id}
        GET /v1/batch/{batch_id}/results
        POST /v1/batch/{batch_id}/cancel
        DELETE /v1/batch/{batch_id}
        POST /v1/files
        GET /v1/files
        GET /v1/files/{file_id}
        DELETE /v1/files/{file_id}
        GET /v1/files/{file_id}/content
        POST /v1/batches
        GET /v1/batches
        GET /v1/batches/{batch_id}
        POST /v1/batches/{batch_id}/cancel
        GET /webhooks
        POST /webhooks
        GET /webhooks/secret
        GET /webhooks/deliveries
        GET /webhooks/deliveries/{delivery_id}
        POST /webhooks/deliveries/{delivery_id}/resend
        GET /webhooks/{webhook_id}
        PATCH /webhooks/{webhook_id}
        DELETE /webhooks/{webhook_id}
        POST /webhooks/{webhook_id}/rotate
        POST /webhooks/{webhook_id}/test
        GET /webhooks/{webhook_id}/deliveries
        GET /v1/webhooks
        POST /v1/webhooks
        GET /v1/webhooks/secret
        GET /v1/webhooks/deliveries
        GET /v1/webhooks/deliveries/{delivery_id}
        POST /v1/webhooks/deliveries/{delivery_id}/resend
        GET /v1/webhooks/{webhook_id}
        PATCH /v1/webhooks/{webhook_id}
        DELETE /v1/webhooks/{webhook_id}
        POST /v1/webhooks/{webhook_id}/rotate
        POST /v1/webhooks/{webhook_id}/test
        GET /v1/webhooks/{webhook_id}/deliveries
    """,
    "read_models": """
        GET /models
        GET /models/{model_id}
        GET /v1/models
        GET /v1/models/{model_id}
    """,
    "write_models": """
        POST /models/{model_id}/load
        POST /models/{model_id}/unload
        POST /v1/models/{model_id}/load
        POST /v1/models/{model_id}/unload
    """,
    "manage_users": """
        GET /auth/users
        POST /auth/users
        GET /auth/users/{user}
        PATCH /auth/users/{user}
        DELETE /auth/users/{user}
        GET /auth/rate-limits
        PUT /auth/rate-limits/{scope}/{name}
        GET /auth/rate-limits/usage/{user}
        DELETE /auth/rate-limits/usage/{user}
    """,
    "view_audit_logs": """
        GET /audit
        GET /audit/export
        GET /audit/verify
    """,
    None: """
        GET /
        GET /docs
        GET /openapi.json
        POST /auth/logout
        POST /auth/password
        GET /auth/me
        GET /auth/api-keys
        POST /auth/api-keys
        GET /auth/api-keys/{key_id}
        PATCH /auth/api-keys/{key_id}
        DELETE /auth/api-keys/{key_id}
        POST /auth/api-keys/{key_id}/rotate
    """,
}
"""What each call needs; for None being known is enough."""

PUBLIC = {
    ("GET", "/health"),
    ("GET", "/v1/health"),
    ("GET", "/health/live"),
    ("GET", "/v1/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/v1/health/ready"),
    ("POST", "/auth/login"),
    ("POST", "/auth/refresh"),
}

NEEDS: dict[tuple[str, str], str | None] = {
    (line.split()[0], line.split()[1]): permission
    for permission, lines in PERMISSIONS.items()
    for line in lines.split("\n")
    if line.strip()
}
CLOSED = sorted(NEEDS)
UNKNOWN = ["/nothing", "/auth", "/auth/users/x/y", "/v1", "/admin", "/.env", "/%2e%2e/health"]
SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    data = tmp_path_factory.mktemp("doors") / "data"
    with Platform(data, environment=NO_MODEL | UNLIMITED) as running:
        yield running


@pytest.fixture(scope="module")
def stranger(doors: Platform) -> Iterator[httpx.Client]:
    with as_caller(doors, None) as client:
        yield client


@dataclass(frozen=True)
class Caller:
    name: str
    credential: str
    permissions: frozenset[str]


@pytest.fixture(scope="module")
def callers(doors: Platform) -> list[Caller]:
    """One of each role, by key and by token; and keys of the admin's with one permission each."""
    found = []
    for role in Role:
        permissions = frozenset(p.value for p in ROLE_PERMISSIONS[role])
        key = make_caller(doors, f"door-{role}", role=role)
        token = login(doors, f"door-{role}").json()["token"]
        found.append(Caller(f"{role} key", key.secret, permissions))
        found.append(Caller(f"{role} token", token, permissions))
    for permission in Permission:
        key = make_key(doors, "admin", permissions=[permission])
        found.append(Caller(f"only {permission}", key.secret, frozenset({permission.value})))
    return found


def filled(path: str) -> str:
    """Return a path that names nothing that exists."""
    return re.sub(r"{[^}]*}", "no-such-thing", path)


def check_envelope(answer: httpx.Response, path: str, code: str, kind: str) -> None:
    error = answer.json()["error"]
    if speaks_openai(path):
        assert error["type"] == kind
        assert set(error) == {"message", "type", "param", "code"}
    else:
        assert error["code"] == code
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert error["message"]
    assert answer.headers.items() >= SECURITY.items()
    assert answer.headers["x-request-id"]


def documented(operation: Operation) -> tuple[str, str]:
    return operation.method, operation.documented_path


def test_the_table_here_has_every_operation() -> None:
    served = {documented(operation): operation.needs for operation in operations()}
    public = {documented(operation) for operation in operations() if operation.public}
    assert public == PUBLIC
    assert {*served, ("GET", "/openapi.json")} == {*NEEDS, *PUBLIC}
    for route, needs in served.items():
        if route not in PUBLIC:
            assert needs == NEEDS[route], route


def test_the_documentation_names_every_operation(doors: Platform) -> None:
    with doors.http() as client:
        paths = client.get("/openapi.json").json()["paths"]
    named = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    sockets = {("GET", path) for path in websocket.PATHS}  # they ask in their first message
    assert named - sockets | {("GET", "/openapi.json")} == {*NEEDS, *PUBLIC}


@pytest.mark.parametrize(("method", "path"), CLOSED, ids=str)
@pytest.mark.parametrize("credential", [None, "inf_" + "x" * 43, "a.b.c"], ids=str)
def test_strangers_are_sent_away(
    stranger: httpx.Client, method: str, path: str, credential: str | None
) -> None:
    headers = bearer(credential) if credential else {}
    answer = stranger.request(method, filled(path), headers=headers, content=b"{")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    check_envelope(answer, filled(path), "AUTHENTICATION_FAILED", "authentication_error")


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
def test_strangers_do_not_learn_which_paths_there_are(
    stranger: httpx.Client, method: str, path: str
) -> None:
    answer = stranger.request(method, httpx.URL(path))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "TRACE"])
def test_strangers_do_not_learn_which_methods_there_are(
    stranger: httpx.Client, method: str
) -> None:
    answer = stranger.request(method, "/models")
    assert answer.status_code == 401
    assert "allow" not in answer.headers


def test_head_needs_credentials_as_get_does(doors: Platform, stranger: httpx.Client) -> None:
    answer = stranger.head("/models")
    assert (answer.status_code, answer.content) == (401, b"")
    with doors.http() as client:
        assert client.head("/models").status_code == 200


@pytest.mark.parametrize(("method", "path"), sorted(PUBLIC), ids=str)
def test_the_public_calls_need_no_credentials(
    stranger: httpx.Client, method: str, path: str
) -> None:
    answer = stranger.request(method, path, content=b"{" if method == "POST" else b"")
    assert answer.status_code == (400 if method == "POST" else 200)
    assert answer.headers.items() >= SECURITY.items()


@pytest.mark.parametrize("path", ["/health/", "/health/x", "/HEALTH", "/auth/login/", "/health%00"])
def test_what_only_looks_public_is_closed(stranger: httpx.Client, path: str) -> None:
    assert stranger.request("GET", path).status_code in (400, 401)


def test_permissions_and_nothing_else_decide_who_may(
    doors: Platform, callers: list[Caller]
) -> None:
    wrong = []
    for caller in callers:
        with as_caller(doors, caller.credential) as client:
            # A token that was logged out is none any more.
            for method, path in sorted(CLOSED, key=lambda route: route[1] == "/auth/logout"):
                answer = client.request(method, filled(path), content=b"{")
                needed = NEEDS[method, path]
                may = needed is None or needed in caller.permissions
                if (answer.status_code != 403) != may or answer.status_code in (401, 500):
                    wrong.append((caller.name, method, path, answer.status_code))
                elif not may:
                    check_envelope(answer, filled(path), "AUTHORIZATION_FAILED", "permission_error")
    assert wrong == []


STREAMS: list[tuple[str, dict[str, Any]]] = [
    ("/inference/stream", {"prompt": "x"}),
    ("/v1/inference/stream", {"prompt": "x"}),
    ("/inference", {"prompt": "x", "stream": True}),
    ("/v1/completions", {"prompt": "x", "stream": True}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "stream": True}),
]


@pytest.mark.parametrize(("path", "body"), STREAMS, ids=lambda value: str(value)[:24])
def test_streams_need_a_permission_of_their_own(
    doors: Platform, callers: list[Caller], path: str, body: dict[str, Any]
) -> None:
    by_name = {caller.name: caller for caller in callers}
    expected = {"only run_inference": 403, "only use_streaming": 403, "user key": 404}
    for name, status in expected.items():
        with as_caller(doors, by_name[name].credential) as client:
            answer = client.post(path, json={"model": "no-such-model", **body})
        assert answer.status_code == status, (name, answer.text)


def test_a_refusal_says_which_permission_is_missing(doors: Platform, callers: list[Caller]) -> None:
    guest = next(caller for caller in callers if caller.name == "guest key")
    with as_caller(doors, guest.credential) as client:
        answer = client.get("/auth/users")
    assert answer.json()["error"]["details"] == {"permission": "manage_users"}
    assert "manage_users" in answer.json()["error"]["message"]


class TestKeysOfOthers:
    @pytest.mark.parametrize(
        ("method", "ending", "body"),
        [
            ("GET", "", None),
            ("PATCH", "", {"name": "mine now"}),
            ("PATCH", "", {"disabled": True}),
            ("DELETE", "", None),
            ("POST", "/rotate", {"grace_seconds": 0}),
        ],
    )
    def test_look_like_keys_that_do_not_exist(
        self, doors: Platform, method: str, ending: str, body: Any
    ) -> None:
        name = uuid.uuid4().hex
        mine, other = make_caller(doors, f"a-{name}"), make_caller(doors, f"b-{name}")
        made_up = str(uuid.uuid4())
        with as_caller(doors, mine.secret) as client:
            answers = [
                client.request(method, f"/auth/api-keys/{key}{ending}", json=body)
                for key in (other.id, made_up)
            ]
            assert other.id not in client.get("/auth/api-keys").text
        assert [answer.status_code for answer in answers] == [404, 404]
        real, unreal = (answer.json()["error"] for answer in answers)
        assert str(real).replace(other.id, "ID") == str(unreal).replace(made_up, "ID")
        with as_caller(doors, other.secret) as client:
            assert client.get("/auth/me").status_code == 200

    def test_nobody_makes_keys_for_others(self, doors: Platform) -> None:
        mine = make_caller(doors, "maker")
        make_user(doors, "somebody")
        with as_caller(doors, mine.secret) as client:
            answers = [
                client.post("/auth/api-keys", json={"name": "x", "user": user})
                for user in ("somebody", "nobody-at-all")
            ]
        assert [answer.status_code for answer in answers] == [403, 403]
        assert answers[0].json()["error"] == answers[1].json()["error"]

    def test_nobody_sets_its_own_limits(self, doors: Platform) -> None:
        mine = make_caller(doors, "limitless")
        limits = {"requests_per_minute": -1}
        with as_caller(doors, mine.secret) as client:
            new = client.post("/auth/api-keys", json={"name": "x", "limits": limits})
            change = client.patch(f"/auth/api-keys/{mine.id}", json={"limits": limits})
        assert (new.status_code, change.status_code) == (403, 403)


@pytest.fixture(scope="module")
def narrow(doors: Platform) -> Iterator[httpx.Client]:
    make_user(doors, "narrow")
    key = make_key(doors, "narrow", permissions=["read_models"])
    with as_caller(doors, key.secret) as client:
        yield client


@pytest.fixture(scope="module")
def broad(doors: Platform, narrow: httpx.Client) -> Key:
    return make_key(doors, "narrow")


class TestKeysWithFewPermissions:
    @pytest.mark.parametrize(
        ("permissions", "status"),
        [([], 403), (["run_inference"], 403), (["read_models"], 201), (["manage_users"], 400)],
    )
    def test_make_no_broader_ones(
        self, narrow: httpx.Client, permissions: list[str], status: int
    ) -> None:
        answer = narrow.post("/auth/api-keys", json={"name": "x", "permissions": permissions})
        assert answer.status_code == status, answer.text

    def test_take_no_broader_ones_over(
        self, doors: Platform, narrow: httpx.Client, broad: Key
    ) -> None:
        path = f"/auth/api-keys/{broad.id}"
        assert narrow.post(f"{path}/rotate").status_code == 403
        assert narrow.patch(path, json={"disabled": True}).status_code == 403
        assert narrow.delete(path).status_code == 403
        with as_caller(doors, broad.secret) as client:
            assert client.get("/auth/me").json()["permissions"] == [
                "read_models",
                "run_inference",
                "use_streaming",
            ]

    def test_manage_keys_like_themselves(self, narrow: httpx.Client) -> None:
        body = {"name": "x", "permissions": ["read_models"]}
        key = narrow.post("/auth/api-keys", json=body).json()
        rotated = narrow.post(f"/auth/api-keys/{key['id']}/rotate", json={"grace_seconds": 0})
        assert rotated.json()["permissions"] == ["read_models"]
        assert narrow.delete(f"/auth/api-keys/{rotated.json()['id']}").status_code == 200

    def test_of_an_admin_are_no_way_to_all_its_permissions(self, doors: Platform) -> None:
        key = make_key(doors, "admin", permissions=["manage_users", "read_models"])
        with doors.http() as admin:
            all_keys = admin.get("/auth/api-keys").json()["api_keys"]
        first = next(k["id"] for k in all_keys if k["username"] == "admin" and not k["permissions"])
        new = {"username": "second-admin", "password": "correct-horse-battery", "role": "admin"}
        make_user(doors, "plain")
        with as_caller(doors, key.secret) as client:
            refused = [
                client.post("/auth/api-keys", json={"name": "x"}),
                client.post("/auth/api-keys", json={"name": "x", "permissions": ["write_config"]}),
                client.post(f"/auth/api-keys/{first}/rotate"),
                client.patch(f"/auth/api-keys/{first}", json={"disabled": True}),
                client.delete(f"/auth/api-keys/{first}"),
                client.post("/auth/users", json=new),
                client.patch("/auth/users/plain", json={"role": "admin"}),
                client.patch("/auth/users/admin", json={"password": new["password"]}),
                client.delete("/auth/users/admin"),
            ]
            assert [answer.status_code for answer in refused] == [403] * len(refused)
            guest = {**new, "username": "a-guest", "role": "guest"}
            assert client.post("/auth/users", json=guest).status_code == 201

    def test_lose_what_their_user_loses(self, doors: Platform) -> None:
        make_user(doors, "demoted", role="service")
        key = make_key(doors, "demoted", permissions=["write_models", "read_models"])
        with doors.http() as admin, as_caller(doors, key.secret) as client:
            admin.patch("/auth/users/demoted", json={"role": "guest"}).raise_for_status()
            assert client.get("/auth/me").json()["permissions"] == ["read_models"]


@pytest.fixture(scope="module")
def paths(doors: Platform) -> list[str]:
    """All paths of the control plane."""
    with as_caller(doors, doors.api_key, management=True) as client:
        listed = client.get("/openapi.json").json()["paths"]
    return [*listed, "/openapi.json"]


class TestControlPlane:
    @pytest.mark.parametrize("credential", [None, "inf_" + "x" * 43, "a.b.c"], ids=str)
    def test_it_is_closed_but_for_its_health(
        self, doors: Platform, paths: list[str], credential: str | None
    ) -> None:
        with as_caller(doors, credential, management=True) as client:
            assert client.get("/health").status_code == 200
            for path in [*paths, *UNKNOWN, "/docs", "/redoc", "/health/", "/health/x"]:
                if path == "/health":
                    continue
                for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
                    answer = client.request(method, httpx.URL(filled(path)))
                    assert answer.status_code == 401, (method, path)
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                    assert answer.headers["x-request-id"]
                    assert answer.headers.items() >= SECURITY.items()
                    assert set(answer.json()) == {"error"}

    def test_its_errors_are_in_its_envelope(self, doors: Platform) -> None:
        with as_caller(doors, doors.api_key, management=True) as client:
            missing = client.get("/nothing")
            assert (missing.status_code, set(missing.json())) == (404, {"error"})
            wrong = client.post("/health")
            assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
