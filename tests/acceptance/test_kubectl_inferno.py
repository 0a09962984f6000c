"""`inferno apply`, `get`, `delete` and `kubeconfig`, without `kubectl`."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml

from tests.acceptance.commands import inferno, run
from tests.acceptance.kubernetes import manifest, pool
from tests.acceptance.platform import Platform


@pytest.fixture
def where(platform: Platform) -> tuple[str, str]:
    return ("--data-dir", str(platform.data_dir))


def test_apply_get_delete(where: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(yaml.safe_dump_all([pool("one", labels={"a": "b"}), pool("two")]))
    printed = inferno("apply", "-f", str(file), *where)
    assert printed.splitlines() == [
        "inferencepools.inference.networking.x-k8s.io/one applied",
        "inferencepools.inference.networking.x-k8s.io/two applied",
    ]
    assert inferno("apply", "-f", str(file), *where) == printed
    table = inferno("get", "infpool", *where)
    assert table.split()[0] == "NAME"
    assert inferno("get", "InferencePool", "-l", "a=b", "-o", "name", *where).count("/") == 1
    shown = yaml.safe_load(inferno("get", "inferencepools", "one", "-o", "yaml", *where))
    assert "managedFields" not in shown["metadata"]
    assert shown["spec"]["targetPortNumber"] == 8000
    assert "NAMESPACE" in inferno("get", "inferencepools", "-A", *where)
    assert "SELECTOR" in inferno("get", "inferencepools", "-o", "wide", *where)
    inferno("delete", "inferencepool", "one", *where)
    listed = json.loads(inferno("get", "inferencepools", "-o", "json", *where))
    assert [one["metadata"]["name"] for one in listed["items"]] == ["two"]
    inferno("delete", "-f", "-", *where, text=manifest(pool("two")))
    assert inferno("get", "inferencepools", *where) == ""


def test_dry_run_keeps_nothing(where: tuple[str, str]) -> None:
    assert "(dry run)" in inferno("apply", "-f", "-", "--dry-run", *where, text=manifest(pool("d")))
    assert "not found" in run("get", "inferencepools", "d", *where).stderr


@pytest.mark.parametrize(
    ("arguments", "text", "says"),
    [
        (("get", "nothings"), "", "knows no kind 'nothings' (known: "),
        (("get", "pods", "missing"), "", 'pods "missing" not found'),
        (("delete", "pods"), "", "give KIND and NAME, or -f FILE"),
        (("apply", "-f", "-"), "a: [", "not valid YAML"),
        (("apply", "-f", "-"), "a: 1", "needs apiVersion, kind and metadata.name"),
        (("apply", "-f", "-"), manifest(pool("Bad")), "metadata.name: Invalid value"),
        (("apply", "-f", "-"), manifest({**pool("a"), "x": 1}), 'unknown field "x"'),
        (("apply", "-f", "missing.yaml"), "", "missing.yaml: No such file"),
    ],
)
def test_what_is_wrong_is_said(
    where: tuple[str, str], arguments: tuple[str, ...], text: str, says: str
) -> None:
    done = run(*arguments, *where, text=text)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_kubeconfig_is_for_https_and_trusts_one_certificate(
    platform: Platform, where: tuple[str, str]
) -> None:
    config = yaml.safe_load(inferno("kubeconfig", "--namespace", "team", *where))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    assert cluster["server"] == platform.management_url.replace("http:", "https:") + "/k8s"
    assert user["token"] == platform.api_key
    assert config["contexts"][0]["context"]["namespace"] == "team"
    (certificate,) = (platform.data_dir / "tls").glob("*.crt")
    (key,) = (platform.data_dir / "tls").glob("*.key")
    assert key.stat().st_mode & 0o077 == 0
    request = Request(f"{cluster['server']}/version")  # noqa: S310 - it is https
    request.add_header("Authorization", f"Bearer {user['token']}")
    trusting = ssl.create_default_context(cafile=str(certificate))
    with urlopen(request, context=trusting) as response:  # noqa: S310 - it is https
        assert json.load(response)["major"] == "1"


def test_a_kubeconfig_in_a_file_is_its_owners(where: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("x" * 10_000)
    file.chmod(0o644)
    assert inferno("kubeconfig", "--output", str(file), *where) == ""
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == inferno("kubeconfig", *where)
    nowhere = run("kubeconfig", "-o", str(tmp_path / "none" / "config"), *where)
    assert nowhere.returncode == 1
    assert "No such file or directory" in nowhere.stderr


def test_a_kubeconfig_needs_a_running_server(tmp_path: Path) -> None:
    done = run("kubeconfig", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "start one with `inferno serve`" in done.stderr
