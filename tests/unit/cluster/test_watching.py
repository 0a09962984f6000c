"""Watches over a store that keeps little, and answers in other forms than the object."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from inferno.cluster.app import ClusterApi
from inferno.cluster.kinds import catalog
from inferno.cluster.status import render
from inferno.cluster.writing import ensure_namespace
from inferno.core.errors import NotFound, PermissionDenied
from inferno.core.tenancy import ANONYMOUS, UNLIMITED
from inferno.limits.base import Admission
from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from inferno.tenancy.access import Visit
from inferno.web.door import Door

EVENTS = "/k8s/api/v1/namespaces/default/events"
HISTORY = 20


class NoLogs:
    """A runtime without replicas."""

    async def log(
        self, pod: str, *, tail: int | None = None, follow: bool = False
    ) -> AsyncIterator[str]:
        raise NotFound(f"There is no log of '{pod}'.")
        yield ""


class Trail:
    """Keeps what was refused, and what was changed."""

    def __init__(self) -> None:
        self.errors: list[PermissionDenied] = []
        self.changes: list[tuple[str, str]] = []

    def note_change(self, scope: Scope, visit: Visit, action: str, target: str) -> None:
        self.changes.append((action, target))

    def note_denial(self, scope: Scope, visit: Visit, error: PermissionDenied) -> None:
        self.errors.append(error)


def let_in(app: ASGIApp) -> ASGIApp:
    """Let everybody in, as `--no-auth` does."""

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["visit"] = Visit(ANONYMOUS, "127.0.0.1", Admission("", UNLIMITED, None))
        await app(scope, receive, send)

    return Door(behind, render=render, access_log=False)


@pytest.fixture
def trail() -> Trail:
    return Trail()


@pytest.fixture
async def client(trail: Trail) -> AsyncIterator[httpx.AsyncClient]:
    database = await Database.open("sqlite+aiosqlite:///:memory:")
    store = await SqlResourceStore.open(database, history=HISTORY)
    await ensure_namespace(store, "default")
    api = ClusterApi(store, catalog("here"), NoLogs(), trail, version="0", stopping=asyncio.Event())
    transport = httpx.ASGITransport(let_in(api))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        yield client
    await store.close()
    await database.close()


async def tell(client: httpx.AsyncClient, name: str, **more: Any) -> None:
    body = {"metadata": {"name": name}, "involvedObject": {"name": "x"}, **more}
    (await client.post(EVENTS, json=body)).raise_for_status()


async def watched(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(EVENTS, params={"watch": "1", "timeoutSeconds": 1, **query})
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_a_version_that_is_no_longer_kept(client: httpx.AsyncClient) -> None:
    await tell(client, "first")
    version = (await client.get(EVENTS)).json()["metadata"]["resourceVersion"]
    for number in range(HISTORY * 2):
        await tell(client, f"e{number}")
    (event,) = await watched(client, resourceVersion=version)
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    newer = (await client.get(EVENTS)).json()["metadata"]["resourceVersion"]
    assert await watched(client, resourceVersion=newer) == []


async def test_tables_have_their_headings_once(client: httpx.AsyncClient) -> None:
    await tell(client, "a", reason="Told")
    await tell(client, "b", reason="Told")
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    query = {"watch": "1", "timeoutSeconds": "1"}
    answer = await client.get(EVENTS, params=query, headers=table)
    first, second = (json.loads(line)["object"] for line in answer.text.splitlines())
    assert [column["name"] for column in first["columnDefinitions"]][:2] == ["Last Seen", "Type"]
    assert second["columnDefinitions"] == []
    assert first["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    listed = (await client.get(EVENTS, headers=table, params={"includeObject": "Object"})).json()
    assert listed["rows"][0]["object"]["reason"] == "Told"


async def test_metadata_alone(client: httpx.AsyncClient) -> None:
    await tell(client, "a", message="long")
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    (item,) = (await client.get(EVENTS, headers=accept)).json()["items"]
    assert item["kind"] == "PartialObjectMetadata"
    assert "message" not in item


async def test_lists_of_versions_that_are_not_there(client: httpx.AsyncClient) -> None:
    answer = await client.get(EVENTS, params={"resourceVersion": "999"})
    assert (answer.status_code, answer.json()["reason"]) == (504, "Timeout")
    exact = {"resourceVersion": "1", "resourceVersionMatch": "Exact"}
    await tell(client, "a")
    assert (await client.get(EVENTS, params=exact)).status_code == 410


async def test_pages_with_selectors(client: httpx.AsyncClient) -> None:
    for number in range(12):
        await tell(client, f"e{number:02}", reason="Odd" if number % 2 else "Even")
    seen, token = [], ""
    for _ in range(10):
        query = {"fieldSelector": "reason=Odd", "limit": "4", "continue": token}
        body = (await client.get(EVENTS, params=query)).json()
        seen += [one["metadata"]["name"] for one in body["items"]]
        token = body["metadata"].get("continue", "")
        if not token:
            break
    assert seen == [f"e{number:02}" for number in range(1, 12, 2)]


async def test_the_log_of_a_pod_that_is_not_there(client: httpx.AsyncClient) -> None:
    answer = await client.get("/k8s/api/v1/namespaces/default/pods/x/log")
    assert answer.json()["message"] == 'pods "x" not found'


async def test_generated_names_and_dry_runs(client: httpx.AsyncClient) -> None:
    body = {"metadata": {"generateName": "told-"}, "involvedObject": {"name": "x"}}
    tried = await client.post(EVENTS, json=body, params={"dryRun": "All"})
    assert tried.status_code == 201
    assert tried.json()["metadata"]["name"].startswith("told-")
    assert (await client.get(EVENTS)).json()["items"] == []


async def test_discovery_in_its_old_form(client: httpx.AsyncClient) -> None:
    assert (await client.get("/k8s/api")).json()["versions"] == ["v1"]
    groups = {group["name"] for group in (await client.get("/k8s/apis")).json()["groups"]}
    assert {"apps", "inferno.dev", "serving.kserve.io"} <= groups
    for group in groups:
        found = (await client.get(f"/k8s/apis/{group}")).json()
        for version in found["versions"]:
            listed = (await client.get(f"/k8s/apis/{version['groupVersion']}")).json()
            assert listed["resources"]
    resources = {one["name"] for one in (await client.get("/k8s/api/v1")).json()["resources"]}
    assert {"pods", "pods/log", "pods/status", "namespaces", "secrets"} <= resources
    assert (await client.get("/k8s/apis/none")).status_code == 404
    assert (await client.get("/k8s/openapi/v3")).json()["paths"]["api/v1"]["serverRelativeURL"]
    assert (await client.get("/k8s/openapi/v2")).json()["swagger"] == "2.0"
    assert (await client.get("/k8s/livez")).text == "ok"


async def test_changes_are_told_to_the_audit_trail(client: httpx.AsyncClient, trail: Trail) -> None:
    spaces = "/k8s/api/v1/namespaces"
    (await client.post(spaces, json={"metadata": {"name": "team"}})).raise_for_status()
    await client.post(spaces, json={"metadata": {"name": "dry"}}, params={"dryRun": "All"})
    await client.post(spaces, json={"metadata": {"name": "team"}})
    await client.get(spaces)
    await tell(client, "quiet")
    secret = {"metadata": {"name": "key"}, "type": 5}
    await client.post("/k8s/api/v1/namespaces/team/secrets", json=secret)
    (await client.delete(f"{spaces}/team")).raise_for_status()
    assert trail.changes == [
        ("cluster.create", "namespaces/team"),
        ("cluster.delete", "namespaces/team"),
    ]
