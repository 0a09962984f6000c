"""A model from `apply` to `delete`: services, replicas, logs, scaling and events."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferno.engines.bundled import model_path
from tests.acceptance.kubernetes import Kubectl, kubeconfig, manifest
from tests.acceptance.platform import Platform, wait_until

SERVICE = "isvc/second"


def service(name: str, *, replicas: int) -> dict[str, object]:
    model = {"modelFormat": {"name": "gguf"}, "storageUri": model_path().as_uri()}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"replicas": replicas, "maxReplicas": 2, "model": model}},
    }


@pytest.fixture
def kubectl(platform: Platform, tmp_path: Path) -> Kubectl:
    return Kubectl(kubeconfig(platform, tmp_path / "config"))


def test_a_model_from_apply_to_delete(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", text=manifest(service("second", replicas=1)))
    kubectl("wait", "--for=condition=Ready", SERVICE, "--timeout=60s")
    kubectl("wait", "--for=condition=Ready", "pod", "-l", "inferno.dev/service=second")
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/second")
    (pod,) = kubectl.json("get", "pods", "-l", "inferno.dev/service=second")["items"]
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["containerStatuses"][0]["ready"] is True
    name = pod["metadata"]["name"]
    assert "listening" in kubectl("logs", name)
    assert kubectl("logs", "deployment/second", "--tail=1").count("\n") == 1
    assert "not valid for pod" in kubectl.fails("logs", name, "-c", "other")
    wait_until(
        lambda: (
            "Ready" in kubectl("get", "events", "--field-selector", f"involvedObject.name={name}")
        ),
        20,
        "there is no event",
    )
    assert "Ready" in kubectl("describe", "pod", name).partition("Events:")[2]
    kubectl("scale", SERVICE, "--replicas=2")
    kubectl("wait", "--for=jsonpath={.status.readyReplicas}=2", SERVICE, "--timeout=60s")
    assert kubectl.json("get", "deployment", "second")["status"]["readyReplicas"] == 2
    error = kubectl.fails("scale", "deployment/second", "--replicas=3")
    assert "maxReplicas, which is 2" in error
    kubectl("scale", "deployment/second", "--replicas=0")
    kubectl("wait", "--for=delete", "pod", "-l", "inferno.dev/service=second", "--timeout=60s")
    kubectl("delete", SERVICE)
    assert "NotFound" in kubectl.fails("get", SERVICE)


def test_a_pod_that_is_deleted_is_replaced(kubectl: Kubectl) -> None:
    selector = "inferno.dev/service=inferno-tiny"
    before = kubectl.json("get", "pods", "-l", selector)["items"][0]["metadata"]["name"]
    kubectl("delete", "pod", before)
    kubectl("wait", "--for=condition=Ready", "isvc/inferno-tiny", "--timeout=60s")
    kubectl("wait", "--for=condition=Ready", "pod", "-l", selector, "--timeout=60s")
    after = kubectl.json("get", "pods", "-l", selector)["items"][0]["metadata"]["name"]
    assert after != before


def test_pods_can_be_annotated_and_carry_the_labels_of_their_service(kubectl: Kubectl) -> None:
    pods = kubectl.json("get", "pods", "-l", "inferno.dev/service=inferno-tiny")["items"]
    staying = [one for one in pods if "deletionTimestamp" not in one["metadata"]]
    pod = staying[0]["metadata"]["name"]
    kubectl("annotate", "pod", pod, "seen=yes")
    assert kubectl.json("get", "pod", pod)["metadata"]["annotations"]["seen"] == "yes"
    kubectl("annotate", "pod", pod, "seen-")
    kubectl("label", "isvc/inferno-tiny", "tier=gold")
    kubectl("wait", "--for=jsonpath={.metadata.labels.tier}=gold", f"pod/{pod}", "--timeout=30s")
    assert pod in kubectl("get", "pods", "-l", "tier=gold", "-o", "name")
    kubectl("label", "isvc/inferno-tiny", "tier-")
    patch = '[{"op": "replace", "path": "/spec/containers/0/image", "value": "other"}]'
    error = kubectl.fails("patch", "pod", pod, "--type=json", "-p", patch)
    assert "may not change fields" in error


def test_logs_follow_until_the_pod_is_gone(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("apply", "-f", "-", text=manifest(service("followed", replicas=1)))
    kubectl("wait", "--for=condition=Ready", "isvc/followed", "--timeout=60s")
    pod = kubectl("get", "pods", "-l", "inferno.dev/service=followed", "-o", "name").strip()
    log = tmp_path / "log"
    with kubectl.start("logs", "--follow", pod, output=log) as following:
        wait_until(lambda: "listening" in log.read_text(), 20, "nothing is followed")
        assert following.poll() is None
        kubectl("delete", "isvc", "followed")
        assert following.wait(40) == 0
