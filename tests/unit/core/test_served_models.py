"""What seed 002 says of an InferenceModel's fields, and what v1alpha2 says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from inferno.core.inference_models import PRIORITIES, InferenceModel
from inferno.core.inference_objectives import InferenceObjective, criticality_of
from inferno.core.served import inference_models as served
from inferno.core.served.inference_models import ModelV1Alpha1, ModelV1Alpha2
from tests.unit.core.documents import META, model_document, models


def _decoded(**spec: Any) -> ModelV1Alpha1:
    return msgspec.convert(model_document(**spec), ModelV1Alpha1)


def _refused(path: str, **spec: Any) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        _decoded(**spec)
    assert path in str(error.value)


def test_defaults_of_the_seed() -> None:
    spec = _decoded(targetModels=[{"name": "a"}]).spec
    assert spec.criticality == "Default"
    assert spec.target_models[0].weight == 1
    assert spec.pool_ref.group == "inference.networking.x-k8s.io"
    assert spec.pool_ref.kind == "InferencePool"
    assert _decoded().spec.target_models == []


def test_names_have_at_most_253_characters() -> None:
    assert _decoded(modelName="ü" * 253).spec.model_name == "ü" * 253
    _refused("$.spec.modelName", modelName="a" * 254)
    _refused("$.spec.targetModels[1].name", targetModels=[{"name": "a"}, {"name": "a" * 254}])


@pytest.mark.parametrize("criticality", ["Critical", "Default", "Sheddable"])
def test_criticalities_of_the_seed(criticality: str) -> None:
    assert _decoded(criticality=criticality).spec.criticality == criticality


@pytest.mark.parametrize("criticality", ["Standard", "critical", "", 1])
def test_criticalities_that_are_none(criticality: Any) -> None:
    _refused("$.spec.criticality", criticality=criticality)


def test_there_are_at_most_ten_targets() -> None:
    assert len(_decoded(targetModels=[{"name": "a"}] * 10).spec.target_models) == 10
    _refused("$.spec.targetModels", targetModels=[{"name": "a"}] * 11)


@pytest.mark.parametrize("weight", [0, 1, 1_000_000])
def test_weights_of_the_seed(weight: int) -> None:
    found = _decoded(targetModels=[{"name": "a", "weight": weight}])
    assert found.spec.target_models[0].weight == weight


@pytest.mark.parametrize("weight", [-1, 1_000_001, 0.5, "1", True])
def test_weights_that_are_none(weight: Any) -> None:
    _refused("$.spec.targetModels[0].weight", targetModels=[{"name": "a", "weight": weight}])


@pytest.mark.parametrize(
    "reference",
    [
        {},
        {"name": ""},
        {"name": "a" * 254},
        {"name": "a", "group": "a" * 254},
        {"name": "a", "group": "Upper.case"},
        {"name": "a", "group": ".a"},
        {"name": "a", "kind": ""},
        {"name": "a", "kind": "a" * 64},
        {"name": "a", "kind": "1a"},
        {"name": "a", "kind": "a-"},
    ],
)
def test_pool_references_that_are_none(reference: dict[str, Any]) -> None:
    _refused("$.spec.poolRef", poolRef=reference)


def test_pool_references_of_the_seed() -> None:
    reference = {"name": "a" * 253, "group": "", "kind": "a" * 63}
    assert msgspec.to_builtins(_decoded(poolRef=reference).spec.pool_ref) == reference


def test_required_fields() -> None:
    for field in ("modelName", "poolRef"):
        document = model_document()
        del document["spec"][field]
        with pytest.raises(msgspec.ValidationError, match=f"`{field}`"):
            msgspec.convert(document, ModelV1Alpha1)


def test_weights_of_v1alpha2_are_set_for_all_or_for_none() -> None:
    def causes(*weights: int | None) -> list[str]:
        targets = [{"name": "a"} if w is None else {"name": "a", "weight": w} for w in weights]
        shape = msgspec.convert(model_document(targetModels=targets), ModelV1Alpha2)
        return [cause.field for cause in served.violations_of_v1alpha2(shape)]

    assert causes() == causes(None, None) == causes(1, 0) == []
    assert causes(1, None) == ["spec.targetModels"]


def test_v1alpha2_calls_the_default_standard() -> None:
    unset = msgspec.convert(model_document(), ModelV1Alpha2)
    stored = served.from_v1alpha2(unset, META, None)
    assert stored.spec.criticality == "Default"
    assert served.to_v1alpha2(stored).spec.criticality == "Standard"
    with pytest.raises(msgspec.ValidationError, match=r"\$\.spec\.criticality"):
        msgspec.convert(model_document(criticality="Default"), ModelV1Alpha2)


@given(models)
def test_v1alpha2_says_all_there_is(model: InferenceModel) -> None:
    shape = msgspec.convert(msgspec.to_builtins(served.to_v1alpha2(model)), ModelV1Alpha2)
    assert served.from_v1alpha2(shape, model.metadata, None).spec == model.spec


@given(models)
def test_a_write_through_v1alpha1_loses_nothing(model: InferenceModel) -> None:
    shape = msgspec.convert(msgspec.to_builtins(served.to_v1alpha1(model)), ModelV1Alpha1)
    assert served.from_v1alpha1(shape, model.metadata, model).spec == model.spec
    fresh = served.from_v1alpha1(shape, model.metadata, None).spec
    assert [one.share for one in fresh.target_models] == [
        one.share for one in model.spec.target_models
    ]


def test_objectives_have_any_priority_and_a_band() -> None:
    document = {"metadata": {"name": "o"}, "spec": {"poolRef": {"name": "pool"}, "priority": -10}}
    objective = msgspec.convert(document, InferenceObjective)
    assert objective.spec.criticality == "Sheddable"
    assert objective.spec.pool_ref.reference.group == "inference.networking.k8s.io"
    del document["spec"]["priority"]  # type: ignore[attr-defined]
    assert msgspec.convert(document, InferenceObjective).spec.criticality == "Default"
    assert [criticality_of(n) for n in (-9, 0, 9)] == ["Sheddable", "Default", "Critical"]
    assert all(criticality_of(priority) == name for name, priority in PRIORITIES.items())
