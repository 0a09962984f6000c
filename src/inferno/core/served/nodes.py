"""`Node` as tools know it: the machine that runs replicas."""

from __future__ import annotations

from inferno.core.cluster import Node
from inferno.core.kinds import READING, Column, KindDefinition


def _ready(node: Node) -> str:
    found = next((one for one in node.status.conditions if one.type == "Ready"), None)
    return "Ready" if found is not None and found.status == "True" else "NotReady"


def _address(node: Node) -> str:
    found = [one.address for one in node.status.addresses if one.type == "InternalIP"]
    return found[0] if found else "<none>"


NODES = KindDefinition.of(
    Node,
    namespaced=False,
    short_names=("no",),
    verbs=READING,
    columns=(
        Column(name="Status", value=_ready, description="Whether replicas can run on it."),
        Column(name="Roles", value=lambda _: "<none>", description="The roles of the node."),
        Column(
            name="Version",
            value=lambda node: node.status.node_info.kubelet_version,
            description="Of the platform.",
        ),
        Column(
            name="Internal-IP", value=_address, description="Where it can be reached.", priority=1
        ),
        Column(
            name="OS-Image",
            value=lambda node: node.status.node_info.os_image,
            description="Its operating system.",
            priority=1,
        ),
        Column(
            name="Kernel-Version",
            value=lambda node: node.status.node_info.kernel_version,
            description="Its kernel.",
            priority=1,
        ),
    ),
)
"""Machines that run replicas; the platform alone writes them."""
