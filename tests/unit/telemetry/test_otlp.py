from __future__ import annotations

import pytest

from inferno.core.errors import ConfigurationError
from inferno.telemetry.otlp import Batching, is_wanted, sampling_of
from inferno.telemetry.traces import Sampling


@pytest.mark.parametrize(
    ("ratio", "environment", "expected"),
    [
        (None, {}, Sampling(1.0, follow=True)),
        (0.25, {"OTEL_TRACES_SAMPLER": "always_on"}, Sampling(0.25, follow=True)),
        (0.0, {}, Sampling(0.0, follow=False)),
        (None, {"OTEL_TRACES_SAMPLER": "always_on"}, Sampling(1.0, follow=False)),
        (None, {"OTEL_TRACES_SAMPLER": "always_off"}, Sampling(0.0, follow=False)),
        (None, {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, Sampling(0.0, follow=True)),
        (
            None,
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
            Sampling(0.1, follow=False),
        ),
        (
            None,
            {"OTEL_TRACES_SAMPLER": "ParentBased_TraceIdRatio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
            Sampling(0.1, follow=True),
        ),
        (None, {"OTEL_TRACES_SAMPLER": "traceidratio"}, Sampling(1.0, follow=False)),
        (None, {"OTEL_TRACES_SAMPLER_ARG": "0.1"}, Sampling(1.0, follow=True)),
    ],
)
def test_the_setting_comes_before_opentelemetrys_variables(
    ratio: float | None, environment: dict[str, str], expected: Sampling
) -> None:
    assert sampling_of(ratio, environment) == expected


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "sometimes"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "0 to 1"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "x"}, "0 to 1"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"}, "0 to 1"),
    ],
)
def test_a_sampler_that_is_none_is_refused(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        sampling_of(None, environment)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://x/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "false", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_traces_are_exported_where_the_variables_say_so(
    environment: dict[str, str], wanted: bool
) -> None:
    assert is_wanted(environment) is wanted


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "URL"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
    ],
)
def test_what_is_not_there_is_refused(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        is_wanted(environment)


def test_batches_are_as_the_variables_say() -> None:
    environment = {
        "OTEL_BSP_SCHEDULE_DELAY": "250",
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "512",
    }
    assert Batching.of(environment) == Batching(delay=0.25, queue=100, batch=100)
    assert Batching.of({}) == Batching()


@pytest.mark.parametrize("text", ["0", "-1", "soon", "1.5", "²"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="OTEL_BSP_MAX_QUEUE_SIZE"):
        Batching.of({"OTEL_BSP_MAX_QUEUE_SIZE": text})
