"""`GET /traces` of a real platform."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.acceptance.clients import STREAM, Connection
from tests.acceptance.metrics import chat
from tests.acceptance.platform import MODEL, Platform, wait_until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def traces(client: httpx.Client, **wanted: Any) -> list[dict[str, Any]]:
    """Return what `GET /traces` lists."""
    return list(client.get("/traces", params=wanted).raise_for_status().json()["traces"])


def traced(client: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    """Return the trace of an answer."""
    (trace,) = traces(client, request_id=answer.headers["x-request-id"])
    return trace


def test_a_trace_has_the_seeds_shape_and_its_parts(platform: Platform) -> None:
    with platform.http() as client:
        began = datetime.now(UTC)
        answer = chat(client)
        trace = traced(client, answer)
    assert trace["operation_name"] == f"inference.{MODEL}"
    assert trace["status"] == "ok"
    assert trace["duration_ms"] > 0
    assert began <= datetime.fromisoformat(trace["start_time"]) <= datetime.now(UTC)
    assert trace["start_time"].endswith("Z")
    assert (len(trace["trace_id"]), len(trace["span_id"])) == (32, 16)
    assert "parent_span_id" not in trace
    names = [span["name"] for span in trace["spans"]]
    assert names == ["queue", "time_to_first_token", "generate"]
    assert {span["parent_span_id"] for span in trace["spans"]} == {trace["span_id"]}
    assert sum(span["duration_ms"] for span in trace["spans"]) <= trace["duration_ms"] + 1
    usage, attributes = answer.json()["usage"], trace["attributes"]
    assert attributes["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert attributes["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    (pick,) = trace["events"]
    assert pick["attributes"]["inferno.attempts"] == 1


def test_nothing_of_the_content_is_kept(platform: Platform) -> None:
    with platform.http() as client:
        messages = [{"role": "user", "content": "wombat-canary"}]
        chat(client, messages=messages).raise_for_status()
        chat(client, messages=messages, max_tokens=-1)
        assert "wombat" not in client.get("/traces", params={"limit": 1000}).text


def test_a_callers_trace_goes_on(platform: Platform) -> None:
    with platform.http() as client:
        client.headers["traceparent"] = f"00-{TRACE}-{SPAN}-01"
        trace = traced(client, chat(client, stream=True))
        assert (trace["trace_id"], trace["parent_span_id"]) == (TRACE, SPAN)
        client.headers["traceparent"] = f"00-{TRACE}-{SPAN}-00"
        answer = chat(client)
        assert traces(client, request_id=answer.headers["x-request-id"]) == []
        client.headers["traceparent"] = "00-nonsense"
        assert traced(client, chat(client))["trace_id"] != TRACE


def test_traces_are_filtered(platform: Platform) -> None:
    with platform.http() as client:
        before = datetime.now(UTC).isoformat()
        good, bad = chat(client), chat(client, model="no-such-model")
        good_id, bad_id = (one.headers["x-request-id"] for one in (good, bad))

        def found(**wanted: Any) -> list[str]:
            return [one["request_id"] for one in traces(client, since=before, **wanted)]

        assert found() == [bad_id, good_id]
        assert found(limit=1) == [bad_id]
        assert found(model=MODEL) == [good_id]
        assert found(model="no-such-model") == [bad_id]
        assert found(status="ok") == [good_id]
        assert found(status="error") == [bad_id]
        assert found(tenant="default") == [bad_id, good_id]
        assert found(tenant="elsewhere") == []
        assert found(min_duration_ms=1e6) == []
        assert found(trace_id=traced(client, good)["trace_id"]) == [good_id]
        assert traced(client, bad)["error"] == "ModelNotFound"
        assert traces(client, since="2999-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("status=fine", "status"),
        ("since=yesterday", "since"),
        ("min_duration_ms=-1", "min_duration_ms"),
        ("modle=x", "modle"),
    ],
)
def test_a_filter_that_is_wrong_is_named(platform: Platform, query: str, field: str) -> None:
    with platform.http() as client:
        answer = client.get(f"/traces?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == field


def test_a_client_that_leaves_is_no_error(platform: Platform) -> None:
    body = {"model": MODEL, "prompt": "Once", "max_tokens": 1900, **STREAM}
    with platform.http() as client:
        before = datetime.now(UTC).isoformat()
        leaving = Connection(platform, "/v1/completions", body)
        leaving.read_until(b"data: ")
        leaving.leave()
        wait_until(lambda: traces(client, since=before), 30, "no trace of who left")
        (trace,) = traces(client, since=before)
    assert trace["status"] == "cancelled"
    assert trace["attributes"]["gen_ai.operation.name"] == "text_completion"


def test_every_choice_has_its_parts(platform: Platform) -> None:
    with platform.http() as client:
        trace = traced(client, chat(client, n=2))
    assert trace["attributes"]["gen_ai.request.choice.count"] == 2
    assert [span["attributes"]["inferno.choice"] for span in trace["spans"]] == [0, 0, 0, 1, 1, 1]


def test_sampling_off_keeps_nothing(start: Callable[..., Platform]) -> None:
    platform = start(environment={"INFERNO_TRACE_SAMPLING": "0"})
    with platform.http() as client:
        client.headers["traceparent"] = f"00-{TRACE}-{SPAN}-01"
        chat(client).raise_for_status()
        assert traces(client) == []


def test_the_ring_is_as_large_as_it_is_set(start: Callable[..., Platform]) -> None:
    platform = start(environment={"INFERNO_TRACE_RING": "2"})
    with platform.http() as client:
        answers = [chat(client, model=f"m{number}") for number in range(4)]
        found = [one["request_id"] for one in traces(client)]
    assert found == [answers[3].headers["x-request-id"], answers[2].headers["x-request-id"]]
