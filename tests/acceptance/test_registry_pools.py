"""Pools that take their endpoints from the registry, and the quotas that entries set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.access import NO_MODEL, UNLIMITED, as_caller, bearer, make_key, make_user
from tests.acceptance.model_servers import Cluster, ModelServer, model_servers, within
from tests.acceptance.platform import Platform

QUERY = "inferno.dev/registry-query"
OWNERS = "inferno.dev/registry-owners"
SECRET = "inferno.dev/registry-api-key-secret"
ENTRY = "inferno.dev/registry-entry"
MESSAGES = [{"role": "user", "content": "Hello"}]
METADATA = "inference_server_metadata"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform without models of its own."""
    environment = {**NO_MODEL, **UNLIMITED, "INFERNO_PROBE_INTERVAL": "0.3"}
    folder = tmp_path_factory.mktemp("front") / "data"
    with Platform(folder, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def keys(front: Platform) -> dict[str, str]:
    """Keys of a tenant that may write models, of one that may not, and of another tenant."""
    made = {"admins": front.api_key}
    for name, tenant, role in (
        ("writers", "team", "service"),
        ("users", "team", "user"),
        ("strangers", "elsewhere", "service"),
    ):
        make_user(front, name, role=role, tenant=tenant)
        made[name] = make_key(front, name).secret
    return made


def register(
    front: Platform, server: ModelServer, tag: str, key: str | None = None, **entry: Any
) -> str:
    """Register a server as somebody, the admin by default, and return the entry's id."""
    given = {
        "inference_server_name": server.name,
        "inference_server_tags": [tag],
        "inference_server_public_url": f"http://{server.address}/v1",
        **entry,
    }
    with as_caller(front, key or front.api_key, management=True) as client:
        answer = client.post("/inference_server", json=given)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["id"])


def pool(front: Platform, name: str, namespace: str = "default", **annotations: str) -> Cluster:
    """Create a pool over servers with the tag of its name, and a model of that name."""
    cluster = Cluster(front, namespace=namespace)
    query = {QUERY: f'{{"inference_server_tags": "{name}"}}', **annotations}
    spec = {"selector": {"pool": name}, "targetPortNumber": 8000}
    cluster.create("InferencePool", name, spec, metadata={"annotations": query})
    cluster.model(name, name, targets={"base": 1})
    return cluster


def ask(front: Platform, model: str, key: str | None = None, **headers: str) -> httpx.Response:
    body = {"model": model, "messages": MESSAGES}
    with as_caller(front, key or front.api_key) as client:
        return client.post("/v1/chat/completions", json=body, headers=headers)


def servers_of(front: Platform, pool: str, namespace: str = "default") -> list[dict[str, Any]]:
    """Return the ModelServers of a pool that stand for entries."""
    path = f"/k8s/apis/inferno.dev/v1alpha1/namespaces/{namespace}/modelservers"
    with as_caller(front, front.api_key, management=True) as client:
        listed = client.get(path).raise_for_status().json()["items"]
    mine = [one for one in listed if one["metadata"].get("labels") == {"pool": pool}]
    return [one for one in mine if ENTRY in one["metadata"].get("annotations", {})]


def condition(cluster: Cluster, name: str) -> tuple[str, str]:
    """Return what a pool says of its query."""
    return cluster.condition("InferencePool", name, "RegistryQuery")


def quota(front: Platform, method: str, path: str, key: str | None = None, **options: Any) -> Any:
    """Call the quota API and return status and data, or the error."""
    with as_caller(front, key or front.api_key, management=True) as client:
        answer = client.request(method, f"/quota/{path}", **options)
    shown = answer.json()
    assert shown["success"] is (answer.status_code == 200)
    return answer.status_code, shown.get("data", shown)


def answering(front: Platform, model: str) -> set[str]:
    """Return the names of the servers that answer for a model."""
    body = {"model": model, "messages": MESSAGES}
    with front.http() as client:
        answers = [client.post("/v1/chat/completions", json=body) for _ in range(4)]
    return {
        answer.json()["choices"][0]["message"]["content"].split()[0]
        for answer in answers
        if answer.status_code == 200
    }


@pytest.fixture(scope="module")
def brief(front: Platform) -> Iterator[Cluster]:
    """A pool over a server that was registered for as short as can be, and has served."""
    with model_servers(ModelServer("brief")) as (server,):
        id_ = register(front, server, "brief", ttl_seconds=5)
        cluster = pool(front, "brief")

        def serves_while_it_says_so() -> bool:
            with as_caller(front, front.api_key, management=True) as client:
                client.post(f"/inference_server/{id_}/heartbeat")
            return answering(front, "brief") == {"brief"}

        within(serves_while_it_says_so)
        yield cluster


@pytest.mark.usefixtures("brief")
def test_entries_that_match_serve_until_they_do_not(front: Platform) -> None:
    first, second = ModelServer("first"), ModelServer("second")
    with model_servers(first, second), as_caller(front, front.api_key, management=True) as admin:
        cluster = pool(front, "lasting")
        within(lambda: condition(cluster, "lasting") == ("True", "NothingFound"))
        assert ask(front, "lasting").status_code == 503
        id_ = register(front, first, "lasting")
        other = register(front, second, "lasting")
        within(lambda: answering(front, "lasting") == {"first", "second"})
        away = {"$set": {"inference_server_tags": ["away"]}}
        assert admin.put(f"/inference_server/{id_}", json=away).status_code == 200
        within(lambda: answering(front, "lasting") == {"second"})
        assert condition(cluster, "lasting") == ("True", "Found")
        assert admin.delete(f"/inference_server/{other}").status_code == 200
        within(lambda: ask(front, "lasting").status_code == 503)


def test_only_those_who_are_trusted_serve(front: Platform, keys: dict[str, str]) -> None:
    """A pool takes what admins registered, and nobody else's unless an admin says so."""
    with model_servers(*(ModelServer(name) for name in keys)) as servers:
        for server in servers:
            register(front, server, "trusted", keys[server.name])
        Cluster(front).create("Namespace", "team")
        cluster = pool(front, "trusted", namespace="team")
        within(lambda: ports(front) == {servers[0].port})
        within(lambda: ask(front, "trusted", keys["writers"]).status_code == 200)
        path = f"{front.management_url}/k8s{cluster._path('InferencePool')}/trusted"
        assert annotate(path, front.api_key, {OWNERS: "tenant"}) == 200
        within(lambda: ports(front) == {servers[0].port, servers[1].port})
        assert annotate(path, front.api_key, {OWNERS: "anyone"}) == 200
        within(lambda: ports(front) == {one.port for one in servers})
        writer = keys["writers"]
        assert annotate(path, writer, {"note": "mine"}) == 200
        assert annotate(path, writer, {OWNERS: "admins"}) == 403
        assert annotate(path, writer, {QUERY: "{}"}) == 403
        assert annotate(path, writer, {QUERY: None, OWNERS: None}) == 403
        assert annotate(path, front.api_key, {QUERY: None, OWNERS: None}) == 200
        within(lambda: ports(front) == set())
        within(lambda: condition(cluster, "trusted") == ("", ""))


def annotate(path: str, key: str, annotations: dict[str, str | None]) -> int:
    """Change a resource's annotations as somebody, and return the status."""
    change = {"metadata": {"annotations": annotations}}
    headers = {**bearer(key), "Content-Type": "application/merge-patch+json"}
    return httpx.patch(path, json=change, headers=headers, timeout=60).status_code


def ports(front: Platform) -> set[int]:
    """Return where the entries are that the team's pool took."""
    return {one["spec"]["port"] for one in servers_of(front, "trusted", "team")}


def test_what_is_no_query_is_refused_and_what_is_no_endpoint_is_named(front: Platform) -> None:
    cluster = Cluster(front)
    for said, named in (
        ({QUERY: '{"a": {"$foo": 1}}'}, "$foo"),
        ({QUERY: '{"$where": "1"}'}, "$where"),
        ({QUERY: "[" * 5000}, QUERY),
        ({QUERY: "1"}, "JSON object"),
        ({OWNERS: "admins"}, QUERY),
        ({QUERY: "{}", OWNERS: "all"}, OWNERS),
        ({QUERY: "{}", SECRET: "name"}, "NAME/KEY"),
        ({QUERY: "{}", SECRET: "name/key", OWNERS: "anyone"}, "shown the key"),
    ):
        answer = cluster._send(
            "POST",
            cluster._path("InferencePool"),
            json={
                "apiVersion": cluster.GROUPS["InferencePool"],
                "kind": "InferencePool",
                "metadata": {"name": "wrong", "annotations": said},
                "spec": {"selector": {"a": "b"}, "targetPortNumber": 1},
            },
        )
        assert answer.status_code == 422, answer.text
        assert named in answer.json()["message"]
        assert answer.json()["details"]["causes"][0]["field"].startswith("metadata.annotations[")
    with model_servers(ModelServer("usable")) as (server,):
        register(
            front,
            server,
            "mixed",
            inference_server_urls={"grpc": "grpc://x", "rest": f"http://{server.address}"},
        )
        for name, url in (
            ("path", "https://example.com/api/v1"),
            ("scheme", "grpc://example.com"),
            ("cloud", "http://169.254.169.254"),
        ):
            entry = ModelServer(name)
            entry.stop()
            register(front, entry, "mixed", inference_server_public_url=url)
        pool(front, "mixed")
        within(lambda: condition(cluster, "mixed") == ("True", "EntriesSkipped"))
        within(lambda: answering(front, "mixed") == {"usable"})
        within(lambda: skipped_in(cluster))
        (told,) = skipped_in(cluster)
        assert "endpoints: 3." in told
        for named in ("/api/v1", "grpc://example.com", "169.254.169.254"):
            assert named in told
        cluster.delete("InferencePool", "mixed")


def skipped_in(cluster: Cluster) -> list[str]:
    """Return what events say of entries that cannot be endpoints."""
    listed = cluster._send("GET", "/api/v1/namespaces/default/events").json()["items"]
    return [one["message"] for one in listed if one["reason"] == "EntriesSkipped"]


def test_quotas_of_an_entry_are_kept_and_reset(front: Platform) -> None:
    """A session has had its fill at every server, another one has not, and reset begins anew."""
    with model_servers(ModelServer("small")) as (server,):
        limits: Any = {"requests_per_session_id": 2, "requests_per_block_id": 5, "of_ours": "kept"}
        metadata: Any = {METADATA: {"quota_management_data": limits}}
        register(front, server, "small", **metadata)
        pool(front, "small")
        within(lambda: ask(front, "small").status_code == 200)
        (declared,) = servers_of(front, "small")
        assert declared["spec"]["quota"] == {"requestsPerSessionId": 2, "requestsPerBlockId": 5}
        ann, ben = {"X-Session-ID": "ann"}, {"X-Session-ID": "ben"}
        assert quota(front, "GET", "exists/ann") == (200, {"session_id": "ann", "exists": False})
        assert [ask(front, "small", **ann).status_code for _ in range(3)] == [200, 200, 429]
        refused = ask(front, "small", **ann)
        assert refused.json()["error"]["code"] == "quota_exceeded"
        assert "requests_per_session_id is 2" in refused.json()["error"]["message"]
        assert 0 < int(refused.headers["retry-after"]) <= 3600
        assert ask(front, "small", **ben).status_code == 200
        assert quota(front, "GET", "ann")[1]["quota"] == 2
        assert quota(front, "GET", "exists/ann")[1]["exists"] is True
        check = {"mgmt_action": "check", "mgmt_data": {"session_id": "ann"}}
        assert quota(front, "POST", "mgmt", json=check)[1]["allowed"] is False
        assert quota(front, "POST", "reset/ann")[0] == 200
        assert quota(front, "GET", "ann")[1]["quota"] == 0
        assert quota(front, "POST", "mgmt", json=check)[1]["allowed"] is True
        assert ask(front, "small", **ann).status_code == 200
        used_up = ask(front, "small", **ann)
        assert used_up.status_code == 429
        assert "requests_per_block_id is 5" in used_up.json()["error"]["message"]
        reset = {"mgmt_action": "reset_block", "mgmt_data": {"block_id": "base"}}
        assert quota(front, "POST", "mgmt", json=reset)[1]["servers"] == 1
        assert ask(front, "small", **ann).status_code == 200
        assert quota(front, "DELETE", "ann")[0] == 200
        assert quota(front, "GET", "exists/ann")[1]["exists"] is False
        native = {"model": "small", "prompt": "Hello"}
        with front.http() as client:
            answers = [client.post("/inference", json=native, headers=ben) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        error = answers[-1].json()["error"]
        assert error["code"] == "RATE_LIMIT_EXCEEDED"
        assert error["details"]["quota"] == "requests_per_session_id"
        assert error["retry_after"] > 0


def test_rates_of_a_declared_server_come_back(front: Platform) -> None:
    with model_servers(ModelServer("rated")) as (server,):
        cluster = Cluster(front)
        cluster.create(
            "InferencePool", "rated", {"selector": {"pool": "rated"}, "targetPortNumber": 1}
        )
        cluster.model("rated", "rated", targets={"base": 1})
        cluster.server(server, pool="rated", quota={"requestsPerSecondPerSession": 1})
        within(lambda: ask(front, "rated").status_code == 200)
        first = len(server.requests)
        statuses: list[int] = []

        def answered(status: int) -> bool:
            statuses.append(ask(front, "rated", **{"X-Session-ID": "s"}).status_code)
            return statuses[-1] == status

        within(lambda: answered(200))
        within(lambda: answered(429))
        within(lambda: answered(200))
        assert len(server.requests) == statuses.count(200) + first


def test_a_tenants_sessions_are_its_own(front: Platform, keys: dict[str, str]) -> None:
    with model_servers(ModelServer("shared")) as (server,):
        limits = {"quota_management_data": {"requests_per_session_id": 1}}
        metadata: Any = {METADATA: limits}
        register(front, server, "shared", **metadata)
        pool(front, "shared")
        within(lambda: ask(front, "shared").status_code == 200)
        mine, plain, theirs = keys["writers"], keys["users"], keys["strangers"]
        session = {"X-Session-ID": "s"}
        assert [ask(front, "shared", mine, **session).status_code for _ in "ab"] == [200, 429]
        assert ask(front, "shared", theirs, **session).status_code == 200
        assert quota(front, "POST", "reset/s", theirs)[0] == 200
        assert ask(front, "shared", mine, **session).status_code == 429
        for method, path in (("GET", "s"), ("POST", "reset/s"), ("DELETE", "s")):
            assert quota(front, method, f"{path}?tenant=team", theirs)[0] == 403
        assert quota(front, "GET", "s", plain)[1]["quota"] == 1
        assert quota(front, "POST", "reset/s", plain)[0] == 403
        assert quota(front, "POST", "reset/s?tenant=team")[0] == 200
        assert ask(front, "shared", mine, **session).status_code == 200
        blocks = {"mgmt_action": "blocks"}
        assert quota(front, "POST", "mgmt", mine, json=blocks)[0] == 403
        assert quota(front, "POST", "mgmt", json={"mgmt_action": "flush"})[0] == 400
        assert quota(front, "PUT", "s")[0] == 405
        assert httpx.get(f"{front.management_url}/quota/s").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "%ff", "", 200),
        ("GET", "%00", "", 200),
        ("GET", "a%2f..%2fb", "", 200),
        ("GET", "x" * 5000, "", 404),
        ("DELETE", "exists/", "", 200),
        ("GET", "", "", 404),
        ("POST", "a", "", 405),
        ("GET", "a?tenant=b&limit=1", "", 400),
        ("GET", "a?tenant=nobody", "", 200),
        ("POST", "mgmt", "", 400),
        ("POST", "mgmt", "[" * 30_000, 400),
        ("POST", "mgmt", '{"mgmt_action": ["check"]}', 400),
        ("POST", "mgmt", '{"mgmt_action": "check", "mgmt_data": []}', 400),
        ("POST", "mgmt", '{"mgmt_action": "check", "mgmt_data": {"session_id": 1}}', 400),
        ("POST", "mgmt", '{"mgmt_action": "check"}', 400),
        ("POST", "mgmt", '{"mgmt_action": "blocks", "mgmt_data": null}', 200),
        ("POST", "mgmt", "x" * 70_000, 413),
    ],
)
def test_quota_calls_bear_anything(
    front: Platform, method: str, path: str, body: str, status: int
) -> None:
    assert quota(front, method, path, content=body)[0] == status


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"requests_per_second_total": 0}, "quota_management_data.requests_per_second_total"),
        ({"requests_per_block_id": "9"}, "quota_management_data.requests_per_block_id"),
        ([], "quota_management_data"),
    ],
)
def test_quotas_that_are_none_are_refused(front: Platform, limits: Any, field: str) -> None:
    with as_caller(front, front.api_key, management=True) as admin:
        answer = admin.post("/inference_server", json={METADATA: {"quota_management_data": limits}})
        assert answer.status_code == 400
        assert answer.json()["details"]["field"] == f"{METADATA}.{field}"
        id_ = admin.post("/inference_server", json={}).json()["data"]["id"]
        change = {"$set": {f"{METADATA}.quota_management_data": limits}}
        assert admin.put(f"/inference_server/{id_}", json=change).status_code == 400


def test_an_entry_that_expired_serves_no_more(front: Platform, brief: Cluster) -> None:
    within(lambda: condition(brief, "brief") == ("True", "NothingFound"))
    within(lambda: not servers_of(front, "brief"))
    assert ask(front, "brief").status_code == 503
