"""What holds when processes die, writers race, and there is a lot: watches, versions, pages."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.commands import inferno
from tests.acceptance.kubernetes import GROUP, pool
from tests.acceptance.platform import Platform

PATH = f"/k8s/apis/{GROUP}/v1alpha1/namespaces/default/inferencepools"
MERGE = {"Content-Type": "application/merge-patch+json"}


def http(platform: Platform, api_key: str | None = None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {api_key or platform.api_key}"}
    return httpx.Client(base_url=platform.management_url, headers=headers, timeout=60)


def events(client: httpx.Client, **parameters: Any) -> Iterator[dict[str, Any]]:
    query = {"watch": "true", "timeoutSeconds": 30, **parameters}
    with client.stream("GET", PATH, params=query) as response:
        for line in response.iter_lines():
            yield json.loads(line)


def test_what_was_accepted_survives_a_kill_and_watches_go_on(
    start: Callable[..., Platform],
) -> None:
    platform = start()
    with http(platform) as client:
        client.post(PATH, json=pool("before")).raise_for_status()
        version = client.get(PATH).json()["metadata"]["resourceVersion"]
        names = [f"p{i:02}" for i in range(20)]
        for name in names:
            assert client.post(PATH, json=pool(name)).status_code == 201
    platform.kill()
    (platform.data_dir / "run.json").unlink()
    platform.start()
    with http(platform) as client:
        listed = client.get(PATH).json()["items"]
        assert [one["metadata"]["name"] for one in listed] == ["before", *names]
        added: list[str] = []
        last = 0
        for event in events(client, resourceVersion=version):
            metadata = event["object"]["metadata"]
            assert int(metadata["resourceVersion"]) > last
            last = int(metadata["resourceVersion"])
            if event["type"] == "ADDED":
                added.append(metadata["name"])
            if len(added) == len(names):
                break
        assert added == names


def test_two_writers_race(platform: Platform) -> None:
    """Of those who write from the same state, one wins; none is lost when all try again."""
    with http(platform) as client:
        client.post(PATH, json=pool("raced", annotations={"count": "0"})).raise_for_status()
        try:
            with ThreadPoolExecutor(4) as threads:
                conflicts = sum(threads.map(lambda _: _count_up(client, 10), range(4)))
            stored = client.get(f"{PATH}/raced").json()
            assert stored["metadata"]["annotations"]["count"] == "40"
            assert conflicts > 0
        finally:
            client.delete(f"{PATH}/raced").raise_for_status()


def _count_up(client: httpx.Client, times: int) -> int:
    """Add to a number, each time from what is stored; return how often somebody was faster."""
    conflicts = 0
    for _ in range(times):
        while True:
            found = client.get(f"{PATH}/raced").json()
            annotations = found["metadata"]["annotations"]
            annotations["count"] = str(int(annotations["count"]) + 1)
            answer = client.put(f"{PATH}/raced", json=found)
            if answer.status_code == 200:
                break
            assert answer.status_code == 409, answer.text
            assert answer.json()["reason"] == "Conflict"
            conflicts += 1
    return conflicts


def test_patches_without_a_version_do_not_conflict(platform: Platform) -> None:
    with http(platform) as client:
        client.post(PATH, json=pool("patched")).raise_for_status()
        try:

            def label(number: int) -> int:
                body = {"metadata": {"labels": {f"l{number}": "x"}}}
                return client.patch(f"{PATH}/patched", json=body, headers=MERGE).status_code

            with ThreadPoolExecutor(8) as threads:
                assert set(threads.map(label, range(24))) == {200}
            assert len(client.get(f"{PATH}/patched").json()["metadata"]["labels"]) == 24
        finally:
            client.delete(f"{PATH}/patched").raise_for_status()


def test_a_selecting_watch_sees_what_comes_and_goes(platform: Platform) -> None:
    with http(platform) as client:
        version = client.get(PATH).json()["metadata"]["resourceVersion"]
        client.post(PATH, json=pool("w-other")).raise_for_status()
        client.post(PATH, json=pool("w", labels={"a": "no"})).raise_for_status()
        for step, value in enumerate(("yes", "yes", "no")):
            body = {"metadata": {"labels": {"a": value}, "annotations": {"x": str(step)}}}
            client.patch(f"{PATH}/w", json=body, headers=MERGE).raise_for_status()
        body = {"metadata": {"labels": {"a": "yes"}}}
        client.patch(f"{PATH}/w", json=body, headers=MERGE).raise_for_status()
        client.delete(f"{PATH}/w").raise_for_status()
        client.delete(f"{PATH}/w-other").raise_for_status()
        seen = []
        for event in events(client, resourceVersion=version, labelSelector="a=yes"):
            seen.append(event["type"])
            if seen.count("DELETED") == 2:
                break
        assert [kind for kind in seen if kind != "MODIFIED"] == [
            "ADDED", "DELETED", "ADDED", "DELETED",
        ]  # fmt: skip


def test_watches_end_with_a_bookmark(platform: Platform) -> None:
    with http(platform) as client:
        seen = list(
            events(client, resourceVersion="0", timeoutSeconds=1, allowWatchBookmarks="true")
        )
        assert seen[-1]["type"] == "BOOKMARK"
        assert int(seen[-1]["object"]["metadata"]["resourceVersion"]) > 0
        first = next(
            event
            for event in events(
                client,
                sendInitialEvents="true",
                resourceVersionMatch="NotOlderThan",
                allowWatchBookmarks="true",
                timeoutSeconds=1,
            )
            if event["type"] == "BOOKMARK"
        )
        assert first["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_platform_that_stops_lets_watches_go(start: Callable[..., Platform]) -> None:
    platform = start()
    with http(platform) as client, client.stream("GET", PATH, params={"watch": "true"}) as stream:
        assert stream.status_code == 200
        assert platform.stop(timeout=20) == 0


@pytest.fixture
def in_memory() -> Iterator[Platform]:
    """A platform whose disk is memory: thousands of writes are not what a disk is tested with."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        environment = {"INFERNO_BUNDLED_MODEL": "false"}
        with Platform(Path(folder) / "data", environment=environment) as platform:
            yield platform


async def test_five_thousand_objects(in_memory: Platform) -> None:
    """They are created, listed in pages and as a whole, watched, and deleted."""
    platform = in_memory
    namespace = "/k8s/api/v1/namespaces/default/events"
    count, page = 5000, 500
    headers = {"Authorization": f"Bearer {platform.api_key}"}
    async with httpx.AsyncClient(
        base_url=platform.management_url, headers=headers, timeout=60
    ) as client:
        version = (await client.get(namespace)).json()["metadata"]["resourceVersion"]
        gate = asyncio.Semaphore(16)

        async def create(number: int) -> None:
            body = {
                "metadata": {"name": f"e{number:04}", "labels": {"odd": str(number % 2)}},
                "involvedObject": {"kind": "Pod", "name": "p"},
            }
            async with gate:
                (await client.post(namespace, json=body)).raise_for_status()

        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                tasks.create_task(create(number))
        listed = (await client.get(namespace)).json()["items"]
        names = [f"e{number:04}" for number in range(count)]
        assert [one["metadata"]["name"] for one in listed] == names
        odd = (await client.get(namespace, params={"labelSelector": "odd=1"})).json()["items"]
        assert len(odd) == count // 2
        paged: list[str] = []
        token = ""
        while True:
            answer = await client.get(namespace, params={"limit": page, "continue": token})
            body = answer.json()
            paged += [one["metadata"]["name"] for one in body["items"]]
            token = body["metadata"].get("continue", "")
            if not token:
                break
            assert body["metadata"]["remainingItemCount"] == count - len(paged)
        assert paged == names
        watched: set[str] = set()
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "60"}
        async with client.stream("GET", namespace, params=query) as stream:
            async for line in stream.aiter_lines():
                event = json.loads(line)
                assert event["type"] == "ADDED", event
                watched.add(event["object"]["metadata"]["name"])
                if len(watched) == count:
                    break
        selector = {"labelSelector": "odd=1"}
        (await client.delete(namespace, params=selector)).raise_for_status()
        assert len((await client.get(namespace)).json()["items"]) == count // 2


@pytest.fixture(scope="module")
def tenants(platform: Platform) -> dict[str, str]:
    """Keys of users of two tenants, by role."""
    keys = {}
    where = ("--data-dir", str(platform.data_dir), "--json")
    for role in ("user", "service", "guest"):
        name = f"acme-{role}"
        who = ("--username", name, "--role", role, "--tenant", "acme")
        inferno("security", "user", "create", *who, "--generate-password", *where)
        made = inferno("security", "api-key", "create", "--user", name, "--name", "k", *where)
        keys[role] = json.loads(made)["api_key"]
    return keys


SERVERS = "/k8s/apis/inferno.dev/v1alpha1/namespaces/acme/modelservers"


def test_tenants_keep_to_their_namespace(platform: Platform, tenants: dict[str, str]) -> None:
    own = PATH.replace("/default/", "/acme/")
    body = pool("theirs")
    with http(platform, tenants["service"]) as service, http(platform, tenants["user"]) as user:
        assert service.post(own, json=body).status_code == 201
        assert user.get(f"{own}/theirs").status_code == 200
        for client, method, path, sent in (
            (user, "POST", own, pool("more")),
            (user, "DELETE", f"{own}/theirs", None),
            (user, "GET", "/k8s/api/v1/namespaces/acme/secrets", None),
            (service, "POST", PATH, body),
            (service, "GET", PATH, None),
            (service, "GET", f"{PATH}/anything", None),
            (service, "GET", "/k8s/api/v1/pods", None),
            (service, "GET", "/k8s/api/v1/namespaces/default", None),
            (service, "POST", "/k8s/api/v1/namespaces", {"metadata": {"name": "mine"}}),
            (service, "POST", SERVERS, {"metadata": {"name": "own"}, "spec": {"address": "x"}}),
            (service, "PUT", f"{own}/theirs/status", body),
            (service, "PUT", "/k8s/api/v1/namespaces/acme/pods/any/status", body),
        ):
            answer = client.request(method, path, json=sent)
            assert answer.status_code == 403, (method, path, answer.text)
            assert answer.json()["reason"] == "Forbidden"
            assert "cannot" in answer.json()["message"]
        spaces = user.get("/k8s/api/v1/namespaces").json()["items"]
        assert [one["metadata"]["name"] for one in spaces] == ["acme"]
        file = {"predictor": {"model": {"storageUri": "file:///etc/passwd"}}}
        services = "/k8s/apis/serving.kserve.io/v1beta1/namespaces/acme/inferenceservices"
        refused = service.post(services, json={"metadata": {"name": "f"}, "spec": file})
        assert refused.status_code == 403
    with http(platform) as admin:
        assert admin.delete("/k8s/api/v1/namespaces/acme").status_code == 200


def test_null_is_as_good_as_nothing(platform: Platform) -> None:
    """Clients in Go say null for what they have not: kubectl before 1.32, for one."""
    body = pool("nulls", creationTimestamp=None, labels=None, deletionTimestamp=None)
    with http(platform) as client:
        made = client.post(PATH, json=body)
        assert made.status_code == 201, made.text
        assert made.json()["metadata"]["creationTimestamp"]
        assert client.put(f"{PATH}/nulls", json=body).status_code == 200
        client.delete(f"{PATH}/nulls").raise_for_status()


def test_hostile_requests_are_refused_as_status(platform: Platform) -> None:
    deep = b'{"metadata":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001
    with http(platform) as client:
        client.post(PATH, json=pool("victim")).raise_for_status()
        copies: list[dict[str, Any]] = [
            {"op": "add", "path": "/metadata/annotations", "value": {"a": "x" * 1000}}
        ]
        copies += [
            {"op": "copy", "from": "/metadata/annotations", "path": f"/metadata/annotations/c{i}"}
            for i in range(40)
        ]
        patch = {"Content-Type": "application/json-patch+json"}
        deep_fields: dict[str, Any] = {}
        for _ in range(900):
            deep_fields = {"f:a": deep_fields}
        entry = {"manager": "m", "operation": "Update", "fieldsV1": deep_fields}
        bomb = b"a: &a [x, x]\nb: &b [*a, *a]\nmetadata: {name: *b}"
        answers = [
            client.post(PATH, content=deep),
            client.post(PATH, content=b"{"),
            client.post(PATH, content=b"[]"),
            client.post(PATH, content=b"null"),
            client.post(PATH, content=b'"\xff"'),
            client.post(PATH, content=bomb, headers={"Content-Type": "application/yaml"}),
            client.post(PATH, content=b"x" * (3 * 1024 * 1024 + 1)),
            client.post(PATH, content=b"x", headers={"Content-Type": "text/plain"}),
            client.post(
                PATH,
                content=b"k8s\x00\xff\xff",
                headers={"Content-Type": "application/vnd.kubernetes.protobuf"},
            ),
            client.patch(f"{PATH}/victim", json=copies, headers=patch),
            client.patch(f"{PATH}/victim", json={}, headers=patch),
            client.patch(f"{PATH}/victim", json=[1, None], headers=patch),
            client.patch(f"{PATH}/victim", json={"metadata": {"name": "x"}}, headers=MERGE),
            client.patch(f"{PATH}/victim", json={"spec": deep_fields}, headers=MERGE),
            client.patch(
                f"{PATH}/victim", json={"metadata": {"managedFields": [entry]}}, headers=MERGE
            ),
            client.get(PATH, params={"labelSelector": "," * 16_000}),
            client.get(PATH, params={"labelSelector": " " * 16_000 + "!"}),
            client.get(PATH, params={"continue": "!"}),
            client.get(PATH, params={"limit": "-1"}),
            client.get(PATH, params={"labelSelector": "a in ("}),
            client.get(PATH, params={"watch": "perhaps"}),
            client.get("/k8s/api/v1/namespaces/..%2F..%2Fx/pods/y"),
            client.get("/k8s/apis/x/y/z"),
            client.delete(PATH + "/victim", params={"propagationPolicy": "Whatever"}),
            client.put(f"{PATH}/missing", json=pool("missing")),
        ]
        client.delete(f"{PATH}/victim").raise_for_status()
        for answer in answers:
            body = answer.json()
            shown = f"{answer.request.method} {answer.request.url} {answer.text[:300]}"
            assert 400 <= answer.status_code < 500, shown
            assert body["kind"] == "Status", shown
            assert body["status"] == "Failure"
            assert body["code"] == answer.status_code
            assert body["reason"]
