"""Durations as `kubectl` writes them, calls, and errors as `Status` objects."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from inferno.cluster.calls import Options, Place, discovery_version, place_of, wanted_form
from inferno.cluster.status import REASONS, Subject, status_object
from inferno.cluster.tables import age, duration
from inferno.core import errors
from inferno.core.errors import InvalidRequest
from inferno.core.kinds import Cause, InvalidResource
from inferno.web.errors import STATUSES


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (600, "10m"), (10_799, "179m"),
        (10_800, "3h"), (12_000, "3h20m"), (28_800, "8h"), (172_799, "47h"), (172_800, "2d"),
        (200_000, "2d7h"), (691_200, "8d"), (63_072_000, "2y"), (70_000_000, "2y80d"),
    ],
)  # fmt: skip
def test_durations(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_ages() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age("2025-12-31T23:59:00Z", now) == "60s"
    assert age("2027-12-31T23:59:00Z", now) == "0s"
    assert age("", now) == "<unknown>"
    assert age("soon", now) == "<invalid>"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/api/v1/pods", Place("", "v1", "pods")),
        ("/api/v1/namespaces", Place("", "v1", "namespaces")),
        ("/api/v1/namespaces/a", Place("", "v1", "namespaces", name="a")),
        ("/api/v1/namespaces/a/status", Place("", "v1", "namespaces", None, "a", "status")),
        ("/api/v1/namespaces/a/pods/b/log", Place("", "v1", "pods", "a", "b", "log")),
        ("/apis/g/v/namespaces/a/xs/b", Place("g", "v", "xs", "a", "b")),
        ("/apis/g/v/xs", Place("g", "v", "xs")),
        ("/apis/g/v", None),
        ("/api", None),
        ("/api/v1/namespaces/a/pods/b/c/d", None),
        ("/api/v1//pods", None),
    ],
)
def test_places(path: str, place: Place | None) -> None:
    assert place_of(path) == place


def test_forms() -> None:
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    assert wanted_form(table).form == "Table"
    assert wanted_form("application/json;as=Table;v=v1beta1;g=meta.k8s.io").form == "object"
    assert wanted_form("application/vnd.kubernetes.protobuf,application/json").form == "object"
    assert wanted_form("").form == "object"
    aggregated = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
    assert discovery_version(aggregated.format("v2")) == "v2"
    assert discovery_version(aggregated.format("v2beta1")) == "v2beta1"
    assert discovery_version("application/json") is None


@pytest.mark.parametrize(
    "query", ["dryRun=Some", "fieldValidation=Maybe", "watch=x", "limit=x", "a=1&" * 65]
)
def test_options_that_cannot_be_read(query: str) -> None:
    def read() -> None:
        options = Options.of(query.encode())
        _ = options.dry_run, options.validation
        options.flag("watch")
        options.number("limit")

    with pytest.raises(InvalidRequest):
        read()


def test_every_error_has_a_reason() -> None:
    """What the other APIs map, this one maps too, to the same status unless it says otherwise."""
    for error, status in STATUSES.items():
        found = next(REASONS[cls] for cls in error.__mro__ if cls in REASONS)
        assert found[0] == status, error


def test_status_objects_say_it_in_the_words_of_kubernetes() -> None:
    subject = Subject("g.io", "Thing", "things", "a")
    missing = status_object(errors.NotFound("no"), subject)
    assert missing["message"] == 'things.g.io "a" not found'
    assert missing["details"] == {"name": "a", "group": "g.io", "kind": "things"}
    wrong = InvalidResource([Cause("spec.a", "Required value", "FieldValueRequired")])
    invalid = status_object(wrong, subject)
    assert (invalid["code"], invalid["reason"]) == (422, "Invalid")
    assert invalid["message"] == 'Thing.g.io "a" is invalid: spec.a: Required value'
    assert invalid["details"]["causes"] == [
        {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"}
    ]
    full = status_object(errors.Overloaded("full", retry_after=3), subject)
    assert full["details"]["retryAfterSeconds"] == 3
