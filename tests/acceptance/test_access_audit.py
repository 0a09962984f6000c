"""The audit trail of a running platform: complete, searchable, durable, and no burden."""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.access import (
    NO_MODEL,
    PASSWORD,
    UNLIMITED,
    as_caller,
    audit,
    bearer,
    login,
    make_caller,
    make_key,
    make_user,
)
from tests.acceptance.platform import MODEL, Platform

FIELDS = {
    *("seq", "at", "action", "outcome", "actor", "actor_id", "tenant", "target", "address"),
    *("request_id", "reason", "details", "previous", "hash"),
}


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("audit") / "data", environment=UNLIMITED) as running:
        yield running


def event_of(platform: Platform, answer: httpx.Response) -> dict[str, Any]:
    """Return the one event of the request that was answered so."""
    (event,) = [
        event for event in audit(platform) if event["request_id"] == answer.headers["x-request-id"]
    ]
    return event


ACTS: list[tuple[str, str, Any, str, str]] = [
    ("POST", "/auth/users", {"username": "act", "password": PASSWORD}, "user.create", "user:act"),
    ("PATCH", "/auth/users/act", {"email": "a@b.c"}, "user.change", "user:act"),
    ("POST", "/auth/api-keys", {"name": "x", "user": "act"}, "api_key.create", "api_key:{key}"),
    ("PATCH", "/auth/api-keys/{key}", {"name": "y"}, "api_key.change", "api_key:{key}"),
    ("POST", "/auth/api-keys/{key}/rotate", None, "api_key.rotate", "api_key:{key}"),
    ("DELETE", "/auth/api-keys/{key}", None, "api_key.revoke", "api_key:{key}"),
    ("PUT", "/auth/rate-limits/role/guest", {}, "limits.set", "role:guest"),
    ("PUT", "/auth/rate-limits/tenant/red", {}, "limits.set", "tenant:red"),
    ("DELETE", "/auth/rate-limits/usage/act", None, "limits.reset", "user:act"),
    ("DELETE", "/auth/users/act", None, "user.delete", "user:act"),
    ("POST", f"/models/{MODEL}/unload", None, "model.unload", f"model:{MODEL}"),
    ("POST", f"/models/{MODEL}/load", None, "model.load", f"model:{MODEL}"),
]


def test_every_administrative_act_is_recorded(doors: Platform) -> None:
    key = ""
    with doors.http() as admin:
        myself = admin.get("/auth/me").json()
        for method, path, body, action, target in ACTS:
            answer = admin.request(method, path.format(key=key), json=body)
            assert answer.status_code in (200, 201), (path, answer.text)
            if action == "api_key.create":
                key = answer.json()["id"]
            event = event_of(doors, answer)
            assert set(event) == FIELDS
            assert (event["action"], event["target"]) == (action, target.format(key=key))
            assert event["outcome"] == "success"
            assert (event["actor"], event["actor_id"]) == ("admin", myself["id"])
            assert event["tenant"] == "default"
            assert event["address"] == "127.0.0.1"


def test_logins_and_logouts_are_recorded(doors: Platform) -> None:
    make_user(doors, "ann")
    right, wrong = login(doors, "ann"), login(doors, "ann", "wrong-password")
    event = event_of(doors, right)
    assert (event["action"], event["outcome"], event["actor"]) == ("login", "success", "ann")
    assert event["actor_id"] == right.json()["user"]["id"]
    event = event_of(doors, wrong)
    assert (event["outcome"], event["reason"]) == ("refused", "AuthenticationFailed")
    with as_caller(doors, right.json()["token"]) as client:
        answer = client.post("/auth/logout")
    assert event_of(doors, answer)["action"] == "logout"


def test_refusals_are_recorded(doors: Platform) -> None:
    stranger = httpx.get(f"{doors.url}/models?secret=1", headers=bearer("inf_wrong"))
    event = event_of(doors, stranger)
    assert (event["action"], event["outcome"]) == ("authenticate", "refused")
    assert (event["actor"], event["target"]) == ("", "GET /models")
    with as_caller(doors, "a.b.c", management=True) as client:
        event = event_of(doors, client.get("/api/models"))
    assert event["target"] == "GET /api/models"
    guest = make_caller(doors, "guest", role="guest")
    with as_caller(doors, guest.secret) as client:
        event = event_of(doors, client.get("/auth/users"))
    assert (event["action"], event["actor"]) == ("permission", "guest")
    assert event["reason"] == "manage_users"
    make_user(doors, "hasty")
    hasty = make_key(doors, "hasty", limits={"requests_per_minute": 0})
    with as_caller(doors, hasty.secret) as client:
        event = event_of(doors, client.get("/models"))
    assert (event["action"], event["reason"]) == ("limit", "requests_per_minute")


def test_the_trail_can_be_searched(doors: Platform) -> None:
    begun = audit(doors)[0]["at"]
    make_user(doors, "sought")
    login(doors, "sought")
    login(doors, "sought", "wrong-password")
    mine = audit(doors, user="sought")
    assert [event["outcome"] for event in mine] == ["refused", "success"]
    assert audit(doors, user=mine[1]["actor_id"])[0] == mine[1], "by id as well as by name"
    assert audit(doors, user="sought", failures_only="true") == mine[:1]
    assert audit(doors, user="sought", outcome="success") == mine[1:]
    assert {event["action"] for event in audit(doors, action="login")} == {"login"}
    kinds = {event["action"] for event in audit(doors, action="user.")}
    assert kinds >= {"user.create"}
    assert all(kind.startswith("user.") for kind in kinds)
    later = audit(doors, since=mine[0]["at"])
    assert later[-1] == mine[0], "the first bound is included"
    assert mine[0] not in audit(doors, until=mine[0]["at"]), "the second is not"
    assert all(event["at"] >= begun for event in audit(doors, since=begun))
    everything = audit(doors)
    paged: list[dict[str, Any]] = []
    while page := audit(doors, limit=3, before=paged[-1]["seq"] if paged else 0):
        paged += page
    assert paged == everything
    assert [event["seq"] for event in paged] == list(range(len(paged), 0, -1))


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "before=-1", "outcome=maybe", "nonsense=1",
     "failures_only=perhaps"],
)  # fmt: skip
def test_a_search_that_means_nothing_is_refused(doors: Platform, query: str) -> None:
    with doors.http() as admin:
        assert admin.get(f"/audit?{query}").status_code == 400


def test_the_export_is_lines_of_json_that_verify(doors: Platform) -> None:
    for name in ("exported-1", "exported-2"):
        make_user(doors, name)
    with doors.http() as admin:
        exported = admin.get("/audit/export")
        verdict = admin.get("/audit/verify").json()
    assert exported.headers["content-type"] == "application/x-ndjson"
    assert exported.text.endswith("\n")
    events = [json.loads(line) for line in exported.text.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    for before, event in itertools.pairwise(events):
        assert event["previous"] == before["hash"]
    assert verdict["intact"] is True
    assert verdict["events"] >= len(events)
    assert verdict["broken_at"] is None


TAMPERING = {
    "edited": ("UPDATE audit_events SET actor = 'nobody' WHERE seq = 5", 5),
    "edited details": ("UPDATE audit_events SET details = '{\"x\": 1}' WHERE seq = 4", 4),
    "hash edited too": ("UPDATE audit_events SET hash = previous WHERE seq = 5", 5),
    "deleted": ("DELETE FROM audit_events WHERE seq = 5", 6),
    "first deleted": ("DELETE FROM audit_events WHERE seq = 1", 2),
    "renumbered after a deletion": (
        "DELETE FROM audit_events WHERE seq = 5; UPDATE audit_events SET seq = 5 WHERE seq = 6",
        5,
    ),
    "inserted": (
        "INSERT INTO audit_events SELECT max(seq) + 1, at, action, outcome, actor, actor_id,"
        " tenant, target, address, request_id, reason, details, previous, hash FROM audit_events",
        -1,
    ),
    "reordered": (
        "UPDATE audit_events SET seq = 1000 WHERE seq = 5;"
        "UPDATE audit_events SET seq = 5 WHERE seq = 6;"
        "UPDATE audit_events SET seq = 6 WHERE seq = 1000",
        5,
    ),
}


def test_tampering_is_found_at_its_place(start: Callable[..., Platform]) -> None:
    platform = start(environment=NO_MODEL)
    for i in range(8):
        make_user(platform, f"user-{i}")
    with platform.http() as admin:
        before = admin.get("/audit/verify").json()
        assert before["intact"]
        newest = before["events"]
        for name, (sql, broken_at) in TAMPERING.items():
            with closing(sqlite3.connect(platform.data_dir / "inferno.db", timeout=30)) as store:
                kept = store.execute("SELECT * FROM audit_events").fetchall()
                store.executescript(sql)
            verdict = admin.get("/audit/verify").json()
            assert verdict["intact"] is False, name
            assert verdict["broken_at"] == (broken_at if broken_at > 0 else newest + 1), name
            with closing(sqlite3.connect(platform.data_dir / "inferno.db", timeout=30)) as store:
                store.execute("DELETE FROM audit_events")
                marks = ", ".join("?" * len(kept[0]))
                store.executemany(f"INSERT INTO audit_events VALUES ({marks})", kept)  # noqa: S608
                store.commit()
        assert admin.get("/audit/verify").json() == before
        with closing(sqlite3.connect(platform.data_dir / "inferno.db", timeout=30)) as store:
            store.execute("DELETE FROM audit_events WHERE seq = ?", (newest,))
            store.commit()
        shorter = admin.get("/audit/verify").json()
    assert shorter["last_hash"] != before["last_hash"], "who kept the last hash notices"


def test_what_was_answered_survives_kill_9(start: Callable[..., Platform]) -> None:
    platform = start(environment=NO_MODEL)
    key = platform.api_key
    body = {"username": "durable", "password": PASSWORD}
    with as_caller(platform, key) as admin:
        answer = admin.post("/auth/users", json=body)
    platform.kill()
    assert answer.status_code == 201
    (platform.data_dir / "run.json").unlink()
    platform.start()
    event = event_of(platform, answer)
    assert (event["action"], event["target"]) == ("user.create", "user:durable")
    with platform.http() as admin:
        assert admin.get("/audit/verify").json()["intact"]


def test_events_that_wait_are_written_at_the_end(start: Callable[..., Platform]) -> None:
    platform = start(environment=NO_MODEL)
    answer = httpx.get(f"{platform.url}/models")
    platform.stop()
    platform.start()
    assert event_of(platform, answer)["action"] == "authenticate"


def requests_per_second(url: str, credential: str, seconds: float) -> float:
    with httpx.Client(headers=bearer(credential)) as client:
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            assert client.get(url).status_code == 200
            count += 1
        return count / (time.perf_counter() - begun)


def test_a_flood_of_wrong_keys_slows_a_right_one_little(start: Callable[..., Platform]) -> None:
    platform = start(environment=NO_MODEL)
    url = f"{platform.url}/auth/me"
    alone = requests_per_second(url, platform.api_key, 2)
    flooding = True

    def flood(number: int) -> int:
        sent = 0
        with httpx.Client() as client:
            while flooding:
                client.get(url, headers=bearer(f"inf_wrong-{number}-{sent}"))
                sent += 1
        return sent

    memory = psutil.Process(platform.pid).memory_info().rss
    with ThreadPoolExecutor(3) as pool:
        floods = [pool.submit(flood, number) for number in range(3)]
        time.sleep(0.5)
        during = requests_per_second(url, platform.api_key, 4)
        flooding = False
        sent = sum(one.result() for one in floods)
    # Four clients share this machine now, and one process answers all of them.
    assert sent > 20
    assert during > alone / 20
    assert psutil.Process(platform.pid).memory_info().rss < memory + 50 * 2**20
    recorded = audit(platform, action="authenticate")
    assert len(recorded) <= 2 * 60 + 1, "who is refused by its address is not written down again"
