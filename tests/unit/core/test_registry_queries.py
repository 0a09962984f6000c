"""What a pool's query makes of entries."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inferno.core.documents.matching import matches
from inferno.core.inference_pools import InferencePool, InferencePoolSpec
from inferno.core.kinds import InvalidResource
from inferno.core.model_servers import ModelServer, violations
from inferno.core.registry_queries import (
    ENTRY_ANNOTATION,
    OWNERS,
    QUERY,
    SECRET,
    Plan,
    place_of,
    plan,
    query_of,
)
from inferno.core.resources import ObjectMeta

POOL = InferencePool(
    metadata=ObjectMeta(name="p" * 253, namespace="team", uid="u1"),
    spec=InferencePoolSpec(selector={"app": "llama"}, target_ports=[8000]),
)
ASKED = query_of({QUERY: "{}", SECRET: "keys/api"})


def entry(id_: str, url: str = "https://gpu.example.com", **more: Any) -> dict[str, Any]:
    return {
        "inference_server_id": id_,
        "inference_server_public_url": url,
        "inference_server_metadata": {},
        **more,
    }


def planned(entries: list[dict[str, Any]], servers: list[ModelServer]) -> Plan:
    return plan(POOL, ASKED, entries, servers)


def test_an_entry_becomes_a_server_that_the_pool_selects_and_owns() -> None:
    limits = {"quota_management_data": {"requests_per_block_id": 7, "note": "x"}}
    (made,) = planned([entry("a", inference_server_metadata=limits)], []).create
    assert made.metadata.namespace == "team"
    assert made.metadata.labels == {"app": "llama"}
    assert made.metadata.annotations == {ENTRY_ANNOTATION: "a"}
    assert [owner.uid for owner in made.metadata.owner_references] == ["u1"]
    assert len(made.metadata.name) <= 253
    assert (made.spec.address, made.spec.port) == ("gpu.example.com", 443)
    assert made.spec.tls is not None
    assert made.spec.api_key_secret_ref is not None
    assert made.spec.api_key_secret_ref.name == "keys"
    assert made.spec.quota is not None
    assert made.spec.quota.requests_per_block_id == 7
    assert list(violations(made.spec)) == []


def test_what_is_as_it_should_be_is_left_alone() -> None:
    servers = planned([entry("a"), entry("b")], []).create
    same = planned([entry("a"), entry("b")], servers)
    assert (same.create, same.update, same.delete, same.kept) == ([], [], [], 2)
    changed = planned([entry("a", "http://gpu.example.com:8000/v1")], servers)
    (update,) = changed.update
    assert update.metadata.name == servers[0].metadata.name
    assert (update.spec.port, update.spec.tls) == (8000, None)
    assert changed.delete == [servers[1].metadata.name]
    relabelled = msgspec.structs.replace(
        servers[0], metadata=msgspec.structs.replace(servers[0].metadata, labels={"app": "x"})
    )
    assert len(planned([entry("a")], [relabelled]).update) == 1
    assert len(plan(POOL, None, [], servers).delete) == 2


def test_servers_of_others_are_not_touched() -> None:
    (made,) = planned([entry("a")], []).create
    theirs = msgspec.structs.replace(
        made, metadata=msgspec.structs.replace(made.metadata, owner_references=[])
    )
    found = planned([entry("a"), entry("b")], [theirs])
    assert (found.delete, found.update, found.kept) == ([], [], 1)
    assert [one.entry for one in found.skipped] == ["a"]


@pytest.mark.parametrize(
    ("urls", "address"),
    [
        ({"https": "https://a:1", "http": "http://b:2"}, ("a", 1)),
        ({"grpc": "grpc://a:1", "http": "http://b:2"}, ("b", 2)),
        ({"rest": "http://[::1]:3/v1/"}, ("::1", 3)),
        ({"https": "https://a/deep", "rest": "http://b"}, ("b", 80)),
        ({"grpc": "grpc://a:1"}, ("public", 443)),
        ({}, ("public", 443)),
        ([], ("public", 443)),
    ],
)
def test_the_best_address_is_taken(urls: Any, address: tuple[str, int]) -> None:
    given = entry("a", "https://public", inference_server_urls=urls)
    (made,) = planned([given], []).create
    assert (made.spec.address, made.spec.port) == address


@pytest.mark.parametrize(
    "url",
    [
        "grpc://a", "ftp://a", "a:80", "http://", "http://a/api", "http://a?x=1", "http://a#x",
        "http://u:p@a", "http://169.254.169.254", "http://metadata.google.internal", "http://0x7f.1",
        "http://[fe80::1]", "http://a:0", "http://a:99999", "http://a b", "http://[", "",
    ],
)  # fmt: skip
def test_what_leads_nowhere_is_named(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        place_of(url)
    (skipped,) = planned([entry("a", url)], []).skipped
    assert skipped.entry == "a"


def test_quotas_that_are_none_keep_an_entry_out() -> None:
    wrong = {"quota_management_data": {"requests_per_block_id": -1}}
    (skipped,) = planned([entry("a", inference_server_metadata=wrong)], []).skipped
    assert "requests_per_block_id" in skipped.why


def test_a_pool_without_annotations_asks_nothing() -> None:
    assert query_of({"other": "x"}) is None


def test_entries_that_are_not_well_are_not_asked_for() -> None:
    assert ASKED is not None
    for more, found in (
        ({"state": "active"}, True),
        ({"state": "active", "health": {"state": "healthy"}}, True),
        ({"state": "active", "health": {"state": "unhealthy"}}, False),
        ({"state": "expired"}, False),
        ({}, False),
    ):
        assert matches(ASKED.filter, entry("a", **more)) is found


@pytest.mark.parametrize("value", ["", "null", "[]", "{", '{"a": {"$foo": 1}}', '{"$where": "1"}'])
def test_what_is_no_query_is_refused(value: str) -> None:
    with pytest.raises(InvalidResource) as error:
        query_of({QUERY: value})
    assert error.value.causes[0].field == f"metadata.annotations[{QUERY}]"


def test_a_key_is_not_shown_to_anyone() -> None:
    with pytest.raises(InvalidResource, match="shown the key"):
        query_of({QUERY: "{}", OWNERS: "anyone", SECRET: "keys/api"})
