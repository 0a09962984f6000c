"""The registry over HTTP: seed 000's examples as they are written, and hostile callers."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.access import NO_MODEL, UNLIMITED, Key, as_caller, make_key, make_user
from tests.acceptance.commands import inferno
from tests.acceptance.platform import Platform, wait_until

EXAMPLES = Path(__file__).parent / "examples" / "registry.sh.txt"
ID = "d4e8c3f0-7c8d-4a2e-b23e-2d4b6789abcd"
NAME, FACTS = "inference_server_name", "inference_server_metadata"


def examples() -> list[str]:
    """Return the curl commands of the seed."""
    return re.findall(r"^curl .*?(?=\n\n|\Z)", EXAMPLES.read_text("utf-8"), re.M | re.S)


def curl(platform: Platform, command: str) -> Any:
    """Run a curl command as it is written, against a platform."""
    command = command.replace("<server-url>", platform.management_url)
    command = command.strip() + f" -s -H 'Authorization: Bearer {platform.api_key}'"
    shell = ["bash", "-c", command]
    done = subprocess.run(shell, capture_output=True, check=True, text=True, timeout=60)
    return json.loads(done.stdout)


@pytest.fixture
def registry(start: Callable[..., Platform]) -> Platform:
    return start(environment={**NO_MODEL, **UNLIMITED})


def admin(platform: Platform) -> httpx.Client:
    return as_caller(platform, platform.api_key, management=True)


def test_the_seeds_examples_work_as_they_are_written(registry: Platform) -> None:
    create, get, region, tag, delete, zone, aws, tags, dates = examples()
    made = curl(registry, create)
    assert made["success"] is True
    id_ = made["data"]["id"]
    found = curl(registry, get.replace(ID, id_))["data"]
    assert found["inference_server_id"] == id_
    assert found[FACTS]["quota_management_data"]["requests_per_second_total"] == 100
    assert curl(registry, zone)["data"] == []  # the seed's example says nothing of GPUs
    assert curl(registry, aws)["data"] == [found]
    assert curl(registry, tags)["data"] == [found]
    assert curl(registry, dates)["data"] == [found]
    for change in (region, tag):
        answer = curl(registry, change.replace(ID, id_))
        assert answer == {"success": True, "data": {"message": "Inference server updated"}}
    changed = curl(registry, get.replace(ID, id_))["data"]
    assert changed[FACTS]["region"] == "us-west-2"
    assert changed[FACTS]["provider"] == "Google Cloud"
    assert changed["inference_server_tags"] == ["NLP", "Transformer", "BERT", "LLM"]
    assert curl(registry, aws)["data"] == []
    gone = curl(registry, delete.replace(ID, id_))
    assert gone == {"success": True, "data": {"message": "Inference server deleted"}}
    for command, message in ((get, ""), (region, " to update"), (delete, " to delete")):
        answer = curl(registry, command)
        assert answer["success"] is False
        assert answer["error"] == f"No document found{message}"


def test_what_was_answered_outlives_kill_9(registry: Platform) -> None:
    with admin(registry) as client:
        made = client.post("/inference_server", json={NAME: "a"})
        assert made.status_code == 201
        id_ = made.json()["data"]["id"]
        client.put(f"/inference_server/{id_}", json={"$set": {f"{FACTS}.n": 1}}).raise_for_status()
    registry.kill()
    (registry.data_dir / "run.json").unlink()
    registry.start()
    with admin(registry) as client:
        assert client.get(f"/inference_server/{id_}").json()["data"][FACTS] == {"n": 1}


def test_statuses_and_envelopes(registry: Platform) -> None:
    with admin(registry) as client:
        first = {"inference_server_id": "a", NAME: "a"}
        assert client.post("/inference_server", json=first).status_code == 201
        for method, path, content, status, named in [
            ("POST", "/inference_server", json.dumps(first), 409, "inference_server_id"),
            ("POST", "/inference_server", "{", 400, "JSON"),
            ("POST", "/inference_server", "[]", 400, "object"),
            ("POST", "/inference_server", "[" * 50_000, 400, ""),
            ("POST", "/inference_server", '{"inference_server_name": "\\ud800"}', 400, "JSON"),
            ("POST", "/inference_server", '{"inference_server_name": "\\u0000"}', 400, "name"),
            ("POST", "/inference_server", "x" * (2**20 + 1), 413, "larger"),
            ("PUT", "/inference_server/a", '{"$where": 1}', 400, "$where"),
            ("PUT", "/inference_server/a", "{", 400, "JSON"),
            ("PUT", "/inference_server/b", '{"$set": {"ttl_seconds": 9}}', 404, "to update"),
            ("PATCH", "/inference_server/a", "{}", 405, "PUT"),
            ("GET", "/inference_server/a/b", "", 404, ""),
            ("GET", "/inference_server/%00", "", 404, "No document found"),
            ("GET", "/inference_server/..%2f..%2fetc", "", 404, ""),
            ("GET", "/inference_servers", "", 405, "POST"),
            ("POST", "/inference_servers", '{"$where": "1"}', 400, "$where"),
            ("POST", "/inference_servers", '{"a": {"$foo": 1}}', 400, "$foo"),
            ("POST", "/inference_servers", "[]", 400, ""),
            ("POST", "/inference_servers?limit=-1", "", 400, "limit"),
            ("POST", "/inference_servers?cursor=x", "", 400, "cursor"),
            ("POST", "/inference_servers?page=1", "", 400, "page"),
            ("POST", "/inference_servers", '{"a": "\\u0000"}', None, ""),
            ("POST", "/inference_servers", '{"a": 1' + "0" * 400 + "}", None, ""),
            ("POST", "/inference_servers", "", 200, ""),
            ("POST", "/inference_servers", "null", 200, ""),
        ]:
            answer = client.request(method, path, content=content)
            shown = answer.json()
            assert answer.status_code == status or (status is None and answer.status_code < 500)
            assert shown["success"] is (answer.status_code == 200), (method, path, content[:50])
            if answer.status_code >= 400:
                assert isinstance(shown["error"], str)
                assert named in shown["error"], shown
        assert client.get("/inference_server/a").json()["data"][NAME] == "a"


def test_options_pages_and_counts(registry: Platform) -> None:
    with admin(registry) as client:
        for number in range(7):
            entry = {NAME: f"s{number}", FACTS: {"n": number, "zone": "a" if number % 2 else "b"}}
            assert client.post("/inference_server", json=entry).status_code == 201
        seen: list[str] = []
        answer = client.post("/inference_servers?limit=3&count=true", json={}).json()
        assert answer["count"] == 7
        while True:
            seen += [one[NAME] for one in answer["data"]]
            if "next_cursor" not in answer:
                break
            url = f"/inference_servers?limit=3&cursor={answer['next_cursor']}"
            answer = client.post(url, json={}).json()
        assert seen == [f"s{number}" for number in range(7)]
        body = {
            "filter": {f"{FACTS}.zone": "b"},
            "sort": {f"{FACTS}.n": -1},
            "projection": {NAME: 1},
            "skip": 1,
            "limit": 2,
            "count": True,
        }
        answer = client.post("/inference_servers", json=body).json()
        assert [one[NAME] for one in answer["data"]] == ["s4", "s2"]
        assert answer["count"] == 4
        assert FACTS not in answer["data"][0]
        answer = client.post("/inference_servers?search=s5", json={}).json()
        assert [one[NAME] for one in answer["data"]] == ["s5"]


def test_who_may_do_what(registry: Platform) -> None:
    keys: dict[str, Key] = {}
    for name, role in (("ada", "user"), ("bob", "user"), ("eve", "guest")):
        user = make_user(registry, name, role=role)
        keys[name] = make_key(registry, user["id"])
    clients = {name: as_caller(registry, key.secret, management=True) for name, key in keys.items()}
    stranger = as_caller(registry, None, management=True)
    made = clients["ada"].post("/inference_server", json={NAME: "a"})
    assert made.status_code == 201
    path = f"/inference_server/{made.json()['data']['id']}"
    change = {"$set": {f"{FACTS}.x": 1}}
    assert clients["bob"].get(path).status_code == 200
    assert clients["bob"].put(path, json=change).status_code == 403
    assert clients["bob"].delete(path).status_code == 403
    assert clients["eve"].get(path).status_code == 200
    assert clients["eve"].post("/inference_server", json={}).status_code == 403
    for answer in (stranger.get(path), stranger.post("/inference_servers", json={})):
        assert answer.status_code == 401
        assert answer.json()["success"] is False
    mine = clients["ada"].post("/inference_servers?mine=true", json={}).json()["data"]
    assert len(mine) == 1
    assert clients["bob"].post("/inference_servers?mine=true", json={}).json()["data"] == []
    with admin(registry) as root:
        assert root.put(path, json=change).status_code == 200
    assert clients["ada"].put(path, json=change).status_code == 200
    assert clients["ada"].delete(path).status_code == 200
    for client in (*clients.values(), stranger):
        client.close()


def test_reads_can_be_public_and_writes_cannot(start: Callable[..., Platform]) -> None:
    platform = start(environment={**NO_MODEL, "INFERNO_REGISTRY_PUBLIC_READS": "true"})
    with admin(platform) as client:
        made = client.post("/inference_server", json={"inference_server_id": "a"})
        assert made.status_code == 201
    with as_caller(platform, None, management=True) as stranger:
        assert stranger.get("/inference_server/a").status_code == 200
        assert len(stranger.post("/inference_servers", json={}).json()["data"]) == 1
        assert stranger.post("/inference_servers?mine=true", json={}).status_code == 400
        assert stranger.post("/inference_server", json={}).status_code == 401
        assert stranger.put("/inference_server/a", json={}).status_code == 401
        assert stranger.delete("/inference_server/a").status_code == 401
        assert stranger.post("/inference_server/a/heartbeat").status_code == 401
        assert stranger.get("/k8s/api/v1/nodes").status_code == 401
        wrong = {"Authorization": "Bearer wrong"}
        assert stranger.get("/inference_server/a", headers=wrong).status_code == 401


def test_an_entry_expires_without_heartbeat_however_healthy(
    start: Callable[..., Platform],
) -> None:
    settings = {
        "INFERNO_REGISTRY_RETENTION": "1",
        "INFERNO_REGISTRY_PROBE_INTERVAL": "0.2",
        "INFERNO_REGISTRY_PROBE_ALLOW": "127.0.0.0/8",
    }
    platform = start(environment={**NO_MODEL, **UNLIMITED, **settings})
    with admin(platform) as client:
        entry = {
            "inference_server_id": "a",
            "inference_server_public_url": platform.url,
            "ttl_seconds": 5,
        }
        assert client.post("/inference_server", json=entry).status_code == 201

        def healthy() -> list[Any]:
            wanted = {"health.state": "healthy", "state": "active"}
            return list(client.post("/inference_servers", json=wanted).json()["data"])

        wait_until(healthy, 60, "nobody looked")
        beat = client.post("/inference_server/a/heartbeat").json()["data"]
        assert beat["state"] == "active"
        assert healthy()
        states: set[str] = set()

        def is_gone() -> bool:
            answer = client.get("/inference_server/a")
            if answer.status_code == 200:
                shown = answer.json()["data"]
                states.add(shown["state"])
                assert shown["state"] == "active" or "health" not in shown
            return answer.status_code == 404

        wait_until(is_gone, 60, "the entry stayed")
    assert states == {"active", "expired"}


def test_changes_are_streamed_and_go_on_where_they_ended(registry: Platform) -> None:
    wanted = {"filter": json.dumps({f"{FACTS}.zone": "a"})}
    events: list[dict[str, Any]] = []
    with admin(registry) as client, admin(registry) as other:
        with client.stream("GET", "/inference_servers/watch", params=wanted) as stream:
            assert stream.status_code == 200
            lines = stream.iter_lines()
            assert next(lines).startswith(":")
            for id_, zone in (("x", "b"), ("y", "a")):
                entry = {"inference_server_id": id_, FACTS: {"zone": zone}}
                assert other.post("/inference_server", json=entry).status_code == 201
            move = {"$set": {f"{FACTS}.zone": "a"}}
            assert other.put("/inference_server/x", json=move).status_code == 200
            assert other.delete("/inference_server/y").status_code == 200
            while len(events) < 3:
                line = next(lines)
                if line.startswith("data: "):
                    events.append(json.loads(line[6:]))
        seen = [(one["type"], one["document"]["inference_server_id"]) for one in events]
        assert seen == [("ADDED", "y"), ("ADDED", "x"), ("DELETED", "y")]
        again = {**wanted, "since": str(events[1]["version"])}
        with client.stream("GET", "/inference_servers/watch", params=again) as stream:
            data = next(line for line in stream.iter_lines() if line.startswith("data: "))
        assert json.loads(data[6:]) == events[2]
        assert client.get("/inference_servers/watch?since=99999").status_code == 410
        assert client.get("/inference_servers/watch?sinc=1").status_code == 400


def test_the_command_line(registry: Platform) -> None:
    where = ("--data-dir", str(registry.data_dir))
    id_ = inferno(
        "registry", "add", "--name", "east", "--public-url", "https://east.example.com",
        "--tag", "NLP", "--metadata", "region=us-east-1", "--metadata", "gpu=true", *where,
    ).strip()  # fmt: skip
    assert "east.example.com" in inferno("registry", "list", *where)
    listed = json.loads(inferno("registry", "list", "--json", *where))
    assert [one["inference_server_id"] for one in listed] == [id_]
    assert listed[0][FACTS] == {"region": "us-east-1", "gpu": True}
    inferno("registry", "update", id_, '{"$push": {"inference_server_tags": "LLM"}}', *where)
    shown = inferno("registry", "get", id_, *where)
    for fact in ("NLP, LLM", "metadata.region: us-east-1", "metadata.gpu:    true"):
        assert fact in shown
    wanted = '{"inference_server_tags": {"$in": ["LLM"]}}'
    shown = inferno("registry", "query", wanted, "--sort=-inference_server_name", *where)
    assert id_ in shown
    only = ("--projection", '{"inference_server_name": 1}')
    assert json.loads(inferno("registry", "query", "{}", *only, *where))[0][NAME] == "east"
    inferno("registry", "delete", id_, *where)
    assert json.loads(inferno("registry", "list", "--json", *where)) == []
