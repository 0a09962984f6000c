"""Model servers, declared to a running platform as an operator does it: in its cluster API."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from benchmarks.startup.processes import Platform
from inferno.gateway.upstream import Address

_LABELS = {"app": "benchmark"}
_PLATFORM = "apis/inferno.dev/v1alpha1"
_POOLS = "apis/inference.networking.k8s.io/v1"
_MODELS = "apis/inference.networking.x-k8s.io/v1alpha2"
_REACHED_SECONDS = 30.0


def declare_pool(
    platform: Platform, model: str, servers: Sequence[Address], *, key: str = ""
) -> None:
    """Declare servers as one pool, and a model that it serves; return when all are ready.

    Args:
        platform: to declare them to.
        model: what clients ask for.
        servers: where they listen.
        key: what opens them; empty for nothing.
    """
    cluster = _Cluster(platform)
    spec: dict[str, Any] = {}
    if key:
        data = {"key": base64.b64encode(key.encode()).decode()}
        cluster.create("api/v1", "secrets", "Secret", "benchmark", data=data)
        spec["apiKeySecretRef"] = {"name": "benchmark", "key": "key"}
    for number, address in enumerate(servers):
        server = {"address": address.host, "port": address.port, **spec}
        cluster.create(_PLATFORM, "modelservers", "ModelServer", f"server-{number}", spec=server)
    pool = {
        "selector": {"matchLabels": _LABELS},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "unused", "port": {"number": 9002}},
    }
    cluster.create(_POOLS, "inferencepools", "InferencePool", "benchmark", spec=pool)
    named = {"modelName": model, "poolRef": {"name": "benchmark"}}
    cluster.create(_MODELS, "inferencemodels", "InferenceModel", "benchmark", spec=named)
    cluster.wait_until_ready(len(servers))


class _Cluster:
    def __init__(self, platform: Platform) -> None:
        run_file = json.loads((platform.data_dir / "run.json").read_text())
        self._url = f"{run_file['management_url']}/k8s"
        self._key = platform.key

    def create(self, api: str, plural: str, kind: str, name: str, **content: Any) -> None:
        """Create an object in the default namespace."""
        metadata = {"name": name, "labels": _LABELS}
        version = api.partition("/")[2]
        document = {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
        self._ask(f"{api}/namespaces/default/{plural}", document)

    def wait_until_ready(self, count: int) -> None:
        """Wait until so many model servers are ready."""
        deadline = time.monotonic() + _REACHED_SECONDS
        path = f"{_PLATFORM}/namespaces/default/modelservers"
        while True:
            servers = self._ask(path)["items"]
            conditions = [one.get("status", {}).get("conditions", []) for one in servers]
            ready = [
                any(c["type"] == "Ready" and c["status"] == "True" for c in of_one)
                for of_one in conditions
            ]
            if sum(ready) == count:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"The servers are not ready: {conditions}")
            time.sleep(0.1)

    def _ask(self, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._url}/{path}",
            data=None if document is None else json.dumps(document).encode(),
            headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{path} was answered with {error}: {error.read()!r}") from None
        return answer
