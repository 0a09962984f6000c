"""What can be an entry, and what an update may make of one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from inferno.core.errors import InvalidRequest
from inferno.registry.entries import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    Document,
    changed_entry,
    new_entry,
    refreshed,
    same_place,
)

NOW = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)

ENTRY: Document = {
    "inference_server_name": "east",
    "inference_server_metadata": {"region": "us-east-1", "quota_management_data": {"total": 100}},
    "inference_server_tags": ["NLP", "BERT"],
    "inference_server_public_url": "https://us-east-1.inference.example.com",
    "inference_server_urls": {"grpc": "us-east-1.inference.example.com:50051"},
}
FACTS = "inference_server_metadata"
URL = "inference_server_public_url"


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def test_an_entry_is_kept_as_it_is_with_an_id_and_times() -> None:
    entry = new_entry(ENTRY, NOW)
    assert {name: entry[name] for name in ENTRY} == ENTRY
    assert len(entry["inference_server_id"]) == 36
    assert entry["registered_at"] == entry["updated_at"] == "2026-01-31T12:00:00.250Z"
    assert entry["state"] == "active"
    assert "expires_at" not in entry


def test_what_is_left_out_has_the_seeds_defaults() -> None:
    entry = new_entry({"inference_server_id": "mine"}, NOW)
    assert entry["inference_server_id"] == "mine"
    assert entry["inference_server_name"] == entry[URL] == ""
    assert entry[FACTS] == {}
    assert entry["inference_server_tags"] == []


def test_a_time_to_live_says_when_it_expires() -> None:
    entry = new_entry({"ttl_seconds": 60}, NOW)
    assert entry["expires_at"] == "2026-01-31T12:01:00.250Z"
    assert refreshed(entry, LATER)["expires_at"] == "2026-01-31T12:02:00.250Z"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"inference_server_id": "a/b"}, "inference_server_id"),
        ({"inference_server_id": "-a"}, "inference_server_id"),
        ({"inference_server_id": "a" * 129}, "inference_server_id"),
        ({"inference_server_id": 7}, "inference_server_id"),
        ({"inference_server_name": None}, "inference_server_name"),
        ({"inference_server_name": "a\nb"}, "inference_server_name"),
        ({FACTS: []}, FACTS),
        ({FACTS: {"$where": 1}}, f"{FACTS}.$where"),
        ({FACTS: {"a": "\x00"}}, f"{FACTS}.a"),
        ({FACTS: {"a": "\ud800"}}, f"{FACTS}.a"),
        ({FACTS: {"a": [2**63]}}, f"{FACTS}.a.0"),
        ({FACTS: {"a": float("nan")}}, f"{FACTS}.a"),
        ({FACTS: {"a": float("inf")}}, f"{FACTS}.a"),
        ({"inference_server_tags": "NLP"}, "inference_server_tags"),
        ({"inference_server_tags": ["a", 1]}, "inference_server_tags.1"),
        ({URL: "ftp://x"}, URL),
        ({URL: "https://u:p@x"}, URL),
        ({URL: "https://"}, URL),
        ({URL: "https://x:99999"}, URL),
        ({URL: "https://x y"}, URL),
        ({URL: "javascript:alert(1)"}, URL),
        ({"inference_server_urls": {"grpc": 1}}, "inference_server_urls.grpc"),
        ({"ttl_seconds": 1}, "ttl_seconds"),
        ({"ttl_seconds": True}, "ttl_seconds"),
        ({"registered_at": "2020-01-01T00:00:00Z"}, "registered_at"),
        ({"state": "active"}, "state"),
        ({"inference_server_nam": "x"}, "inference_server_nam"),
    ],
)
def test_what_is_no_inference_server_is_refused_with_the_fields_name(
    given: Document, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        new_entry(given, NOW)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "facts",
    [nested(MAX_DEPTH), {"a": [0] * MAX_VALUES}, {"a": "x" * MAX_BYTES}, {"a": "ü" * 40_000}],
)
def test_deep_and_large_entries_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        new_entry({FACTS: facts}, NOW)


@pytest.mark.parametrize("given", [None, [], "x", 1])
def test_an_entry_is_an_object(given: Any) -> None:
    with pytest.raises(InvalidRequest):
        new_entry(given, NOW)


def test_dots_in_the_names_of_facts_are_kept() -> None:
    facts = {"app.kubernetes.io/name": "x", "": 1}
    assert new_entry({FACTS: facts}, NOW)[FACTS] == facts


def test_a_change_is_dated() -> None:
    entry = new_entry(ENTRY, NOW)
    after = changed_entry(entry, {**entry, "inference_server_name": "x"}, LATER)
    assert after["updated_at"] == "2026-01-31T12:01:00.250Z"
    assert after["registered_at"] == entry["registered_at"]


def test_a_change_that_changes_nothing_leaves_the_entry_alone() -> None:
    entry = new_entry(ENTRY, NOW)
    assert changed_entry(entry, dict(entry), LATER) == entry


def test_true_is_not_one() -> None:
    entry = new_entry({FACTS: {"a": 1}}, NOW)
    after = changed_entry(entry, {**entry, FACTS: {"a": True}}, LATER)
    assert after[FACTS]["a"] is True
    assert after["updated_at"] != entry["updated_at"]


@pytest.mark.parametrize(
    "name", ["inference_server_id", "registered_at", "updated_at", "state", "expires_at"]
)
def test_what_the_registry_keeps_cannot_be_changed(name: str) -> None:
    entry = new_entry({**ENTRY, "ttl_seconds": 60}, NOW)
    without = {field: value for field, value in entry.items() if field != name}
    for after in ({**entry, name: "other"}, without):
        with pytest.raises(InvalidRequest) as refused:
            changed_entry(entry, after, LATER)
        assert refused.value.field == name


def test_fields_of_the_seed_cannot_be_removed() -> None:
    entry = new_entry(ENTRY, NOW)
    with pytest.raises(InvalidRequest, match="inference_server_tags"):
        changed_entry(entry, {k: v for k, v in entry.items() if "tags" not in k}, LATER)


def test_a_new_time_to_live_counts_from_the_change() -> None:
    entry = new_entry(ENTRY, NOW)
    after = changed_entry(entry, {**entry, "ttl_seconds": 60}, LATER)
    assert after["expires_at"] == "2026-01-31T12:02:00.250Z"
    without = {name: value for name, value in after.items() if name != "ttl_seconds"}
    assert "expires_at" not in changed_entry(after, without, LATER)


@pytest.mark.parametrize(
    "check",
    [
        [],
        "/health",
        {"paths": "/health"},
        {"enabled": 1},
        {"path": "health"},
        {"path": "/a b"},
        {"path": "/a\r\nHost: b"},
        {"path": "/a\\b"},
        {"path": "/" + "a" * 512},
        {"path": None},
    ],
)
def test_a_health_check_is_a_path_or_none(check: Any) -> None:
    with pytest.raises(InvalidRequest, match="health_check"):
        new_entry({"health_check": check}, NOW)


@pytest.mark.parametrize("check", [{}, {"enabled": False}, {"path": "/v1/models?limit=1"}])
def test_what_a_health_check_can_be(check: Any) -> None:
    assert new_entry({"health_check": check}, NOW)["health_check"] == check


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.example", "https://A.Example"),
        ("https://a.example", "https://a.example/"),
        ("https://a.example", "HTTPS://a.example:443"),
        ("https://a.example", "https://a.example."),
        ("http://a.example:80/x", "http://a.example/x/"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_ways_to_write_one_address(one: str, other: str) -> None:
    assert same_place(one) == same_place(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.example", "http://a.example"),
        ("https://a.example", "https://a.example:8443"),
        ("https://a.example/x", "https://a.example/X"),
        ("https://a.example/x", "https://a.example/x?y"),
        ("http://a.example:443", "http://a.example"),
    ],
)
def test_addresses_of_two_servers(one: str, other: str) -> None:
    assert same_place(one) != same_place(other)


@pytest.mark.parametrize("name", [" ", "a ", "\ta", "\u2003a"])
def test_names_have_no_blanks_at_their_ends(name: str) -> None:
    with pytest.raises(InvalidRequest, match="inference_server_name"):
        new_entry({"inference_server_name": name}, NOW)


@pytest.mark.parametrize("address", ["https://u:p@a.example", "grpc://u@a.example:1/x"])
def test_no_address_has_a_user(address: str) -> None:
    with pytest.raises(InvalidRequest, match=r"inference_server_urls\.rest"):
        new_entry({"inference_server_urls": {"rest": address}}, NOW)
