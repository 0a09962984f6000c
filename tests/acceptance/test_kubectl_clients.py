"""The `kubernetes` client, kr8s and a kopf program, as their users write them."""

from __future__ import annotations

import importlib
import sys
import textwrap
from pathlib import Path
from subprocess import Popen
from typing import Any

import kr8s
import pytest
from kr8s.asyncio.objects import new_class

from tests.acceptance.kubernetes import GROUP, POOLS, Kubectl, kubeconfig, manifest, pool
from tests.acceptance.platform import Platform, wait_until

kubernetes: Any = importlib.import_module("kubernetes")
"""Typed in part only, and not as it is used."""

WHERE = {"group": GROUP, "version": "v1alpha1", "namespace": "default", "plural": "inferencepools"}


@pytest.fixture
def config(platform: Platform, tmp_path: Path) -> Path:
    return kubeconfig(platform, tmp_path / "config")


@pytest.fixture
def client(config: Path) -> Any:
    return kubernetes.config.new_client_from_config(str(config))


def test_the_kubernetes_client(client: Any) -> None:
    core = kubernetes.client.CoreV1Api(client)
    objects = kubernetes.client.CustomObjectsApi(client)
    pods = core.list_namespaced_pod("default").items
    assert all(pod.spec.node_name for pod in pods)
    assert core.list_node().items[0].status.capacity["cpu"]
    assert kubernetes.client.VersionApi(client).get_code().major == "1"
    made = objects.create_namespaced_custom_object(
        **WHERE, body=pool("x") | {"metadata": {"generateName": "client-"}}
    )
    name = made["metadata"]["name"]
    try:
        old = objects.get_namespaced_custom_object(**WHERE, name=name)
        label = {"metadata": {"labels": {"changed": "yes"}}}
        objects.patch_namespaced_custom_object(**WHERE, name=name, body=label)
        with pytest.raises(kubernetes.client.ApiException) as conflict:
            objects.replace_namespaced_custom_object(**WHERE, name=name, body=old)
        assert conflict.value.status == 409
        patched = objects.patch_namespaced_custom_object(
            **WHERE, name=name, body={"metadata": {"labels": {"a": "b"}}}
        )
        assert patched["metadata"]["labels"] == {"a": "b", "changed": "yes"}
    finally:
        objects.delete_namespaced_custom_object(**WHERE, name=name)
    with pytest.raises(kubernetes.client.ApiException) as missing:
        objects.get_namespaced_custom_object(**WHERE, name=name)
    assert missing.value.status == 404


def test_its_typed_secrets_and_events(client: Any) -> None:
    core = kubernetes.client.CoreV1Api(client)
    metadata = kubernetes.client.V1ObjectMeta(name="typed")
    secret = kubernetes.client.V1Secret(metadata=metadata, string_data={"k": "v"}, type="Opaque")
    made = core.create_namespaced_secret("default", secret)
    assert list(made.data) == ["k"]
    core.delete_namespaced_secret("typed", "default")
    with pytest.raises(kubernetes.client.ApiException) as missing:
        core.read_namespaced_secret("typed", "default")
    assert missing.value.reason == "Not Found"
    about = kubernetes.client.V1ObjectReference(kind="Pod", name="p", namespace="default")
    event = kubernetes.client.CoreV1Event(
        metadata=kubernetes.client.V1ObjectMeta(generate_name="told-"),
        involved_object=about, reason="Told", message="By a client.", type="Normal",
    )  # fmt: skip
    name = core.create_namespaced_event("default", event).metadata.name
    found = core.list_namespaced_event("default", field_selector="reason=Told").items
    assert [one.metadata.name for one in found] == [name]
    core.delete_namespaced_event(name, "default")


def test_its_dynamic_client(client: Any) -> None:
    dynamic = kubernetes.dynamic.DynamicClient(client)
    services = dynamic.resources.get(
        api_version="serving.kserve.io/v1beta1", kind="InferenceService"
    )
    assert "inferno-tiny" in [one.metadata.name for one in services.get(namespace="default").items]
    scale = kubernetes.client.AppsV1Api(client).read_namespaced_deployment_scale(
        "inferno-tiny", "default"
    )
    assert scale.status.selector == "inferno.dev/service=inferno-tiny"


def test_its_watch_and_an_expired_version(client: Any) -> None:
    core = kubernetes.client.CoreV1Api(client)
    listed = core.list_namespaced_pod("default")
    watch = kubernetes.watch.Watch()
    stream = watch.stream(core.list_namespaced_pod, "default", timeout_seconds=1)
    names = {event["object"].metadata.name for event in stream}
    assert names == {pod.metadata.name for pod in listed.items}
    with pytest.raises(kubernetes.client.ApiException) as expired:
        list(
            kubernetes.watch.Watch().stream(
                core.list_namespaced_pod, "default", resource_version="99999999", timeout_seconds=5
            )
        )
    assert expired.value.status == 410


async def test_kr8s(config: Path) -> None:
    api: Any = await kr8s.asyncio.api(kubeconfig=str(config))
    kind = new_class(
        kind="InferencePool", version=f"{GROUP}/v1alpha1", namespaced=True, plural="inferencepools"
    )
    one = await kind(pool("kr8s", namespace="default"), api=api)
    await one.create()
    await one.patch({"metadata": {"labels": {"a": "b"}}})
    await one.refresh()
    assert one.labels == {"a": "b"}
    found = [each.name async for each in api.get(POOLS, namespace="default", label_selector="a=b")]
    assert found == ["kr8s"]
    await one.delete()
    assert not await one.exists()


OPERATOR = """
    import kopf

    KIND = ("inference.networking.x-k8s.io", "v1alpha1", "inferencepools")

    @kopf.on.create(*KIND)
    def created(name, patch, **_):
        patch.metadata.labels["seen"] = "created"

    @kopf.on.update(*KIND, field="spec")
    def updated(new, patch, **_):
        patch.metadata.labels["seen"] = f"port-{new['targetPortNumber']}"

    @kopf.on.delete(*KIND)
    def deleted(name, **_):
        print(f"deleted {name}", flush=True)
"""


def test_a_kopf_operator(config: Path, tmp_path: Path) -> None:
    program, log = tmp_path / "operator.py", tmp_path / "kopf.log"
    program.write_text(textwrap.dedent(OPERATOR))
    kubectl = Kubectl(config)

    def seen() -> str:
        labels = kubectl.json("get", POOLS, "operated")["metadata"].get("labels", {})
        return str(labels.get("seen"))

    command = [sys.executable, "-m", "kopf", "run", str(program), "--namespace=default",
               "--standalone"]  # fmt: skip
    with log.open("wb") as output:
        operator = Popen(command, stdout=output, stderr=output, env=kubectl.environment())
        try:
            kubectl("apply", "-f", "-", text=manifest(pool("operated")))
            wait_until(lambda: seen() == "created", 40, "not created", log.read_text)
            kubectl("apply", "-f", "-", text=manifest(pool("operated", port=9)))
            wait_until(lambda: seen() == "port-9", 30, "not updated", log.read_text)
            kubectl("delete", POOLS, "operated", "--timeout=30s")
            assert "deleted operated" in log.read_text()
        finally:
            operator.terminate()
            operator.wait(20)
