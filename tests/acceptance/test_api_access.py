"""Who may call, on every path: nobody without a key but for `/health`."""

from __future__ import annotations

import re
import subprocess

import httpx
import pytest

from tests.acceptance.platform import MODEL, Platform

CLOSED = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/models"),
    ("GET", f"/models/{MODEL}"),
    ("POST", f"/models/{MODEL}/load"),
    ("POST", f"/models/{MODEL}/unload"),
    ("POST", "/inference"),
    ("POST", "/inference/stream"),
    ("POST", "/embeddings"),
    ("POST", "/v1/inference"),
    ("POST", f"/v1/models/{MODEL}/unload"),
    ("GET", "/v1/models"),
    ("GET", f"/v1/models/{MODEL}"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
]
OPENAI = re.compile(r"/v1/(chat|completions|embeddings|models)(?!.*/(un)?load$)")

WRONG = [
    None,
    "",
    "Bearer",
    "Bearer wrong",
    "Bearer inf_" + "x" * 43,
    "Basic Zm9vOmJhcg==",
    "Digest username=x",
    "Token {key}",
    "{key}",
    "Bearer {key}x",
    "Bearer {key} {key}",
    "Bearer " + "x" * 20_000,
]


def check_refusal(answer: httpx.Response, path: str) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"].startswith("Bearer")
    body = answer.json()
    if OPENAI.match(path):
        assert body["error"]["type"] == "authentication_error"
        assert body["error"]["code"] == "invalid_api_key"
    else:
        assert body["error"]["code"] == "AUTHENTICATION_FAILED"
        assert body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_every_call_needs_credentials(platform: Platform, method: str, path: str) -> None:
    check_refusal(httpx.request(method, platform.url + path), path)


@pytest.mark.parametrize("given", WRONG, ids=lambda given: str(given)[:30])
def test_wrong_credentials_are_refused(platform: Platform, given: str | None) -> None:
    path = "/v1/models" if given and len(given) % 2 else "/models"
    headers = {}
    if given is not None:
        headers["Authorization"] = given.format(key=platform.api_key)
    check_refusal(httpx.get(platform.url + path, headers=headers), path)


def test_the_key_is_never_repeated(platform: Platform) -> None:
    headers = {"Authorization": "Bearer inf_a-secret-that-is-wrong"}
    answer = httpx.get(platform.url + "/models", headers=headers)
    assert "a-secret-that-is-wrong" not in answer.text
    logged = [line for line in platform.log_text().splitlines() if line.startswith("{")]
    assert logged
    assert not [line for line in logged if platform.api_key in line]
    assert not [line for line in logged if "a-secret-that-is-wrong" in line]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_in_any_case(platform: Platform, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {platform.api_key}"}
    assert httpx.get(platform.url + "/models", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_browsers_read_the_docs_with_the_key_as_password(platform: Platform, path: str) -> None:
    answer = httpx.get(platform.url + path, auth=("anybody", platform.api_key))
    assert answer.status_code == 200
    assert httpx.get(platform.url + path, auth=("anybody", "wrong")).status_code == 401


def test_the_docs_ask_browsers_for_a_password(platform: Platform) -> None:
    answer = httpx.get(platform.url + "/docs")
    schemes = [value.split()[0] for value in answer.headers.get_list("www-authenticate")]
    assert sorted(schemes) == ["Basic", "Bearer"]


def test_the_docs_page_loads_nothing_from_elsewhere(platform: Platform) -> None:
    with platform.http() as client:
        page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page.text)


def test_curl_without_a_key_is_told_so(platform: Platform) -> None:
    command = ["curl", "-s", "-i", "--max-time", "30", f"{platform.url}/models"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.startswith("HTTP/1.1 401")
    assert "AUTHENTICATION_FAILED" in shown


def test_without_authentication_nobody_needs_a_key(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = tmp_path_factory.mktemp("open") / "data"
    with Platform(data, "--no-auth") as running:
        assert httpx.get(running.url + "/models").status_code == 200
        headers = {"Authorization": "Bearer whatever"}
        assert httpx.get(running.url + "/models", headers=headers).status_code == 200
