"""The kinds of seed 002 in the store: what any version of the API can say survives, exactly."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inferno.core.inference_models import InferenceModel
from inferno.core.inference_objectives import InferenceObjective
from inferno.core.inference_pools import InferencePool
from inferno.core.model_servers import ModelServer
from inferno.core.resources import Resource
from inferno.storage.resources import SqlResourceStore

CONDITION = {
    "type": "Accepted",
    "status": "True",
    "reason": "Accepted",
    "message": "So it is.",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
    "observedGeneration": 3,
}
DOCUMENTS: list[tuple[type[Resource], dict[str, Any]]] = [
    (
        InferencePool,
        {
            "spec": {
                "selector": {"app": "vllm", "example.com/empty": ""},
                "targetPorts": [0, 8000, 65535],
                "appProtocol": "kubernetes.io/h2c",
                "endpointPicker": {"name": "epp", "port": 9002, "failureMode": "FailOpen"},
            },
            "status": {"endpoints": 3, "readyEndpoints": 2, "conditions": [CONDITION]},
        },
    ),
    (
        InferenceModel,
        {
            "spec": {
                "modelName": "ü" * 256,
                "poolRef": {"name": "pool", "group": "", "kind": "InferencePool"},
                "criticality": "Sheddable",
                "targetModels": [{"name": "a", "weight": 0}, {"name": "b"}],
            },
            "status": {"conditions": [CONDITION]},
        },
    ),
    (
        InferenceObjective,
        {
            "spec": {"poolRef": {"name": "pool"}, "priority": -(2**31)},
            "status": {"conditions": [CONDITION]},
        },
    ),
    (
        ModelServer,
        {
            "spec": {
                "address": "gpu1.example.com",
                "port": 443,
                "tls": {},
                "apiKeySecretRef": {"name": "keys", "key": "api"},
                "metrics": "vllm",
                "models": ["base", "adapter"],
            },
            "status": {"engine": "vllm", "models": ["base"], "conditions": [CONDITION]},
        },
    ),
]


def resource(kind: type[Resource], document: dict[str, Any]) -> Resource:
    return msgspec.convert({"metadata": {"name": "one"}, **document}, kind)


@pytest.mark.parametrize(
    ("kind", "document"), DOCUMENTS, ids=lambda one: getattr(one, "__name__", "")
)
async def test_it_comes_back_as_it_was(
    kind: type[Resource], document: dict[str, Any], store: SqlResourceStore
) -> None:
    watch = store.watch(kind)
    created = await store.create(resource(kind, document))
    assert (created.spec, created.status) == (
        resource(kind, document).spec,
        resource(kind, document).status,
    )
    assert await store.get(kind, "one") == created
    assert (await store.list(kind))[0] == [created]
    assert (await anext(watch)).resource == created
    assert await store.update(created) == created
    await store.delete(kind, "one")
    assert (await store.list(kind))[0] == []
