from __future__ import annotations

from inferno.core.resources import ObjectMeta, Pod, PodSpec, PodStatus, PredictorModel
from inferno.gateway import gauges
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.lines import LineTable
from inferno.gateway.picking import Picker
from inferno.gateway.scraping import EndpointLoad
from inferno.gateway.upstream import Address
from inferno.telemetry.metrics import Measured, Value


def endpoint(name: str, *, model: str = "tiny", in_flight: int = 0) -> Endpoint:
    return Endpoint(
        name=name,
        model=model,
        address=Address("127.0.0.1", 1),
        authorization=b"",
        capacity=8,
        slots=4,
        context_size=10,
        capabilities=None,
        in_flight=in_flight,
    )


def pod(name: str, **status: object) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name),
        spec=PodSpec(service="tiny", engine="llama_cpp", model=PredictorModel()),
        status=PodStatus(**status),  # type: ignore[arg-type]
    )


def values(measured: list[Measured], name: str) -> dict[tuple[str, ...], Value]:
    (found,) = [one for one in measured if one.family.name == name]
    return dict(found.values)


def test_pools_are_measured_by_what_is_fit_in_them() -> None:
    lines = LineTable(max_waiting=10, picker=Picker.parse("queue"))
    line = lines.line("pool:acme/chat")
    for one in (endpoint("a", in_flight=6), endpoint("b"), endpoint("gone", in_flight=8)):
        one.health.reachable = one.name != "gone"
        line.add(one)
    lines.line("pool:acme/empty")
    measured = list(gauges.of_pools(lines.lines()))
    assert values(measured, "inference_pool_ready_pods") == {
        ("acme/chat",): 2,
        ("acme/empty",): 0,
    }
    # Six requests in four slots: two of them wait, one on average.
    assert values(measured, "inference_pool_average_queue_size") == {("acme/chat",): 1.0}
    assert values(measured, "inferno_pool_requests_waiting") == {
        ("acme/chat",): 0,
        ("acme/empty",): 0,
    }


def test_what_engines_said_is_repeated_for_a_while() -> None:
    fresh, stale, silent = endpoint("fresh"), endpoint("stale"), endpoint("silent", in_flight=3)
    loads = {
        fresh: EndpointLoad(waiting=1, running=4, kv_cache_usage=0.5, batch_size=2.5, at=95.0),
        stale: EndpointLoad(waiting=9, running=9, at=100.0 - gauges.STALE_AFTER - 1),
    }
    measured = list(gauges.of_endpoints([fresh, stale, silent], loads, 100.0))
    here = ("tiny", "fresh")
    assert values(measured, "inferno_engine_requests_waiting") == {here: 1}
    assert values(measured, "inferno_engine_requests_running") == {here: 4}
    assert values(measured, "inferno_engine_kv_cache_usage_ratio") == {here: 0.5}
    assert values(measured, "inferno_engine_batch_size") == {here: 2.5}
    assert values(measured, "inferno_engine_metrics_age_seconds") == {here: 5.0}
    assert values(measured, "inferno_replica_requests_running")["tiny", "silent"] == 3


def test_replicas_are_measured() -> None:
    first = pod("a", phase="Ready", ready_at="2026-01-01", load_time_ms=100, memory_bytes=5)
    second = pod(
        "b", phase="Ready", ready_at="2026-01-02", load_time_ms=250, memory_bytes=7, restarts=2
    )
    measured = list(gauges.of_pods([second, first, pod("c", phase="Failed")]))
    assert values(measured, "inferno_replicas") == {("tiny", "Ready"): 2, ("tiny", "Failed"): 1}
    assert values(measured, "inferno_replica_restarts_total")["tiny", "b"] == 2
    assert values(measured, "inferno_model_load_time_seconds") == {("tiny", "llama_cpp"): 0.25}
    assert values(measured, "inferno_model_memory_bytes") == {("tiny",): 12}
