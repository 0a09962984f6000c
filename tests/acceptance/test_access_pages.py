"""What web pages of other sites, and careless or hostile requests, do not get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.acceptance.platform import MODEL, Platform

EVIL = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
MALLORY = {"username": "mallory", "password": "a-long-password-1", "role": "admin"}


def test_pages_of_other_sites_change_nothing(platform: Platform) -> None:
    with platform.http() as client:
        for path, body in (("/auth/users", MALLORY), (f"/models/{MODEL}/unload", {})):
            refused = client.post(path, json=body, headers=EVIL)
            assert refused.status_code == 403
            assert refused.json()["error"]["code"] == "AUTHORIZATION_FAILED"
        assert client.get("/auth/users/mallory").status_code == 404
        ours = client.post("/auth/login", json={}, headers={"Origin": platform.url})
        assert ours.status_code == 400


def test_without_authentication_other_names_are_not_served(
    start: Callable[..., Platform],
) -> None:
    platform = start("--no-auth")
    with httpx.Client(base_url=platform.url) as client:
        assert client.get("/models").status_code == 200
        rebound = client.get("/auth/users", headers={"Host": "evil.example:8080"})
        assert rebound.status_code == 400
        assert "Host" in rebound.json()["error"]["message"]
        assert client.post("/auth/users", json=MALLORY, headers=EVIL).status_code == 403


def test_a_key_as_a_password_opens_only_the_docs(platform: Platform) -> None:
    with httpx.Client(base_url=platform.url, auth=("anybody", platform.api_key)) as client:
        assert client.get("/docs").status_code == 200
        assert client.get("/openapi.json").status_code == 200
        assert client.get("/models").status_code == 401
        assert client.post("/auth/users", json=MALLORY).status_code == 401


def test_an_empty_key_is_called_that(platform: Platform) -> None:
    answer = httpx.get(f"{platform.url}/models", headers={"Authorization": "Bearer"})
    assert answer.status_code == 401
    assert "empty" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/completions", {"prompt": ["a"] * 2048, "n": 128}, "n"),
        ("/v1/completions", {"prompt": ["a"] * 129}, "prompt"),
    ],
)
def test_a_request_has_a_bounded_number_of_choices(
    platform: Platform, path: str, body: dict[str, Any], field: str
) -> None:
    with platform.http() as client:
        answer = client.post(path, json={"model": MODEL, **body})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


def test_grammars_are_for_those_who_may_configure(platform: Platform) -> None:
    asked = {"model": MODEL, "prompt": "Hello", "max_tokens": 3, "grammar": 'root ::= "yes"'}
    with platform.http() as admin:
        assert admin.post("/inference", json=asked).json()["choices"][0]["text"] == "yes"
        user = {"username": "grammarian", "password": "a-long-password-1"}
        assert admin.post("/auth/users", json=user).status_code == 201
        key = {"name": "k", "user": "grammarian"}
        secret = admin.post("/auth/api-keys", json=key).json()["api_key"]
        headers = {"Authorization": f"Bearer {secret}"}
        for path in ("/inference", "/inference/stream", "/v1/completions"):
            refused = admin.post(path, json=asked, headers=headers)
            assert refused.status_code == 403, path
        assert admin.delete("/auth/users/grammarian").status_code == 200


def test_a_context_beyond_what_the_model_was_made_for_is_refused(platform: Platform) -> None:
    with platform.http() as client:
        answer = client.post(f"/models/{MODEL}/load", json={"context_size": 8192})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "context_size"
