"""`/batch` as seed 001 has it, and who may do what with batches."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.access import (
    PASSWORD,
    UNLIMITED,
    as_caller,
    login,
    make_caller,
    make_key,
    make_user,
)
from tests.acceptance.batches import ended, entries, hand_in, jsonl, openai_lines, results, status
from tests.acceptance.platform import MODEL, Platform, wait_until
from tests.acceptance.random_models import slow_model
from tests.acceptance.receiver import Receiver
from tests.acceptance.webhooks import subscribe

Start = Callable[..., Platform]
LINES = {"Content-Type": "application/jsonl"}


def test_the_example_of_the_seed(platform: Platform) -> None:
    requests = [
        {"id": "req1", "prompt": "What is AI?"},
        {"id": "req2", "prompt": "Explain quantum computing"},
    ]
    with platform.http() as client:
        body = {"model": MODEL, "requests": requests, "max_tokens": 10}
        answer = client.post("/batch", json=body)
        assert answer.status_code == 200
        made = answer.json()
        assert set(made) == {"batch_id", "status", "total_requests", "created"}
        assert (made["status"], made["total_requests"]) == ("processing", 2)
        assert abs(made["created"] - time.time()) < 60
        stands = ended(client, made["batch_id"])
        assert stands["batch_id"] == made["batch_id"]
        assert (stands["status"], stands["completed"], stands["failed"]) == ("completed", 2, 0)
        assert stands["total"] == 2
        assert stands["results_url"] == f"/batch/{made['batch_id']}/results"
        found = client.get(stands["results_url"]).json()["results"]
        assert [one["id"] for one in found] == ["req1", "req2"]
        for one in found:
            assert one["choices"][0]["text"]
            assert one["usage"]["completion_tokens"] <= 10
        spent = sum(one["usage"]["total_tokens"] for one in found)
        assert stands["usage"]["total_tokens"] == spent


def test_a_batch_with_failures_is_completed(platform: Platform) -> None:
    too_long = {"id": "long", "prompt": "word " * 20_000}
    with platform.http() as client:
        batch_id = hand_in(client, [too_long, *entries(2)])
        stands = ended(client, batch_id)
        assert (stands["status"], stands["completed"], stands["failed"]) == ("completed", 2, 1)
        first, *others = results(client, batch_id)
        assert (first["id"], first["status"]) == ("long", "failed")
        assert first["error"]["code"] == "CONTEXT_LENGTH_EXCEEDED"
        assert [one["status"] for one in others] == ["completed"] * 2


def test_requests_may_differ_from_the_batch(platform: Platform) -> None:
    requests = [
        {"id": "a", "prompt": "Hi", "max_tokens": 2, "ignore_eos": True},
        {"id": "b", "prompt": "Hi", "model": MODEL, "temperature": 0, "ignore_eos": True},
    ]
    with platform.http() as client:
        batch_id = hand_in(client, requests, max_tokens=3, temperature=0.1)
        ended(client, batch_id)
        found = results(client, batch_id)
    assert [one["usage"]["completion_tokens"] for one in found] == [2, 3]


def test_json_lines_of_both_kinds(platform: Platform) -> None:
    with platform.http() as client:
        content = jsonl([*entries(2), *(line | {"custom_id": "x"} for line in openai_lines(1))])
        answer = client.post(f"/batch?model={MODEL}&max_tokens=3", content=content, headers=LINES)
        assert answer.status_code == 200, answer.text
        batch_id = answer.json()["batch_id"]
        ended(client, batch_id)
        native, _, chat = results(client, batch_id)
        assert native["choices"][0]["text"]
        assert chat["id"] == "x"
        assert chat["choices"][0]["message"]["role"] == "assistant"
        headers = {"Accept": "application/x-ndjson"}
        shown = client.get(f"/batch/{batch_id}/results?after=0&limit=1", headers=headers)
        assert shown.headers["content-type"] == "application/x-ndjson"
        assert [json.loads(line)["id"] for line in shown.text.splitlines()] == ["request-1"]
        shown = client.get(f"/batch/{batch_id}/results?format=openai")
        assert [one["custom_id"] for one in shown.json()["results"]] == [
            "request-0", "request-1", "x",
        ]  # fmt: skip


def test_it_is_served_under_v1_too(platform: Platform) -> None:
    with platform.http() as client:
        batch_id = hand_in(client, entries(1))
        assert client.get(f"/v1/batch/{batch_id}").json()["batch_id"] == batch_id
        assert client.get("/v1/batch?limit=1").json()["batches"][0]["batch_id"] == batch_id


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, 400, "requests"),
        ({"model": MODEL, "requests": []}, 400, "requests"),
        ({"requests": [{"id": "a", "prompt": "x"}]}, 400, "requests[0].model"),
        ({"model": MODEL, "requests": [{"prompt": "x"}]}, 400, "requests[0].id"),
        ({"model": MODEL, "requests": [{"id": "", "prompt": "x"}]}, 400, "requests[0].id"),
        ({"model": MODEL, "requests": [{"id": "a"}]}, 400, "requests[0].prompt"),
        ({"model": MODEL, "requests": [{"id": "\0", "prompt": "x"}]}, 400, "requests[0].id"),
        (
            {"model": MODEL, "requests": [{"id": "a", "prompt": "x", "stream": True}]},
            400,
            "requests[0].stream",
        ),
        ({"model": MODEL, "requests": entries(1) * 2}, 400, "requests[1].id"),
        ({"model": MODEL, "requests": entries(1), "max_tokens": 0}, 400, "max_tokens"),
        ({"model": MODEL, "requests": entries(1), "webhook": "x"}, 400, "webhook"),
        ({"model": "nobody", "requests": entries(1)}, 404, None),
        ({"model": MODEL, "requests": entries(1, model="nobody")}, 404, None),
    ],
)
def test_what_is_wrong_is_named(
    platform: Platform, body: dict[str, Any], code: int, field: str | None
) -> None:
    with platform.http() as client:
        before = [one["batch_id"] for one in client.get("/batch").json()["batches"]]
        answer = client.post("/batch", json=body)
        assert answer.status_code == code, answer.text
        assert answer.json()["error"].get("details", {}).get("field") == field
        assert [one["batch_id"] for one in client.get("/batch").json()["batches"]] == before


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (jsonl(entries(2)) + b"{}\n", 3),
        (b"\n\n[1]\n", 3),
        (b'{"id": "a", "prompt": "x"', 1),
        (b'{"id": "a", "prompt": "' + b"x" * 3_000_000 + b'"}', 1),
        (b"[" * 100_000, 1),
        (b"\xff\xff", 1),
        (b'{"custom_id": "a", "method": "POST", "url": "/auth/users", "body": {}}', 1),
        (jsonl([line | {"body": {"model": MODEL, "stream": True}} for line in openai_lines(1)]), 1),
        (b"", None),
    ],
)
def test_lines_that_are_wrong_are_named(
    platform: Platform, content: bytes, line: int | None
) -> None:
    with platform.http() as client:
        before = client.get("/batch").json()
        answer = client.post(f"/batch?model={MODEL}", content=content, headers=LINES)
        assert answer.status_code == 400, answer.text
        if line is not None:
            assert f"ine {line}" in answer.json()["error"]["message"]
        assert client.get("/batch").json() == before


def test_hostile_requests(platform: Platform) -> None:
    with platform.http() as client:
        for path in ("/batch/..%2f..%2fetc", "/batch/' OR 1=1 --", "/batch/" + "a" * 5000):
            assert client.get(path).status_code == 404
        assert client.get("/batch?limit=1000000").status_code == 400
        assert client.get("/batch?after=nobody").status_code == 404
        assert client.get("/batch?unknown=1").status_code == 400
        packed = gzip.compress(jsonl(entries(1)))
        headers = {**LINES, "Content-Encoding": "gzip"}
        assert client.post("/batch", content=packed, headers=headers).status_code == 400
        for key in ("", "x" * 256, "caf\u00e9\x07"):
            headers = {"Idempotency-Key": key}
            body = {"model": MODEL, "requests": entries(1)}
            raw = {name: value.encode("utf-8") for name, value in headers.items()}
            answer = client.post("/batch", json=body, headers=raw)  # type: ignore[arg-type]
            assert answer.status_code == 400


def test_a_batch_gives_way_to_those_who_wait(start: Start, tmp_path: Path) -> None:
    """Requests that somebody waits for are answered while a batch keeps every slot busy."""
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    (models / "slow.gguf").write_bytes(slow_model())
    platform = start(environment={"INFERNO_PARALLEL": "2"})
    with platform.http() as client:
        client.post("/models/slow/load").raise_for_status()
        batch_id = hand_in(client, entries(60), model="slow", max_tokens=200, ignore_eos=True)
        wait_until(lambda: status(client, batch_id)["completed"] > 0, 60, "nothing was answered")
        for _ in range(4):
            body = {"model": "slow", "prompt": "Hello", "max_tokens": 5}
            client.post("/inference", json=body).raise_for_status()
        # Had it waited in line behind the batch, that would be over now.
        assert status(client, batch_id)["status"] == "processing"
        assert status(client, batch_id)["completed"] < 40
        assert client.delete(f"/batch/{batch_id}").status_code == 409
        assert client.post(f"/batch/{batch_id}/cancel").json()["status"] == "cancelling"
        assert ended(client, batch_id)["status"] == "cancelled"
        found = results(client, batch_id)
        assert len(found) == 60
        assert {one["error"]["code"] for one in found if one["status"] == "failed"} == {
            "BATCH_CANCELLED"
        }
        assert client.delete(f"/batch/{batch_id}").status_code == 200
        assert client.get(f"/batch/{batch_id}").status_code == 404
        assert client.get(f"/batch/{batch_id}/results").status_code == 404


def test_other_tenants_see_nothing(platform: Platform) -> None:
    make_user(platform, "north-ada", tenant="north")
    make_user(platform, "north-bob", tenant="north")
    make_user(platform, "south-eve", tenant="south")
    make_user(platform, "north-root", tenant="north", role="service")
    callers = {
        name: make_key(platform, name, limits={"requests_per_minute": -1}).secret
        for name in ("north-ada", "north-bob", "south-eve", "north-root")
    }
    with as_caller(platform, callers["north-ada"]) as ada:
        batch_id = hand_in(ada, entries(2))
        ended(ada, batch_id)
        upload = ada.post(
            "/v1/files", files={"file": ("a.jsonl", jsonl(openai_lines(1)))},
            data={"purpose": "batch"},
        )  # fmt: skip
        file_id = upload.json()["id"]
        body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions"}
        other = ada.post("/v1/batches", json={**body, "completion_window": "24h"}).json()["id"]
        ended(ada, other)
        output = ada.get(f"/v1/batches/{other}").json()["output_file_id"]
    with as_caller(platform, callers["south-eve"]) as eve:
        gets = [
            f"/batch/{batch_id}", f"/batch/{batch_id}/results", f"/v1/batches/{other}",
            f"/v1/files/{file_id}", f"/v1/files/{file_id}/content", f"/v1/files/{output}/content",
            f"/batch?after={batch_id}", f"/v1/files?after={file_id}",
        ]  # fmt: skip
        assert {eve.get(path).status_code for path in gets} == {404}
        assert eve.post(f"/batch/{batch_id}/cancel").status_code == 404
        assert eve.delete(f"/batch/{batch_id}").status_code == 404
        assert eve.delete(f"/v1/files/{file_id}").status_code == 404
        stolen = eve.post("/v1/batches", json={**body, "completion_window": "24h"})
        assert stolen.status_code == 404
        assert eve.get("/batch").json()["batches"] == []
        assert eve.get("/v1/batches").json()["data"] == []
        assert eve.get("/v1/files").json()["data"] == []
    with as_caller(platform, callers["north-bob"]) as bob:
        assert bob.get(f"/batch/{batch_id}").status_code == 200
        assert bob.delete(f"/batch/{batch_id}").status_code == 403
        assert bob.delete(f"/v1/files/{file_id}").status_code == 403
    with as_caller(platform, callers["north-root"]) as service:
        assert service.delete(f"/batch/{batch_id}").status_code == 200
    with platform.http() as admin:
        assert admin.get(f"/v1/batches/{other}").status_code == 200
        assert admin.delete(f"/v1/files/{output}").status_code == 200


def test_who_may_not_ask_may_hand_nothing_in(platform: Platform) -> None:
    guest = make_caller(platform, "batch-guest", role="guest").secret
    with as_caller(platform, guest) as client:
        answer = client.post("/batch", json={"model": MODEL, "requests": entries(1)})
        assert answer.status_code == 403
        assert client.get("/v1/files").status_code == 403
    with as_caller(platform, None) as client:
        for path in ("/batch", "/batch/x", "/v1/files", "/v1/batches", "/batch/x/results"):
            assert client.get(path).status_code == 401
    user = make_caller(platform, "batch-user").secret
    with as_caller(platform, user) as client:
        body = {"model": MODEL, "requests": entries(1, grammar='root ::= "a"')}
        assert client.post("/batch", json=body).status_code == 403
        lines = jsonl([line | {"body": line["body"] | {"grammar": "root ::= [a]"}}
                       for line in openai_lines(1)])  # fmt: skip
        batch_id = client.post("/batch", content=lines, headers=LINES).json()["batch_id"]
        assert ended(client, batch_id)["failed"] == 1
        assert "permission" in results(client, batch_id)[0]["error"]["message"]


def test_limits_are_for_those_who_wait(platform: Platform) -> None:
    """Handing in is one request, however many there are; each is counted in the batch."""
    limits = {"requests_per_minute": 60, "tokens_per_minute": 30, "concurrent_requests": 1}
    make_user(platform, "batch-limited")
    key = make_key(platform, "batch-limited", limits=limits)
    with as_caller(platform, key.secret) as client:
        batch_id = hand_in(client, entries(40), ignore_eos=True)
        assert ended(client, batch_id)["completed"] == 40
        assert status(client, batch_id)["usage"]["completion_tokens"] == 160


def test_whoever_is_let_in_no_more_gets_no_answers(start: Start, tmp_path: Path) -> None:
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    (models / "slow.gguf").write_bytes(slow_model())
    platform = start(environment={"INFERNO_PARALLEL": "2", **UNLIMITED})
    make_user(platform, "ada")
    make_user(platform, "bob")
    key = make_key(platform, "ada")
    token = login(platform, "bob", PASSWORD).json()["token"]
    with platform.http() as admin:
        admin.post("/models/slow/load").raise_for_status()
        batches = []
        for credential in (key.secret, token):
            with as_caller(platform, credential) as client:
                # More than are on their way at once: those are finished all the same.
                batch_id = hand_in(client, entries(200), model="slow", max_tokens=20)
                wait_until(
                    lambda client=client, batch_id=batch_id: (  # type: ignore[misc]
                        status(client, batch_id)["completed"]
                    ),
                    60,
                    "nothing was answered",
                )
                batches.append(batch_id)
        admin.delete(f"/auth/api-keys/{key.id}").raise_for_status()
        admin.patch("/auth/users/bob", json={"disabled": True}).raise_for_status()
        for batch_id in batches:
            stands = ended(admin, batch_id)
            assert stands["status"] == "completed"
            assert stands["completed"] > 0
            assert stands["failed"] > 0
            codes = {one["error"]["code"] for one in results(admin, batch_id) if "error" in one}
            assert codes == {"AUTHENTICATION_FAILED"}


def test_a_drain_leaves_the_rest_for_the_next_start(start: Start) -> None:
    platform = start(environment={"INFERNO_GRACE_PERIOD": "3"})
    with platform.http() as client:
        batch_id = hand_in(client, entries(150), max_tokens=60, ignore_eos=True)
        wait_until(lambda: status(client, batch_id)["completed"] > 5, 60, "nothing was answered")
    assert platform.stop() == 0
    assert "Traceback" not in platform.log_text()
    platform.start()
    with platform.http() as client:
        stands = ended(client, batch_id)
        assert (stands["completed"], stands["failed"]) == (150, 0)
        assert len(results(client, batch_id)) == 150


def test_a_client_that_leaves_hands_nothing_in(platform: Platform) -> None:
    """An upload that breaks off is no batch."""
    with platform.http() as client:
        before = client.get("/batch").json()

        def broken() -> Any:
            yield jsonl(entries(5))
            time.sleep(0.2)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            client.post(f"/batch?model={MODEL}", content=broken(), headers=LINES)
        assert client.get("/batch").json() == before


def test_many_hand_in_at_once(platform: Platform) -> None:
    made: list[str] = []

    def one(number: int) -> None:
        with platform.http() as client:
            made.append(hand_in(client, entries(5), metadata={"number": str(number)}))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with platform.http() as client:
        for batch_id in made:
            assert ended(client, batch_id)["completed"] == 5
        listed: list[str] = []
        query: dict[str, Any] = {"limit": 4}
        while True:
            page = client.get("/batch", params=query).json()
            listed += [one["batch_id"] for one in page["batches"]]
            if not page["has_more"]:
                break
            query["after"] = listed[-1]
    assert len(set(listed)) == len(listed)
    assert set(made) <= set(listed)


def test_too_large_is_refused_at_once(start: Start) -> None:
    settings = {"INFERNO_MAX_FILE_BYTES": "100000", "INFERNO_MAX_BATCH_ITEMS": "50"}
    platform = start(environment=settings)
    with platform.http() as client:
        body = {"model": MODEL, "requests": entries(51)}
        assert client.post("/batch", json=body).status_code == 400
        lines = jsonl(entries(51))
        assert client.post(f"/batch?model={MODEL}", content=lines, headers=LINES).status_code == 400
        large = b" " * 200_000
        answer = client.post("/batch", content=large, headers=LINES)
        assert answer.status_code == 413
        form: dict[str, Any] = {
            "files": {"file": ("a", b"x" * 200_000)},
            "data": {"purpose": "batch"},
        }
        assert client.post("/v1/files", **form).status_code == 413
        assert client.get("/v1/files").json()["data"] == []
        assert client.get("/batch").json()["batches"] == []


def test_without_authentication(start: Start) -> None:
    platform = start("--no-auth")
    with httpx.Client(base_url=platform.url, timeout=60) as client:
        batch_id = hand_in(client, entries(3))
        assert ended(client, batch_id)["completed"] == 3


def test_webhooks_are_told_of_the_end(start: Start) -> None:
    """The address that came with the batch, and those who subscribed to its event."""
    platform = start(environment={"INFERNO_WEBHOOK_ALLOW": "127.0.0.1"})
    with Receiver() as receiver, platform.http() as client:
        subscribe(platform, receiver.url("/subscribed"), events=["batch.complete"])
        batch_id = hand_in(client, entries(2), webhook_url=receiver.url("/direct"))
        ended(client, batch_id)
        received = receiver.wait(2)
        assert sorted(one.path for one in received) == ["/direct", "/subscribed"]
        for one in received:
            payload = json.loads(one.body)
            assert payload["event"] == "batch.complete"
            assert payload["data"]["batch_id"] == batch_id
            assert payload["data"]["completed"] == 2
        for url in ("http://169.254.169.254/", "file:///etc/passwd", "http://10.0.0.1/"):
            body = {"model": MODEL, "requests": entries(1), "webhook_url": url}
            answer = client.post("/batch", json=body)
            assert answer.status_code == 400
            assert answer.json()["error"]["details"]["field"] == "webhook_url"
