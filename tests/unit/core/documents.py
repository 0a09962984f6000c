"""Documents of seed 002 as clients send them, and strategies that make stored resources."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from inferno.core.inference_models import InferenceModel, InferenceModelSpec, TargetModel
from inferno.core.inference_pools import EndpointPicker, InferencePool, InferencePoolSpec
from inferno.core.references import INFERENCE_GROUP, INFERENCE_GROUP_V1, PoolReference
from inferno.core.resources import ObjectMeta

META = ObjectMeta(name="one", creation_timestamp="2026-01-01T00:00:00Z")


def pool_document(**spec: Any) -> dict[str, Any]:
    return {"spec": {"selector": {"app": "vllm"}, "targetPortNumber": 8000, **spec}}


def model_document(**spec: Any) -> dict[str, Any]:
    return {"spec": {"modelName": "chat", "poolRef": {"name": "pool"}, **spec}}


names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
ports = st.integers(1, 65535)
selectors = st.dictionaries(names, names, max_size=3)
pickers = st.builds(
    EndpointPicker,
    name=names,
    group=st.sampled_from(["", "example.com"]),
    port=st.one_of(st.none(), ports),
    failure_mode=st.sampled_from(["FailOpen", "FailClose"]),
)
pools = st.builds(
    InferencePool,
    metadata=st.just(META),
    spec=st.builds(
        InferencePoolSpec,
        selector=selectors,
        target_ports=st.lists(ports, min_size=1, max_size=8, unique=True),
        app_protocol=st.sampled_from(["", "http", "kubernetes.io/h2c"]),
        endpoint_picker=st.one_of(st.none(), pickers),
    ),
)
weights = st.one_of(st.none(), st.integers(0, 1_000_000))
targets = st.lists(st.builds(TargetModel, name=names, weight=weights), max_size=10)
models = st.builds(
    InferenceModel,
    metadata=st.builds(
        ObjectMeta,
        name=names,
        namespace=st.sampled_from(["default", "other"]),
        creation_timestamp=st.sampled_from([f"2026-01-01T00:00:0{i}Z" for i in range(4)]),
        deletion_timestamp=st.sampled_from([None, None, None, "2026-01-02T00:00:00Z"]),
    ),
    spec=st.builds(
        InferenceModelSpec,
        model_name=st.sampled_from(["chat", "code"]),
        pool_ref=st.builds(
            PoolReference,
            name=st.sampled_from(["a", "b"]),
            group=st.sampled_from([INFERENCE_GROUP, INFERENCE_GROUP_V1]),
        ),
        criticality=st.sampled_from(["Critical", "Default", "Sheddable"]),
        target_models=targets,
    ),
)
