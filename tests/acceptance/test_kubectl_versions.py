"""Older versions of kubectl, through what differs between them, where this machine has them.

Up to 1.31 they send null timestamps, and the older the version, the older the discovery that it
asks for. Google's package of kubectl brings one binary for each version; of those the oldest that
the platform promises to work with is run, and the last that differs from the newest.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.kubernetes import POOLS, Kubectl, kubeconfig, manifest, pool
from tests.acceptance.platform import Platform


def _others() -> list[Path]:
    """The binaries beside the one that is run by default."""
    default = shutil.which("kubectl")
    beside = Path(default).resolve().parent if default else Path("/nonexistent")
    names = [f"kubectl.1.{minor}" for minor in (28, 31)]
    return [beside / name for name in names if (beside / name).exists()]


@pytest.mark.parametrize("binary", _others(), ids=lambda path: path.name)
def test_its_everyday_commands(platform: Platform, tmp_path: Path, binary: Path) -> None:
    kubectl = Kubectl(kubeconfig(platform, tmp_path / "config"))
    name = f"by-{binary.name.replace('.', '-')}"

    def run(*arguments: str, text: str | None = None, code: int = 0) -> str:
        done = subprocess.run(
            [binary, "-n", name, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            env=kubectl.environment(),
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    run("create", "namespace", name)
    assert "created" in run("apply", "-f", "-", text=manifest(pool("a")))
    assert "configured" in run("apply", "-f", "-", text=manifest(pool("a", port=9)))
    wrong = pool("b")
    wrong["spec"]["selectr"] = {}
    assert 'unknown field "spec.selectr"' in run("apply", "-f", "-", text=manifest(wrong), code=1)
    assert "9" in run("diff", "-f", "-", text=manifest(pool("a", port=10)), code=1)
    assert "targetPortNumber" in run("explain", f"{POOLS}.spec")
    assert "a" in run("get", POOLS)
    run("delete", "namespace", name)


def test_there_are_as_many_as_there_should_be() -> None:
    """A test that finds nothing to run would look as if all was well."""
    default = shutil.which("kubectl")
    assert default
    if "dispatcher" in subprocess.check_output([default, "version", "--client"], text=True):
        assert len(_others()) == 2
