"""Tokens of outside issuers, end to end: a JWKS server, the configuration file, and callers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.acceptance.access import NO_MODEL, UNLIMITED, as_caller, bearer
from tests.acceptance.platform import Platform
from tests.unit.identity import forge

NAME = "https://id.example.com/"
CONFIG = """
[[issuers]]
issuer = "{name}"
audience = "inferno"
jwks_url = "{url}"
role_claim = "realm.roles"
tenant_claim = "org"
tenants = ["red", "blue"]
[issuers.role_map]
"platform-admins" = "admin"
"""


@dataclass
class World:
    """A platform that trusts an issuer, and the issuer's keys."""

    platform: Platform
    keys: dict[str, tuple[str, forge.Sign]] = field(default_factory=dict)

    def token(self, key_id: str, **claims: Any) -> str:
        algorithm, sign = self.keys[key_id]
        now = int(time.time())
        standard = {"iss": NAME, "aud": "inferno", "sub": "s1", "org": "red", "exp": now + 300}
        return forge.token({"alg": algorithm, "kid": key_id}, standard | claims, sign)

    def ask(self, token: str, path: str = "/auth/me") -> httpx.Response:
        return httpx.get(self.platform.url + path, headers=bearer(token), timeout=30)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    rsa_key = rsa.generate_private_key(65537, 2048)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    ed_key = ed25519.Ed25519PrivateKey.generate()
    published = forge.key_set(
        forge.jwk(rsa_key, kid="r"), forge.jwk(ec_key, kid="e"), forge.jwk(ed_key, kid="d")
    )

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(published)))
            self.end_headers()
            self.wfile.write(published)

        def log_message(self, *_: Any) -> None:
            """Keep the output of the tests clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    folder = tmp_path_factory.mktemp("issuers")
    config = folder / "inferno.toml"
    config.write_text(CONFIG.format(name=NAME, url=f"http://127.0.0.1:{server.server_port}/keys"))
    try:
        environment = NO_MODEL | UNLIMITED
        arguments = ("--config", str(config))
        with Platform(folder / "data", *arguments, environment=environment) as platform:
            world = World(platform)
            world.keys = {
                "r": ("RS256", forge.rs256(rsa_key)),
                "e": ("ES256", forge.es256(ec_key)),
                "d": ("EdDSA", forge.eddsa(ed_key)),
                "unknown": ("RS256", forge.rs256(rsa_key)),
            }
            yield world
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("key", ["r", "e", "d"])
def test_a_token_is_a_user_of_its_tenant(world: World, key: str) -> None:
    token = world.token(key, preferred_username="ann", realm={"roles": ["service", "guest"]})
    shown = world.ask(token).json()
    assert (shown["username"], shown["tenant"], shown["role"]) == ("ann", "red", "service")
    assert shown["credential"] == "issuer"
    assert shown["id"] == f"{NAME}#s1"
    with as_caller(world.platform, token, management=True) as client:
        assert client.get("/nothing").status_code == 404, "the control plane knows it too"


def test_roles_are_the_issuers_where_they_are_mapped(world: World) -> None:
    admin = world.token("r", realm={"roles": ["platform-admins"]})
    assert world.ask(admin, "/auth/users").status_code == 200
    for roles in (["admin"], ["root"], [], None):
        token = world.token("r", realm={"roles": roles})
        assert world.ask(token).json()["role"] == "user"
        assert world.ask(token, "/auth/users").status_code == 403


def test_others_tokens_are_refused(world: World) -> None:
    now = int(time.time())
    for wrong in (
        {"iss": "https://evil.example/"},
        {"aud": "somebody-else"},
        {"exp": now - 300},
        {"nbf": now + 300},
        {"org": "green"},
        {"org": None},
        {"sub": ""},
    ):
        answer = world.ask(world.token("e", **wrong))
        assert answer.status_code == 401, wrong
        assert answer.json()["error"]["code"] == "AUTHENTICATION_FAILED"
    assert world.ask(world.token("unknown")).status_code == 401
    header, payload, signature = world.token("d").split(".")
    assert world.ask(f"{header}.{payload}.{signature[::-1]}").status_code == 401


class TestAnOutsiderWithTheNameOfOurAdmin:
    @pytest.fixture
    def outsider(self, world: World) -> Iterator[httpx.Client]:
        token = world.token("r", preferred_username="admin", sub="admin")
        with as_caller(world.platform, token) as client:
            yield client

    def test_is_somebody_else(self, outsider: httpx.Client) -> None:
        assert outsider.get("/auth/me").json()["role"] == "user"
        assert outsider.get("/auth/api-keys").json() == {"api_keys": []}

    @pytest.mark.parametrize("permissions", [[], ["read_models"]])
    @pytest.mark.parametrize("user", [None, "admin", f"{NAME}#admin"])
    def test_gets_no_key_of_the_admins(
        self, world: World, outsider: httpx.Client, user: str | None, permissions: list[str]
    ) -> None:
        body = {"name": "x", "user": user, "permissions": permissions}
        answer = outsider.post("/auth/api-keys", json=body)
        assert answer.status_code in (403, 404), answer.text
        with world.platform.http() as admin:
            assert len(admin.get("/auth/api-keys").json()["api_keys"]) == 1

    def test_has_no_password_here(self, outsider: httpx.Client) -> None:
        body = {"current_password": "x", "new_password": "quite-another-password"}
        assert outsider.post("/auth/password", json=body).status_code == 400
