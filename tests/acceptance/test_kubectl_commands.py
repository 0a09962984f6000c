"""What a Kubernetes user types, from `apply` to `delete`, with the real `kubectl`."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferno.engines.bundled import model_path
from tests.acceptance.kubernetes import GROUP, POOLS, Kubectl, kubeconfig, manifest, pool
from tests.acceptance.platform import Platform, wait_until

MODELS = f"inferencemodels.{GROUP}"
SERVICES = "inferenceservices.serving.kserve.io"


@pytest.fixture(scope="module")
def kubectl(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(kubeconfig(platform, tmp_path_factory.mktemp("kubectl") / "config"))


@pytest.fixture
def space(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """A namespace of the test's own."""
    name = request.node.name.replace("_", "-").replace("[", "-").rstrip("]")[:60].lower()
    kubectl("create", "namespace", name)
    yield Kubectl(kubectl.kubeconfig, name)
    kubectl("delete", "namespace", name)


def model(name: str, pool_name: str, **spec: object) -> dict[str, object]:
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": name},
        "spec": {"modelName": name, "poolRef": {"name": pool_name}, **spec},
    }


def test_version_and_api_resources(kubectl: Kubectl) -> None:
    assert kubectl.json("version")["serverVersion"]["major"] == "1"
    listed = kubectl("api-resources", "-o", "name").split()
    assert {"pods", "nodes", "secrets", POOLS, MODELS, SERVICES, "deployments.apps"} <= {*listed}
    assert "inferencepools.inference.networking.k8s.io" in listed
    assert f"{GROUP}/v1alpha2" in kubectl("api-versions").split()


def test_apply_creates_then_changes_then_leaves_alone(space: Kubectl) -> None:
    text = manifest(pool("llama"), model("chat", "llama"))
    assert "llama created" in space("apply", "-f", "-", text=text)
    assert "llama unchanged" in space("apply", "-f", "-", text=text)
    changed = manifest(pool("llama", port=9000))
    assert "llama configured" in space("apply", "-f", "-", text=changed)
    assert space.json("get", POOLS, "llama")["spec"]["targetPortNumber"] == 9000
    assert space.json("get", POOLS, "llama")["metadata"]["generation"] == 2
    space("delete", "-f", "-", text=text)
    assert space("get", POOLS, "-o", "name") == ""


def test_apply_again_with_defaults_changes_nothing(space: Kubectl) -> None:
    """`kubectl` compares the file with what it reads: a default must not vanish in between."""
    server = {"address": "127.0.0.1", "port": 9, "metrics": "auto"}
    served = {"modelFormat": {"name": "gguf"}, "storageUri": model_path().as_uri()}
    predictor = {"minReplicas": 0, "maxReplicas": 1, "model": served}
    objective = {"priority": 0, "poolRef": {"name": "a", "kind": "InferencePool"}}
    picker = {"name": "epp", "failureMode": "FailClose"}
    pool_spec = {"selector": {"app": "a"}, "targetPortNumber": 9, "extensionRef": picker}
    kinds = (
        ("inferno.dev/v1alpha1", "ModelServer", server),
        ("serving.kserve.io/v1beta1", "InferenceService", {"predictor": predictor}),
        (f"{GROUP}/v1alpha2", "InferenceObjective", objective),
        (f"{GROUP}/v1alpha2", "InferencePool", pool_spec),
    )
    text = manifest(
        *({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec}
          for version, kind, spec in kinds),
        model("a", "a", criticality="Default"),
    )  # fmt: skip
    assert space("apply", "-f", "-", text=text).count(" created") == 5
    again = space("apply", "-f", "-", text=text)
    assert again.count(" unchanged") == 5, again


def test_apply_removes_what_the_file_no_longer_has(space: Kubectl) -> None:
    space("apply", "-f", "-", text=manifest(pool("a", labels={"x": "1", "y": "2"})))
    space("label", POOLS, "a", "other=kept")
    space("apply", "-f", "-", text=manifest(pool("a", labels={"x": "1"})))
    assert space.json("get", POOLS, "a")["metadata"]["labels"] == {"x": "1", "other": "kept"}


def test_diff_shows_the_change_and_makes_none(space: Kubectl) -> None:
    space("apply", "-f", "-", text=manifest(pool("a")))
    before = space.json("get", POOLS, "a")
    done = space.run("diff", "-f", "-", text=manifest(pool("a", port=9000)))
    assert done.returncode == 1, done.stderr
    assert "+  targetPortNumber: 9000" in done.stdout
    assert "resourceVersion" not in "".join(
        line for line in done.stdout.splitlines(keepends=True) if line[0] in "+-"
    )
    assert space.json("get", POOLS, "a") == before
    assert space.run("diff", "-f", "-", text=manifest(pool("a"))).returncode == 0


def test_server_dry_run_keeps_nothing(space: Kubectl) -> None:
    text = manifest(pool("a"))
    assert "created (server dry run)" in space("apply", "--dry-run=server", "-f", "-", text=text)
    assert "NotFound" in space.fails("get", POOLS, "a")


def test_server_side_apply_and_its_conflicts(space: Kubectl) -> None:
    space("apply", "--server-side", "--field-manager=ann", "-f", "-", text=manifest(pool("a")))
    other = manifest(pool("a", port=9000))
    error = space.fails("apply", "--server-side", "--field-manager=bob", "-f", "-", text=other)
    assert 'conflict with "ann": .spec.targetPortNumber' in error
    space(
        "apply", "--server-side", "--field-manager=bob", "--force-conflicts", "-f", "-", text=other
    )
    shown = space.json("get", POOLS, "a", "--show-managed-fields")
    owners = {
        one["manager"]: "f:targetPortNumber" in json.dumps(one["fieldsV1"])
        for one in shown["metadata"]["managedFields"]
    }
    assert owners == {"ann": False, "bob": True}
    assert shown["spec"]["targetPortNumber"] == 9000


def test_server_side_apply_lets_go_of_fields(space: Kubectl) -> None:
    def apply(who: str, labels: dict[str, str]) -> None:
        text = manifest(pool("a", labels=labels))
        space("apply", "--server-side", f"--field-manager={who}", "-f", "-", text=text)

    apply("ann", {"mine": "1", "shared": "1"})
    apply("bob", {"shared": "1"})
    apply("ann", {})
    assert space.json("get", POOLS, "a")["metadata"]["labels"] == {"shared": "1"}


def test_invalid_objects_are_refused_with_every_field(space: Kubectl) -> None:
    broken = model("Bad_Name", "p", criticality="Urgent", targetModels=[{"weight": -1}])
    error = space.fails("create", "--validate=false", "-f", "-", text=manifest(broken))
    assert "is invalid" in error
    for part in (
        "metadata.name: Invalid value",
        'spec.criticality: Unsupported value: "Urgent": supported values: "Critical"',
        "spec.targetModels[0].name: Required value",
        "spec.targetModels[0].weight: Invalid value: -1",
    ):
        assert part in error, error


def test_unknown_fields_are_refused(space: Kubectl) -> None:
    wrong = pool("a")
    wrong["spec"]["targetPort"] = 1
    error = space.fails("apply", "-f", "-", text=manifest(wrong))
    assert 'unknown field "spec.targetPort"' in error
    done = space.run("apply", "--validate=warn", "-f", "-", text=manifest(wrong))
    assert done.returncode == 0
    assert 'unknown field "spec.targetPort"' in done.stderr
    assert "targetPort" not in space.json("get", POOLS, "a")["spec"]


def test_patches_of_every_type(space: Kubectl) -> None:
    space("apply", "-f", "-", text=manifest(pool("a")))
    operations = '[{"op": "replace", "path": "/spec/targetPortNumber", "value": 1}]'
    space("patch", POOLS, "a", "--type=json", "-p", operations)
    assert space.json("get", POOLS, "a")["spec"]["targetPortNumber"] == 1
    space("patch", POOLS, "a", "--type=merge", "-p", '{"spec": {"selector": {"b": "c"}}}')
    assert space.json("get", POOLS, "a")["spec"]["selector"] == {"app": "a", "b": "c"}
    failing = '[{"op": "test", "path": "/spec/targetPortNumber", "value": 7}]'
    assert "invalid" in space.fails("patch", POOLS, "a", "--type=json", "-p", failing)
    wrong = '{"spec": {"targetPortNumber": 70000}}'
    error = space.fails("patch", POOLS, "a", "--type=merge", "-p", wrong)
    assert "spec.targetPortNumber: Invalid value: 70000" in error
    space.fails("patch", POOLS, "a", "--type=merge", "-p", '{"metadata": {"name": "b"}}')


def test_labels_annotations_and_selectors(space: Kubectl) -> None:
    for name in ("a", "b", "c"):
        space("apply", "-f", "-", text=manifest(pool(name, labels={"name": name})))
    space("label", POOLS, "a", "tier=gold")
    space("annotate", POOLS, "a", "note=it works")

    def names(*selector: str) -> list[str]:
        return space("get", POOLS, *selector, "-o", "name").replace(f"{POOLS[:13]}", "").split()

    def only(*selector: str) -> set[str]:
        listed = space.json("get", POOLS, *selector)["items"]
        return {one["metadata"]["name"] for one in listed}

    assert only("-l", "tier") == {"a"}
    assert only("-l", "!tier") == {"b", "c"}
    assert only("-l", "name in (a, b)") == {"a", "b"}
    assert only("-l", "name notin (a)") == {"b", "c"}
    assert only("-l", "name!=a,name!=b") == {"c"}
    assert only("--field-selector", "metadata.name=b") == {"b"}
    assert "not a known field" in space.fails("get", POOLS, "--field-selector", "spec.x=b")
    assert names("-l", "tier")


def test_edit(space: Kubectl, tmp_path: Path) -> None:
    space("apply", "-f", "-", text=manifest(pool("a")))
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/targetPortNumber: 8000/targetPortNumber: 8001/' $1\n")
    editor.chmod(0o700)
    done = subprocess.run(
        ["kubectl", "-n", space.namespace, "edit", POOLS, "a"],
        env={**space.environment(), "KUBE_EDITOR": str(editor)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert space.json("get", POOLS, "a")["spec"]["targetPortNumber"] == 8001


def test_replace_with_an_old_version_conflicts(space: Kubectl) -> None:
    space("apply", "-f", "-", text=manifest(pool("a")))
    old = space.json("get", POOLS, "a")
    space("label", POOLS, "a", "x=y")
    error = space.fails("replace", "-f", "-", text=json.dumps(old))
    assert "the object has been modified" in error
    assert "Conflict" in error


def test_tables(space: Kubectl) -> None:
    space("apply", "-f", "-", text=manifest(pool("a"), model("chat", "a")))
    head, row = space("get", POOLS).splitlines()
    assert head.split()[0] == "NAME"
    assert head.split()[-1] == "AGE"
    assert row.split()[0] == "a"
    assert "SELECTOR" in space("get", POOLS, "-o", "wide")
    assert "app=a" in space("get", POOLS, "-o", "wide")
    assert space("get", POOLS, "-o", "jsonpath={.items[0].spec.targetPortNumber}") == "8000"
    assert space("get", POOLS, "-A", "--no-headers").split()[0]
    assert space("get", MODELS, "--sort-by=.metadata.name", "-o", "name").strip()
    custom = "custom-columns=N:.metadata.name"
    assert space("get", POOLS, "-o", custom).split() == ["N", "a"]


def test_the_table_of_events_is_kubernetes_own(kubectl: Kubectl) -> None:
    head = kubectl("get", "events").splitlines()[0]
    assert head.split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    wide = kubectl("get", "events", "-o", "wide").splitlines()[0]
    assert wide.split()[5:] == (
        ["SUBOBJECT", "SOURCE", "MESSAGE", "FIRST", "SEEN", "COUNT", "NAME"]
    )


def test_each_short_name_stands_for_one_kind(space: Kubectl) -> None:
    for name in ("infpool", "xinfpool"):
        assert "could also match" not in space.run("get", name).stderr


def test_describe_and_explain(kubectl: Kubectl, space: Kubectl) -> None:
    space("apply", "-f", "-", text=manifest(pool("a")))
    assert "Target Port Number:  8000" in space("describe", POOLS, "a")
    assert "Conditions:" in kubectl("describe", "pods")
    assert "Allocated resources" in kubectl("describe", "nodes")
    shown = kubectl("explain", "inferencemodels.spec.targetModels")
    assert "weight" in shown
    assert "<integer>" in shown
    assert "-required-" in kubectl("explain", "inferencepools.spec")
    assert "FIELDS" in kubectl("explain", "pods.status.conditions")
    assert "targetModels" in kubectl("explain", "inferencemodels", "--recursive")


def test_generated_names(space: Kubectl) -> None:
    wanted = pool("x", generateName="p-")
    del wanted["metadata"]["name"]
    for _ in range(3):
        assert "p-" in space("create", "-f", "-", text=manifest(wanted))
    assert len(space("get", POOLS, "-o", "name").split()) == 3
    space("delete", POOLS, "--all")
    assert space("get", POOLS, "-o", "name") == ""


def test_create_twice(space: Kubectl) -> None:
    space("create", "-f", "-", text=manifest(pool("a")))
    error = space.fails("create", "-f", "-", text=manifest(pool("a")))
    assert f'{POOLS} "a" already exists' in error


def test_finalizers_hold_what_is_deleted(space: Kubectl) -> None:
    space("apply", "-f", "-", text=manifest(pool("a", finalizers=["example.com/hold"])))
    space("delete", POOLS, "a", "--wait=false")
    assert space.json("get", POOLS, "a")["metadata"]["deletionTimestamp"]
    space("patch", POOLS, "a", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    assert "NotFound" in space.fails("get", POOLS, "a")


def owned(name: str, owner: dict[str, object]) -> dict[str, object]:
    metadata = owner["metadata"]
    assert isinstance(metadata, dict)
    reference = {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"],
        "name": metadata["name"], "uid": metadata["uid"],
    }  # fmt: skip
    return pool(name, ownerReferences=[reference])


@pytest.mark.parametrize(("how", "left"), [("background", 0), ("foreground", 0), ("orphan", 1)])
def test_cascading_deletion(space: Kubectl, how: str, left: int) -> None:
    space("apply", "-f", "-", text=manifest(pool("owner")))
    owner = space.json("get", POOLS, "owner")
    space("apply", "-f", "-", text=manifest(owned("dependent", owner)))
    space("delete", POOLS, "owner", f"--cascade={how}")
    assert len(space.json("get", POOLS)["items"]) == left


def test_deletion_of_a_foreground_owner_waits(space: Kubectl) -> None:
    space("apply", "-f", "-", text=manifest(pool("owner")))
    dependent = owned("dependent", space.json("get", POOLS, "owner"))
    dependent["metadata"]["finalizers"] = ["example.com/hold"]  # type: ignore[index]
    space("apply", "-f", "-", text=manifest(dependent))
    space("delete", POOLS, "owner", "--cascade=foreground", "--wait=false")
    assert space.json("get", POOLS, "owner")["metadata"]["finalizers"] == ["foregroundDeletion"]
    space("patch", POOLS, "dependent", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    assert "NotFound" in space.fails("get", POOLS, "owner")


def test_wait(space: Kubectl) -> None:
    space("apply", "-f", "-", text=manifest(pool("a")))
    arguments = ("wait", "--for=delete", f"{POOLS}/a", "--timeout=30s")
    with space.start(*arguments) as waiting:
        space("delete", POOLS, "a")
        assert waiting.wait(30) == 0


def test_secrets_are_never_shown(space: Kubectl, platform: Platform) -> None:
    value = "correct-horse-battery-staple"
    space("create", "secret", "generic", "key", f"--from-literal=apiKey={value}")
    document = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"},
        "stringData": {"apiKey": value},
    }  # fmt: skip
    space("apply", "-f", "-", text=json.dumps(document))
    shown = space.json("get", "secret", "key")
    assert list(shown["data"]) == ["apiKey"]
    for text in (json.dumps(shown), space("get", "secrets", "-o", "yaml"), platform.log_text()):
        assert value not in text
        assert base64.b64encode(value.encode()).decode() not in text
    for file in platform.data_dir.glob("inferno.db*"):
        assert value.encode() not in file.read_bytes()
        assert base64.b64encode(value.encode()) not in file.read_bytes()


def test_namespaces_take_their_content_along(kubectl: Kubectl) -> None:
    kubectl("create", "namespace", "short-lived")
    inside = Kubectl(kubectl.kubeconfig, "short-lived")
    inside("apply", "-f", "-", text=manifest(pool("a"), model("chat", "a")))
    kubectl("delete", "namespace", "short-lived", "--timeout=30s")
    assert "NotFound" in kubectl.fails("get", "namespace", "short-lived")
    assert inside.json("get", POOLS)["items"] == []
    assert 'namespaces "short-lived" not found' in inside.fails(
        "apply", "-f", "-", text=manifest(pool("a"))
    )
    assert "may not be deleted" in kubectl.fails("delete", "namespace", "default")


def test_auth_questions(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "delete", "pods").strip() == "yes"
    assert kubectl.json("auth", "whoami")["status"]["userInfo"]["username"] == "admin"


def test_methods_that_a_kind_lacks(kubectl: Kubectl) -> None:
    error = kubectl.fails("run", "mine", "--image=x")
    assert "MethodNotAllowed" in error or "not allowed" in error


def test_pages(space: Kubectl) -> None:
    space("create", "-f", "-", text=manifest(*(pool(f"p{i:02}") for i in range(12))))
    listed = space.json("get", POOLS, "--chunk-size=5")["items"]
    assert [one["metadata"]["name"] for one in listed] == [f"p{i:02}" for i in range(12)]
    path = f"/k8s/apis/{GROUP}/v1alpha1/namespaces/{space.namespace}/inferencepools"
    page = json.loads(space("get", "--raw", f"{path}?limit=5"))
    assert len(page["items"]) == 5
    assert page["metadata"]["remainingItemCount"] == 7
    token = page["metadata"]["continue"]
    rest = json.loads(space("get", "--raw", f"{path}?limit=50&continue={token}"))
    assert len(rest["items"]) == 7
    assert "continue" not in rest["metadata"]


def test_watch_shows_changes_as_they_come(space: Kubectl, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    with space.start("get", POOLS, "--watch", "-o", "name", output=seen):
        space("apply", "-f", "-", text=manifest(pool("a")))
        wait_until(lambda: seen.read_text().count("/a"), 20, "the watch said nothing")
        space("label", POOLS, "a", "x=y")
        wait_until(lambda: seen.read_text().count("/a") >= 2, 20, "the watch said nothing")
