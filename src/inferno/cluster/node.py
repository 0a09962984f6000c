"""This machine as a `Node`."""

from __future__ import annotations

import platform
import re
import socket

import psutil

from inferno.core.cluster import (
    Node,
    NodeAddress,
    NodeCondition,
    NodeInfo,
    NodeSpec,
    NodeStatus,
)
from inferno.core.errors import Conflict
from inferno.core.resources import ObjectMeta
from inferno.storage.base import ResourceStore
from inferno.storage.documents import timestamp

MAX_PODS = "110"


def node_name() -> str:
    """Return this machine's name, as far as resources can have it."""
    name = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.")
    return name[:63] or "localhost"


def describe(version: str, now: str) -> Node:
    """Return this machine as a node.

    Args:
        version: the platform's.
        now: RFC 3339.
    """
    name = node_name()
    machine = platform.uname()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine, machine.machine)
    system = machine.system.lower()
    memory = psutil.virtual_memory().total // 1024
    resources = {
        "cpu": str(psutil.cpu_count() or 1),
        "memory": f"{memory}Ki",
        "pods": MAX_PODS,
    }
    ready = NodeCondition(
        type="Ready",
        status="True",
        reason="PlatformReady",
        message="The platform runs.",
        last_heartbeat_time=now,
        last_transition_time=now,
    )
    return Node(
        metadata=ObjectMeta(
            name=name,
            labels={
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": system,
                "kubernetes.io/arch": architecture,
            },
        ),
        spec=NodeSpec(provider_id=f"inferno://{name}"),
        status=NodeStatus(
            capacity=resources,
            allocatable=resources,
            conditions=[ready],
            addresses=[
                NodeAddress(type="InternalIP", address="127.0.0.1"),
                NodeAddress(type="Hostname", address=name),
            ],
            node_info=NodeInfo(
                kernel_version=machine.release,
                os_image=_os_image(),
                container_runtime_version=f"inferno://{version}",
                kubelet_version=f"v{version}",
                kube_proxy_version=f"v{version}",
                operating_system=system,
                architecture=architecture,
            ),
        ),
    )


async def announce(store: ResourceStore, version: str) -> None:
    """Write this machine's node, and remove those of machines that it was before."""
    node = describe(version, timestamp())
    known, _ = await store.list(Node)
    for old in known:
        if old.metadata.name != node.metadata.name:
            await store.delete(Node, old.metadata.name)
    try:
        await store.create(node)
    except Conflict:
        await store.update_status(node)


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return platform.platform(terse=True)
