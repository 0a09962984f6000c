"""What seed 002 says of an InferencePool's fields, and what its later versions say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from inferno.core.inference_pools import InferencePool, InferencePoolSpec
from inferno.core.resources import Condition
from inferno.core.served import inference_pools as served
from inferno.core.served.inference_pools import PoolV1, PoolV1Alpha1, PoolV1Alpha2
from tests.unit.core.documents import META, pool_document, pools


def _refused(shape: type[msgspec.Struct], document: dict[str, Any], path: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert(document, shape)
    assert path in str(error.value)


def _accepted(shape: type[msgspec.Struct], document: dict[str, Any]) -> None:
    msgspec.convert(document, shape)


@pytest.mark.parametrize("port", [0, 1, 65535])
def test_ports_of_the_seed(port: int) -> None:
    _accepted(PoolV1Alpha1, pool_document(targetPortNumber=port))


@pytest.mark.parametrize("port", [-1, 65536, 1.5, "80", True])
def test_ports_that_are_none(port: Any) -> None:
    _refused(PoolV1Alpha1, pool_document(targetPortNumber=port), "$.spec.targetPortNumber")


@pytest.mark.parametrize("field", ["selector", "targetPortNumber"])
def test_required_fields(field: str) -> None:
    document = pool_document()
    del document["spec"][field]
    _refused(PoolV1Alpha1, document, f"missing required field `{field}`")


def _about_keys(*keys: str) -> list[str]:
    selector = dict.fromkeys(keys, "")
    older = msgspec.convert(pool_document(selector=selector), PoolV1Alpha1)
    found = served.violations(older)
    newer = msgspec.convert(_v1(selector={"matchLabels": selector}), PoolV1)
    assert {cause.field for cause in found} <= {"spec.selector"}
    assert [cause.message for cause in served.violations_of_v1(newer)] == [
        cause.message for cause in found
    ]
    return [cause.message for cause in found]


@pytest.mark.parametrize(
    "key",
    ["example", "example.com", "example.com/path", "example.com/path.html", "A-b_c.d", "a" * 63],
)
def test_label_keys_of_the_seed(key: str) -> None:
    assert _about_keys(key) == []


@pytest.mark.parametrize(
    "key",
    ["", "example~", "example.com.", ".ex", "a" * 64, "A.b/c", "a//b", f"{'a.' * 126}a/bc", "a\n"],
)
def test_label_keys_that_are_none(key: str) -> None:
    assert len(_about_keys("fine", key)) == 1


@pytest.mark.parametrize("value", ["", "MyValue", "my.name", "123-my-value", "a" * 63])
def test_label_values_of_the_seed(value: str) -> None:
    _accepted(PoolV1Alpha1, pool_document(selector={"app": value}))


@pytest.mark.parametrize("value", ["-a", "a-", "a b", "ä", "a" * 64, 1, None])
def test_label_values_that_are_none(value: Any) -> None:
    _refused(PoolV1Alpha1, pool_document(selector={"app": value}), "$.spec.selector")


def test_v1alpha2_has_ports_from_1_and_an_extension() -> None:
    extension = {"name": "picker"}
    shape = msgspec.convert(pool_document(extensionRef=extension), PoolV1Alpha2)
    found = shape.spec.extension_ref
    assert found is not None
    assert (found.group, found.kind, found.failure_mode) == ("", "Service", "FailClose")
    _refused(PoolV1Alpha2, pool_document(targetPortNumber=0), "$.spec.targetPortNumber")
    for wrong in (
        {},
        {"name": ""},
        {**extension, "failureMode": "Fail"},
        {**extension, "kind": ""},
    ):
        _refused(PoolV1Alpha2, pool_document(extensionRef=wrong), "$.spec.extensionRef")


def _v1(**spec: Any) -> dict[str, Any]:
    ports = [{"number": 8000}]
    return {"spec": {"selector": {"matchLabels": {"app": "vllm"}}, "targetPorts": ports, **spec}}


def test_v1_has_one_to_eight_ports() -> None:
    _accepted(PoolV1, _v1(targetPorts=[{"number": port} for port in range(1, 9)]))
    _refused(PoolV1, _v1(targetPorts=[]), "$.spec.targetPorts")
    _refused(PoolV1, _v1(targetPorts=[{"number": n} for n in range(1, 10)]), "$.spec.targetPorts")
    _refused(PoolV1, _v1(targetPorts=[{"number": 0}]), "$.spec.targetPorts[0].number")
    _refused(PoolV1, _v1(appProtocol="h3"), "$.spec.appProtocol")
    _refused(PoolV1, {"spec": {"selector": {}, "targetPorts": [{"number": 1}]}}, "matchLabels")


def test_ports_of_v1_are_unique() -> None:
    ports = [{"number": 80}, {"number": 81}, {"number": 80}]
    causes = served.violations_of_v1(msgspec.convert(_v1(targetPorts=ports), PoolV1))
    assert [(cause.field, cause.reason) for cause in causes] == [
        ("spec.targetPorts[2].number", "FieldValueDuplicate")
    ]


def test_a_service_that_picks_needs_a_port() -> None:
    picker = {"name": "picker"}
    bare = msgspec.convert(_v1(endpointPickerRef=picker), PoolV1)
    assert [cause.field for cause in served.violations_of_v1(bare)] == [
        "spec.endpointPickerRef.port"
    ]
    whole = msgspec.convert(_v1(endpointPickerRef={**picker, "port": {"number": 9002}}), PoolV1)
    assert served.violations_of_v1(whole) == []


@given(pools)
def test_v1_says_all_there_is(pool: InferencePool) -> None:
    shape = served.to_v1(pool)
    again = msgspec.convert(msgspec.to_builtins(shape), PoolV1)
    assert served.from_v1(again, pool.metadata, None).spec == pool.spec


@given(pools)
def test_a_write_through_an_older_version_loses_nothing(pool: InferencePool) -> None:
    old = msgspec.convert(msgspec.to_builtins(served.to_v1alpha1(pool)), PoolV1Alpha1)
    assert served.from_v1alpha1(old, pool.metadata, pool).spec == pool.spec
    newer = msgspec.convert(msgspec.to_builtins(served.to_v1alpha2(pool)), PoolV1Alpha2)
    assert served.from_v1alpha2(newer, pool.metadata, pool).spec == pool.spec


@given(pools)
def test_versions_agree_on_what_they_share(pool: InferencePool) -> None:
    alpha1, alpha2, one = served.to_v1alpha1(pool), served.to_v1alpha2(pool), served.to_v1(pool)
    assert alpha1.spec.selector == alpha2.spec.selector == one.spec.selector.match_labels
    assert alpha1.spec.target_port_number == one.spec.target_ports[0].number
    assert alpha1.spec.target_port_number == alpha2.spec.target_port_number


def test_a_new_first_port_leaves_the_others_unique() -> None:
    spec = InferencePoolSpec(selector={"a": "b"}, target_ports=[1, 2, 3])
    pool = InferencePool(metadata=META, spec=spec)
    shape = served.to_v1alpha1(pool)
    shape.spec.target_port_number = 3
    assert served.from_v1alpha1(shape, META, pool).spec.target_ports == [3, 2]


def test_a_pool_that_nobody_looked_at_is_pending() -> None:
    pool = InferencePool(
        metadata=META, spec=InferencePoolSpec(selector={"a": "b"}, target_ports=[1])
    )
    shown = msgspec.to_builtins(served.to_v1alpha1(pool))["status"]["conditions"]
    assert shown == [
        {
            "type": "Accepted",
            "status": "Unknown",
            "reason": "Pending",
            "message": "Waiting for controller",
            "lastTransitionTime": META.creation_timestamp,
        }
    ]


def test_the_status_of_v1_is_that_of_this_platforms_gateway() -> None:
    pool = InferencePool(
        metadata=META, spec=InferencePoolSpec(selector={"a": "b"}, target_ports=[1])
    )
    pool.status.conditions = [Condition(type="Accepted", status="True", reason="Accepted")]
    shape = served.to_v1(pool)
    assert [parent.parent_ref.name for parent in shape.status.parents] == ["inferno"]
    assert served.from_v1(shape, META, pool).status == pool.status
