"""The kinds of seed 002 in a running platform: written, checked, made true, and routed by."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.platform import MODEL, Platform, wait_until

EXPERIMENTAL = "/k8s/apis/inference.networking.x-k8s.io"
STABLE = "/k8s/apis/inference.networking.k8s.io/v1"
SPACE = "namespaces/default"
MODELS = f"{EXPERIMENTAL}/v1alpha1/{SPACE}/inferencemodels"
POOLS = f"{EXPERIMENTAL}/v1alpha1/{SPACE}/inferencepools"
SERVERS = f"/k8s/apis/inferno.dev/v1alpha1/{SPACE}/modelservers"
SECRETS = f"/k8s/api/v1/{SPACE}/secrets"
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture
def api(platform: Platform) -> Iterator[httpx.Client]:
    """A client of the control plane; what tests leave behind is removed."""
    headers = {"Authorization": f"Bearer {platform.api_key}"}
    with httpx.Client(base_url=platform.management_url, headers=headers, timeout=30) as client:
        yield client
        for collection in (MODELS, POOLS, SERVERS, SECRETS):
            client.delete(collection).raise_for_status()


def pool(name: str = "tiny", **spec: Any) -> dict[str, Any]:
    selector = {"serving.kserve.io/inferenceservice": MODEL}
    wanted = {"selector": selector, "targetPortNumber": 8000, **spec}
    return {"metadata": {"name": name}, "spec": wanted}


def model(name: str, model_name: str = "chat", **spec: Any) -> dict[str, Any]:
    wanted = {"modelName": model_name, "poolRef": {"name": "tiny"}, **spec}
    return {"metadata": {"name": name}, "spec": wanted}


def create(api: httpx.Client, collection: str, document: dict[str, Any]) -> dict[str, Any]:
    answer = api.post(collection, json=document)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def wait_for(api: httpx.Client, url: str, kind: str, status: str, reason: str) -> dict[str, Any]:
    """Wait until a condition is as it should be, and return it."""
    found: dict[str, Any] = {}

    def holds() -> bool:
        conditions = api.get(url).raise_for_status().json()["status"]["conditions"]
        found.clear()
        found.update(next((one for one in conditions if one["type"] == kind), {}))
        return (found.get("status"), found.get("reason")) == (status, reason)

    wait_until(holds, 20, f"{url}: {kind} is not {status}/{reason}", lambda: str(found))
    return found


def test_everything_that_is_wrong_is_named(api: httpx.Client) -> None:
    wrong = model("wrong", "m" * 254, criticality="Standard", poolRef={"name": ""})
    wrong["spec"]["targetModels"] = [{"name": "a", "weight": -1}, {"weight": 1_000_001}]
    answer = api.post(MODELS, json=wrong)
    assert answer.status_code == 422
    causes = {cause["field"]: cause["reason"] for cause in answer.json()["details"]["causes"]}
    assert causes == {
        "spec.modelName": "FieldValueTooLong",
        "spec.criticality": "FieldValueNotSupported",
        "spec.poolRef.name": "FieldValueInvalid",
        "spec.targetModels[0].weight": "FieldValueInvalid",
        "spec.targetModels[1].name": "FieldValueRequired",
        "spec.targetModels[1].weight": "FieldValueInvalid",
    }
    answer = api.post(POOLS, json=pool(targetPortNumber=65536))
    assert answer.status_code == 422
    assert "spec.targetPortNumber" in answer.json()["message"]


def test_defaults_are_filled_in_and_versions_agree(api: httpx.Client) -> None:
    created = create(api, MODELS, model("a", targetModels=[{"name": MODEL}]))
    assert created["spec"]["criticality"] == "Default"
    assert created["spec"]["targetModels"] == [{"name": MODEL, "weight": 1}]
    newer = api.get(f"{EXPERIMENTAL}/v1alpha2/{SPACE}/inferencemodels/a").json()
    assert newer["spec"]["criticality"] == "Standard"
    ports = {"targetPorts": [{"number": 8000}, {"number": 8001}], "appProtocol": "http"}
    selector = {"matchLabels": {"app": "a"}}
    stable = f"{STABLE}/{SPACE}/inferencepools"
    create(api, stable, {"metadata": {"name": "p"}, "spec": {"selector": selector, **ports}})
    patch = {"spec": {"targetPortNumber": 9000}}
    assert api.patch(f"{POOLS}/p", json=patch, headers=MERGE).status_code == 200
    spec = api.get(f"{stable}/p").json()["spec"]
    assert spec["targetPorts"] == [{"number": 9000}, {"number": 8001}]
    assert spec["appProtocol"] == "http"


def test_requests_go_by_the_name_and_the_status_says_so(
    api: httpx.Client, platform: Platform
) -> None:
    def ask(name: str) -> httpx.Response:
        with platform.http() as client:
            message = {"role": "user", "content": "Hello"}
            body = {"model": name, "messages": [message], "max_tokens": 4}
            return client.post("/v1/chat/completions", json=body)

    create(api, MODELS, model("a", targetModels=[{"name": MODEL}]))
    wait_for(api, f"{MODELS}/a", "Accepted", "False", "PoolNotFound")
    create(api, POOLS, pool())
    ready = wait_for(api, f"{POOLS}/tiny", "Ready", "True", "Ready")
    assert ready["observedGeneration"] == 1
    wait_for(api, f"{MODELS}/a", "Accepted", "True", "Accepted")
    wait_for(api, f"{MODELS}/a", "Routed", "True", "Routed")
    wait_until(lambda: ask("chat").status_code == 200, 20, "'chat' is not routed")
    create(api, MODELS, model("b", targetModels=[{"name": MODEL, "weight": 0}]))
    taken = wait_for(api, f"{MODELS}/b", "Accepted", "False", "ModelNameInUse")
    assert "'a'" in taken["message"]

    api.delete(f"{MODELS}/a").raise_for_status()
    wait_for(api, f"{MODELS}/b", "Accepted", "False", "NoValidTarget")
    wait_until(lambda: ask("chat").status_code == 404, 20, "the name is not reserved")
    assert "no valid target" in ask("chat").text


def test_a_server_that_does_not_answer_is_not_ready(api: httpx.Client) -> None:
    labels = {"app": "gone"}
    create(
        api,
        SERVERS,
        {"metadata": {"name": "gone", "labels": labels}, "spec": {"address": "127.0.0.1"}},
    )
    create(api, POOLS, pool("gone", selector=labels, targetPortNumber=1))
    wait_until(
        lambda: (
            {
                one["type"]: one["status"]
                for one in api.get(f"{SERVERS}/gone").json()["status"].get("conditions", [])
            }
            == {"Reachable": "False", "Ready": "False"}
        ),
        20,
        "nobody looked at the server",
    )
    wait_for(api, f"{POOLS}/gone", "Ready", "False", "NoReadyEndpoints")


def test_secrets_are_never_shown(api: httpx.Client, platform: Platform) -> None:
    value = "a-value-that-nobody-should-see"
    encoded = base64.b64encode(value.encode()).decode()
    document = {"metadata": {"name": "keys"}, "stringData": {"api": value}}
    shown = [create(api, SECRETS, document)]
    shown.append(api.get(f"{SECRETS}/keys").json())
    again = api.put(f"{SECRETS}/keys", json=shown[1])
    assert again.status_code == 200, again.text
    assert again.json()["metadata"]["resourceVersion"] == shown[1]["metadata"]["resourceVersion"]
    shown += [again.json(), api.get(SECRETS).json()]
    assert value not in str(shown)
    assert encoded not in str(shown)
    assert shown[0]["data"] == {"api": "KGhpZGRlbik="}
    for file in platform.data_dir.glob("inferno.db*"):
        assert value.encode() not in file.read_bytes()
        assert encoded.encode() not in file.read_bytes()
    assert value not in platform.log_text()
