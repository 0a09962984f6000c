"""`Namespace` as tools know it."""

from __future__ import annotations

from typing import Literal

import msgspec

from inferno.core.cluster import Namespace
from inferno.core.kinds import Column, KindDefinition, ServedVersion


def phase(namespace: Namespace) -> Literal["Active", "Terminating"]:
    """Return where a namespace is in its life."""
    return "Terminating" if namespace.metadata.deletion_timestamp else "Active"


def from_stored(namespace: Namespace) -> Namespace:
    """Return a namespace as clients see it."""
    status = msgspec.structs.replace(namespace.status, phase=phase(namespace))
    return msgspec.structs.replace(namespace, status=status)


NAMESPACES = KindDefinition(
    stored=Namespace,
    group="",
    kind="Namespace",
    plural="namespaces",
    namespaced=False,
    short_names=("ns",),
    versions=(
        ServedVersion(
            name="v1",
            shape=Namespace,
            from_stored=from_stored,
            columns=(
                Column(name="Status", value=phase, description="The status of the namespace."),
            ),
        ),
    ),
)
"""Parts of the platform; the tenant of the same name works in each."""
