"""ModelServers: what they may say, and what becomes of observations."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inferno.core import conditions
from inferno.core.model_servers import ModelServer, Observation, observed, violations


def server(**spec: Any) -> ModelServer:
    document = {
        "metadata": {"name": "gpu1", "generation": 1},
        "spec": {"address": "10.0.0.7", **spec},
    }
    return msgspec.convert(document, ModelServer)


def test_defaults() -> None:
    spec = server().spec
    assert (spec.port, spec.tls, spec.api_key_secret_ref) == (None, None, None)
    assert (spec.metrics, spec.models) == ("auto", [])
    assert server(tls={}).spec.tls is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", ""),
        ("address", "a" * 254),
        ("port", 0),
        ("port", 65536),
        ("metrics", "prometheus"),
        ("tls", True),
        ("apiKeySecretRef", {"name": "s"}),
        ("apiKeySecretRef", {"name": "s", "key": "a/b"}),
        ("models", [""]),
        ("models", ["m"] * 257),
    ],
)
def test_wrong_values_are_named(field: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.spec\.{field}"):
        server(**{field: value})


def test_what_types_cannot_say() -> None:
    wrong = server(address="http://x", tls={"serverName": "a b"}, models=["m", "n", "m"]).spec
    assert [cause.field for cause in violations(wrong)] == [
        "spec.address",
        "spec.tls.serverName",
        "spec.models[2]",
    ]
    assert list(violations(server(tls={"serverName": "llm.example.com"}).spec)) == []


def _seen(reachable: bool, *, generation: int = 1, **more: Any) -> Observation:
    return Observation(generation=generation, reachable=reachable, **more)


def test_an_observation_becomes_a_condition_that_keeps_its_time() -> None:
    one = server()
    one.status = observed(one, _seen(True, engine="vllm", models=("m",)), now="t1")
    assert (one.status.engine, one.status.models) == ("vllm", ["m"])
    one.status = observed(one, _seen(True), now="t2")
    assert (one.status.engine, one.status.models) == ("vllm", ["m"])
    condition = conditions.find(one.status.conditions, "Reachable")
    assert condition is not None
    assert (condition.status, condition.reason, condition.last_transition_time) == (
        "True",
        "Answered",
        "t1",
    )
    one.status = observed(one, _seen(False, reason="ConnectionRefused", message="No."), now="t3")
    condition = conditions.find(one.status.conditions, "Reachable")
    assert condition is not None
    assert (condition.status, condition.reason, condition.last_transition_time) == (
        "False",
        "ConnectionRefused",
        "t3",
    )
    assert condition.observed_generation == 1


def test_an_observation_of_an_older_spec_says_nothing() -> None:
    one = server()
    one.metadata.generation = 2
    assert observed(one, _seen(True), now="t").conditions == []
