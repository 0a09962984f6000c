"""`/openapi.json` and the docs page, as a client gets them."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx

from inferno.server.operations import operations
from tests.acceptance.platform import MODEL, Platform


def document(platform: Platform) -> dict[str, Any]:
    with platform.http() as client:
        answer = client.get("/openapi.json").raise_for_status()
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def test_the_document_lists_every_operation(platform: Platform) -> None:
    described = document(platform)
    assert described["openapi"] == "3.1.0"
    listed = {
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    }
    assert listed >= {(operation.method, operation.documented_path) for operation in operations()}


def test_every_listed_operation_is_served(platform: Platform) -> None:
    """An empty object, or none, gets an answer that the operation gave, not the router."""
    with platform.http() as client:
        for path, methods in document(platform)["paths"].items():
            for method in methods:
                filled = re.sub(r"{\w+}", "no-such-thing", path)
                content = b"{}" if method == "post" else None
                answer = client.request(method, filled, content=content)
                assert "nothing at" not in answer.text, path
                assert "not allowed here" not in answer.text, path
                assert answer.status_code < 500, path


def test_the_schemas_say_what_the_server_checks(platform: Platform) -> None:
    schemas = document(platform)["components"]["schemas"]
    for name in ("InferenceRequest", "ChatRequest", "CompletionRequest", "EmbeddingRequest"):
        schema = schemas[name]
        with platform.http() as client:
            paths = {
                "InferenceRequest": "/inference",
                "ChatRequest": "/v1/chat/completions",
                "CompletionRequest": "/v1/completions",
                "EmbeddingRequest": "/v1/embeddings",
            }
            answer = client.post(paths[name], json={"model": MODEL})
        assert answer.status_code == 400
        missing = set(schema["required"]) - {"model"}
        assert any(field in answer.json()["error"]["message"] for field in missing)


def test_the_docs_page_shows_the_document(platform: Platform) -> None:
    with platform.http() as client:
        page = client.get("/docs").raise_for_status()
    assert page.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in page.text


def test_the_document_is_small_enough_to_read(platform: Platform) -> None:
    assert len(json.dumps(document(platform))) < 200_000


def test_without_credentials_it_is_closed(platform: Platform) -> None:
    assert httpx.get(platform.url + "/openapi.json").status_code == 401
