"""Canaries: secrets and content that callers send turn up nowhere, whatever goes wrong."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.access import bearer, exchange, make_user
from tests.acceptance.platform import MODEL, Platform

ADMIN_PASSWORD = "admin-canary-Pm3v8"
API_KEY = "inf_canary-key-Qx7w2-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
JWT_SECRET = "jwt-secret-canary-Zr5t9-aaaaaaaaaaaaaaa"


class Canaries:
    """Texts to plant, by where they are planted."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {
            "admin password": ADMIN_PASSWORD,
            "first key": API_KEY,
            "signing secret": JWT_SECRET,
        }

    def __call__(self, where: str) -> str:
        """Return a new text."""
        self.planted[where] = f"canary-{secrets.token_hex(8)}"
        return self.planted[where]

    def keep(self, where: str, secret: str) -> str:
        """Look for a secret that the platform made."""
        self.planted[where] = secret
        return secret


def ask(client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response | None:
    """Ask, whatever comes of it."""
    with contextlib.suppress(httpx.HTTPError):
        return client.request(method, path, **options)
    return None


def plant_content(client: httpx.Client, canary: Canaries) -> None:
    """Send content that is answered, refused, not understood, and given up on."""
    for path, name in (
        ("/inference", "prompt"),
        ("/inference/stream", "prompt"),
        ("/v1/completions", "prompt"),
        ("/embeddings", "input"),
        ("/v1/embeddings", "input"),
    ):
        for model in (MODEL, "no-such-model"):
            text = canary(f"{name} of {path} to {model}")
            stop = canary(f"stop word of {path} to {model}")
            body = {"model": model, name: text, "max_tokens": 3, "stop": [stop]}
            if name == "input":
                body = {"model": model, name: text}
            ask(client, "POST", path, json=body)
        wrong = {"model": MODEL, name: {canary(f"mistyped {name} of {path}"): 1}}
        ask(client, "POST", path, json=wrong)
        unknown = {"model": MODEL, name: "x", canary(f"unknown field of {path}"): 1}
        ask(client, "POST", path, json=unknown)
        ask(client, "POST", path, content=f'{{"{canary(f"cut off JSON of {path}")}'.encode())
        long = canary(f"long {name} of {path}") + " word" * 20_000
        ask(client, "POST", path, json={"model": MODEL, name: long})
    message = {"role": "user", "content": canary("message")}
    system = {"role": "system", "content": canary("system message")}
    tool = {
        "type": "function",
        "function": {"name": "f", "description": canary("tool"), "parameters": {"type": "object"}},
    }
    chat = {"model": MODEL, "messages": [system, message], "max_tokens": 3}
    for more in (
        {},
        {"stream": True},
        {"tools": [tool]},
        {"user": canary("user field")},
        {"temperature": canary("mistyped temperature")},
        {"response_format": {"type": "json_schema", "json_schema": {"name": canary("schema")}}},
    ):
        ask(client, "POST", "/v1/chat/completions", json={**chat, **more})
    body = {"model": MODEL, "prompt": canary("prompt left"), "max_tokens": 900, "ignore_eos": True}
    with client.stream("POST", "/inference/stream", json=body) as answer:
        next(answer.iter_lines())
    ask(client, "GET", "/models", params={"q": canary("query string")})
    ask(client, "GET", "/audit", params={"user": "x", canary("name of a parameter"): "1"})
    ask(client, "GET", "/models", headers={"X-Webhook-Secret": canary("webhook secret")})
    ask(client, "GET", "/models", headers={"Cookie": f"session={canary('cookie')}"})
    ask(client, "POST", "/nothing", content=canary("body that nobody reads"))


def plant_credentials(platform: Platform, client: httpx.Client, canary: Canaries) -> None:
    """Use, misuse, change and lose every kind of credential."""
    url = platform.url
    password, newer = canary("password"), canary("new password")
    body = {"username": "ann", "password": password}
    client.post("/auth/users", json=body).raise_for_status()
    pair = client.post("/auth/login", json=body).raise_for_status().json()
    token = canary.keep("token", pair["token"])
    canary.keep("refresh token", pair["refresh_token"])
    change = {"current_password": password, "new_password": newer}
    for credential in (token, f"{token}x", canary.keep("forged", f"{canary('part')}.b.c")):
        with httpx.Client(base_url=url, headers=bearer(credential), timeout=60) as own:
            own.get("/auth/me")
            key = own.post("/auth/api-keys", json={"name": "x"})
            if key.status_code == 201:
                secret = canary.keep("key of a user", key.json()["api_key"])
                path = f"/auth/api-keys/{key.json()['id']}"
                rotated = own.post(f"{path}/rotate", json={"grace_seconds": 0}).json()
                canary.keep("rotated key", rotated["api_key"])
                httpx.get(f"{url}/models", headers=bearer(secret))
            own.post("/auth/password", json=change)  # ends the session, so it comes last
    for wrong in (
        {"username": "ann", "password": canary("wrong password")},
        {"username": "ann", "password": canary("password with extras"), "x": 1},
        {"username": "ann", "password": [canary("mistyped password")]},
        {"username": f"{canary('password as a name')} !", "password": "x"},
    ):
        httpx.post(f"{url}/auth/login", json=wrong)
    weak = {"username": "weak", "password": canary("short")[:9]}
    canary.keep("weak password", weak["password"])
    client.post("/auth/users", json=weak)
    for spent in (pair["refresh_token"], pair["refresh_token"], canary("made up refresh token")):
        refreshed = httpx.post(f"{url}/auth/refresh", json={"refresh_token": spent})
        if refreshed.status_code == 200:
            canary.keep("second refresh token", refreshed.json()["refresh_token"])
            canary.keep("second token", refreshed.json()["token"])
    for plane in (url, platform.management_url):
        for header in (
            f"Bearer inf_{canary(f'wrong key at {plane}')}",
            f"Basic {canary(f'wrong basic at {plane}')}",
            f"Digest {canary(f'other scheme at {plane}')}",
            canary(f"no scheme at {plane}"),
        ):
            httpx.get(f"{plane}/models", headers={"Authorization": header})
        line = f"GET /?{canary(f'garbage at {plane}')} HTTP/7.7\r\n\r\n"
        exchange(plane, line.encode())
        query = {"api_key": canary(f"key in the query at {plane}")}
        httpx.get(f"{plane}/models", params=query)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Platform, Canaries, Path]]:
    """A platform that logs all it can and has seen everything go right and wrong."""
    folder = tmp_path_factory.mktemp("canaries")
    environment = {
        "INFERNO_LOG_LEVEL": "debug",
        "INFERNO_ACCESS_LOG": "true",
        "INFERNO_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "INFERNO_API_KEY": API_KEY,
        "INFERNO_JWT_SECRET": JWT_SECRET,
        "INFERNO_REQUESTS_PER_MINUTE": "-1",
    }
    canary = Canaries()
    platform = Platform(folder / "data", environment=environment).start()
    try:
        with httpx.Client(base_url=platform.url, headers=bearer(API_KEY), timeout=120) as client:
            plant_content(client, canary)
            plant_credentials(platform, client, canary)
            for child in platform.replicas():
                child.kill()
            body = {"model": MODEL, "prompt": canary("prompt to a dead replica"), "max_tokens": 3}
            ask(client, "POST", "/inference", json=body)
            for path in ("/audit/export", "/openapi.json", "/auth/api-keys", "/auth/users"):
                name = path.strip("/").replace("/", "-")
                (folder / f"answer-{name}").write_bytes(client.get(path).content)
        # Write-ahead log and all: nothing is tidied up first.
        platform.kill()
        yield platform, canary, folder
    finally:
        platform.kill()


def test_no_secret_and_no_content_is_kept_anywhere(
    searched: tuple[Platform, Canaries, Path],
) -> None:
    _, canary, folder = searched
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"inferno.db", "data.log", "answer-audit-export", "answer-openapi.json"} <= names
    assert any("logs" in str(path) for path in files), "the replicas' logs are searched too"
    assert len(canary.planted) > 70
    found = [
        (where, path.name)
        for path in files
        for where, text in canary.planted.items()
        if text.encode() in path.read_bytes()
    ]
    assert found == []


def test_the_log_says_what_happened_all_the_same(
    searched: tuple[Platform, Canaries, Path],
) -> None:
    platform, _, _ = searched
    log = platform.log_text()
    assert re.search(r'"event": "request"', log)
    assert '"path": "/inference/stream"' in log
    assert '"status": 401' in log
    assert "Traceback" not in log


def test_generated_credentials_are_in_their_file_alone(start: Callable[..., Platform]) -> None:
    platform = start()
    make_user(platform, "ann")
    with platform.http() as client:
        client.get("/auth/me").raise_for_status()
    text = (platform.data_dir / "credentials.json").read_text()
    secret_file = platform.data_dir / "secret.key"
    assert (platform.data_dir / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert secret_file.stat().st_mode & 0o777 == 0o600
    secrets_made = [*re.findall(r'"(?:password|api_key)": "([^"]+)"', text)]
    secrets_made.append(secret_file.read_text().strip())
    assert len(secrets_made) == 3
    platform.kill()
    for path in platform.data_dir.rglob("*"):
        if path.is_file() and path.name not in ("credentials.json", "secret.key"):
            content = path.read_bytes()
            assert not [one for one in secrets_made if one.encode() in content], path.name
    shown, *logged = platform.log_text().partition('{"')
    assert secrets_made[0] in shown + "".join(logged), "shown once"
    for one in secrets_made:
        assert platform.log_text().count(one) <= 2, "in the greeting, and in its example"
