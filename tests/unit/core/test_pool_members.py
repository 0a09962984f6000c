"""Which endpoints a pool has."""

from __future__ import annotations

from typing import Any

import msgspec

from inferno.core.inference_pools import InferencePool, InferencePoolSpec
from inferno.core.model_servers import ModelServer
from inferno.core.pool_members import members
from inferno.core.resources import Condition, ObjectMeta, Pod, PodPhase, PodSpec, PodStatus
from inferno.core.resources import PredictorModel as Model

LABELS = {"app": "vllm"}


def pool(*ports: int) -> InferencePool:
    spec = InferencePoolSpec(selector=LABELS, target_ports=list(ports or (8000,)))
    return InferencePool(metadata=ObjectMeta(name="pool"), spec=spec)


def pod(name: str, phase: PodPhase = "Ready", **metadata: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name, **{"labels": LABELS, **metadata}),
        spec=PodSpec(service="m", engine="llama_cpp", model=Model()),
        status=PodStatus(phase=phase, host="127.0.0.1", port=1234),
    )


def server(
    name: str, *, port: int | None = None, ready: bool = True, **metadata: Any
) -> ModelServer:
    document = {"metadata": {"name": name}, "spec": {"address": "gpu", "port": port}}
    found = msgspec.convert(document, ModelServer)
    found.metadata = ObjectMeta(name=name, generation=1, **{"labels": LABELS, **metadata})
    if ready:
        found.status.conditions = [
            Condition(type="Ready", status="True", reason="Ready", observed_generation=1)
        ]
    return found


def test_a_replica_listens_where_it_says() -> None:
    assert members(pool(), [pod("a"), pod("b", "Starting")], []) == [
        ("Pod", "a", "127.0.0.1", 1234, True),
        ("Pod", "b", "127.0.0.1", 1234, False),
    ]


def test_a_server_listens_on_its_port_or_on_all_of_the_pools() -> None:
    assert members(pool(81, 80), [], [server("a"), server("b", port=9)]) == [
        ("ModelServer", "a", "gpu", 80, True),
        ("ModelServer", "a", "gpu", 81, True),
        ("ModelServer", "b", "gpu", 9, True),
    ]


def test_port_0_of_the_seed_is_nowhere_to_connect_to() -> None:
    assert [one.ready for one in members(pool(0), [], [server("a")])] == [False]


def test_what_leaves_or_is_not_observed_as_it_is_now_is_not_ready() -> None:
    going = pod("a", deletion_timestamp="2026-01-01T00:00:00Z")
    changed = server("b")
    changed.metadata.generation = 2
    found = members(pool(), [going], [changed, server("c", ready=False)])
    assert [one.ready for one in found] == [False, False, False]


def test_other_labels_and_namespaces_are_not_in_the_pool() -> None:
    strangers = [pod("a", labels={"app": "other"}), pod("b", namespace="elsewhere")]
    assert members(pool(), strangers, [server("c", namespace="elsewhere")]) == []
