"""Traces that are exported to a collector by OpenTelemetry's own variables."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.acceptance.access import NO_MODEL
from tests.acceptance.collector import attributes, collector
from tests.acceptance.metrics import chat, scrape
from tests.acceptance.platform import MODEL, Platform, wait_until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


def test_a_collector_gets_the_spans_of_an_inference(start: Callable[..., Platform]) -> None:
    with collector() as collected:
        platform = start(
            environment={
                **SOON,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collected.url,
                "OTEL_EXPORTER_OTLP_HEADERS": "x-team=models",
                "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
                "OTEL_SERVICE_NAME": "inference",
                "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            }
        )
        with platform.http() as client:
            client.headers.update(
                {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}
            )
            answer = chat(client)
        wait_until(lambda: len(collected.spans) >= 4, 30, "no spans came", platform.log_text)
        assert scrape(platform).value("inferno_traces_exported_total") == 1
    path, headers = collected.requests[0]
    assert path == "/v1/traces"
    assert headers["x-team"] == "models"
    assert headers["content-type"] == "application/x-protobuf"
    assert collected.resource["service.name"] == "inference"
    assert collected.resource["deployment.environment.name"] == "test"
    assert collected.resource["service.version"]
    root, *parts = collected.spans
    assert root.name == f"chat {MODEL}"
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, SPAN)
    assert root.trace_state == "vendor=1"
    assert root.kind == Span.SPAN_KIND_SERVER
    assert root.status.code == Status.STATUS_CODE_UNSET
    named = attributes(root.attributes)
    usage = answer.json()["usage"]
    assert named["gen_ai.operation.name"] == "chat"
    assert named["gen_ai.request.model"] == MODEL
    assert named["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    assert named["inferno.request_id"] == answer.headers["x-request-id"]
    assert [event.name for event in root.events] == ["pick"]
    assert [part.name for part in parts] == ["queue", "time_to_first_token", "generate"]
    for part in parts:
        assert (part.trace_id, part.parent_span_id) == (root.trace_id, root.span_id)
        assert root.start_time_unix_nano <= part.start_time_unix_nano <= part.end_time_unix_nano
        assert part.end_time_unix_nano <= root.end_time_unix_nano


def test_errors_are_told_and_the_service_has_a_name(start: Callable[..., Platform]) -> None:
    with collector() as collected:
        endpoint = f"{collected.url}/elsewhere"
        variables = {**SOON, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint}
        platform = start(environment={**NO_MODEL, **variables})
        with platform.http() as client:
            assert chat(client).status_code == 404
        wait_until(lambda: collected.spans, 30, "no spans came", platform.log_text)
    assert collected.requests[0][0] == "/elsewhere"
    assert collected.resource["service.name"] == "inferno"
    root = collected.spans[0]
    assert root.status.code == Status.STATUS_CODE_ERROR
    assert attributes(root.attributes)["error.type"] == "ModelNotFound"


def test_what_waits_is_exported_when_the_platform_stops(start: Callable[..., Platform]) -> None:
    with collector() as collected:
        platform = start(
            environment={
                **NO_MODEL,
                "OTEL_BSP_SCHEDULE_DELAY": "600000",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collected.url,
            }
        )
        with platform.http() as client:
            for _ in range(3):
                chat(client)
        assert platform.stop() == 0
        roots = [span for span in collected.spans if span.kind == Span.SPAN_KIND_SERVER]
        assert len(roots) == 3


def test_the_variables_decide_what_is_exported(start: Callable[..., Platform]) -> None:
    with collector() as collected:
        for data, variables, traced in (
            ("disabled", {"OTEL_SDK_DISABLED": "true"}, 1),
            ("none", {"OTEL_TRACES_EXPORTER": "none"}, 1),
            ("off", {"OTEL_TRACES_SAMPLER": "always_off"}, 0),
        ):
            given = {**NO_MODEL, **SOON, "OTEL_EXPORTER_OTLP_ENDPOINT": collected.url, **variables}
            platform = start(data=data, environment=given)
            with platform.http() as client:
                chat(client)
                assert len(client.get("/traces").json()["traces"]) == traced
            assert platform.stop() == 0
    assert collected.requests == []


def test_a_collector_that_is_away_stops_nobody(start: Callable[..., Platform]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    platform = start(
        environment={
            **NO_MODEL,
            **SOON,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        }
    )
    with platform.http() as client:
        assert chat(client).status_code == 404
    wait_until(
        lambda: scrape(platform).value("inferno_traces_dropped_total") == 1,
        30,
        "nothing was given up",
        platform.log_text,
    )
    assert platform.stop() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
    ],
)
def test_a_variable_that_makes_no_sense_is_told_at_the_start(
    start: Callable[..., Platform], name: str, value: str
) -> None:
    with pytest.raises(AssertionError, match=f"exit code [1-9](.|\n)*{name}"):
        start(environment={**NO_MODEL, name: value})
