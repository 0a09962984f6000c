"""Requests to the cluster API that are meant to harm: each is answered and the platform goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.access import NO_MODEL, bearer
from tests.acceptance.platform import Platform

POOLS = "/apis/inference.networking.x-k8s.io/v1alpha1/namespaces/default/inferencepools"
SPEC = {"selector": {"a": "b"}, "targetPortNumber": 80}
DEEP = '{"a":' * 700 + "1" + "}" * 700
MERGE = "application/merge-patch+json"
YAML = "application/yaml"
APPLY = "application/apply-patch+yaml"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a platform's cluster API, in which there is a pool `a`."""
    folder = tmp_path_factory.mktemp("hostile") / "data"
    with Platform(folder, environment={**NO_MODEL}) as platform:
        url = f"{platform.management_url}/k8s"
        with httpx.Client(base_url=url, headers=bearer(platform.api_key), timeout=60) as client:
            made = client.post(POOLS, json={"metadata": {"name": "a"}, "spec": SPEC})
            assert made.status_code == 201, made.text
            yield client
            assert client.get(POOLS + "/a").status_code == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (YAML, "[" * 1_000_000),
        (YAML, "{a: " * 500_000),
        (YAML, "- a\n" * 500_000),
        ("application/json", '{"metadata":{"name":"c"},"spec":' + DEEP + "}"),
        ("application/json", '{"metadata":"c"}'),
    ],
)
def test_bodies_of_new_resources(client: httpx.Client, kind: str, body: str) -> None:
    answer = client.post(POOLS, content=body, headers={"content-type": kind})
    assert answer.status_code == 400, answer.text
    assert answer.json()["kind"] == "Status"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (MERGE, '{"spec":' + DEEP + "}"),
        ("application/strategic-merge-patch+json", '{"spec":' + DEEP + "}"),
        ("application/json-patch+json", '[{"op":"add","path":"/spec","value":' + DEEP + "}]"),
        (APPLY, '{"spec":' + DEEP + "}"),
        (APPLY, "[" * 1_000_000),
        (MERGE, '{"metadata":{"managedFields":[{"manager":"a","fieldsV1":{"k:{":{}}}]}}'),
        (MERGE, '{"metadata":{"finalizers":7,"ownerReferences":"a"}}'),
        (MERGE, '{"metadata":{"finalizers":[' + ",".join(['"a/b"'] * 101) + "]}}"),
    ],
)
def test_patches(client: httpx.Client, kind: str, body: str) -> None:
    headers = {"content-type": kind}
    answer = client.patch(f"{POOLS}/a?fieldManager=me", content=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["kind"] == "Status"


@pytest.mark.parametrize(
    "query",
    [
        {"labelSelector": "!" + " " * 16_000 + "("},
        {"labelSelector": "a>" + "9" * 5_000},
        {"fieldSelector": "metadata.name" + "\t" * 16_000 + "\n"},
    ],
)
def test_selectors(client: httpx.Client, query: dict[str, Any]) -> None:
    answer = client.get(POOLS, params=query)
    assert answer.status_code == 400, answer.text
