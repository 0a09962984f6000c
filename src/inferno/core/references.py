"""References from one resource to another in the same namespace (seed 002)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

INFERENCE_GROUP = "inference.networking.x-k8s.io"
"""API group of seed 002."""

INFERENCE_GROUP_V1 = "inference.networking.k8s.io"
"""API group in which `InferencePool` became v1; its pools are the same pools."""

GroupName = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$",
    ),
]
"""Empty or a DNS name: seed 002's pattern, written without an alternative."""

KindName = Annotated[
    str, Meta(min_length=1, max_length=63, pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")
]
ObjectName = Annotated[str, Meta(min_length=1, max_length=253)]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]


class PoolReference(msgspec.Struct, rename="camel", kw_only=True):
    """Identifies a pool in the namespace of the one that refers to it.

    Args:
        name: the pool's name.
        group: API group of the pool.
        kind: kind of the pool.
    """

    name: ObjectName
    group: GroupName = INFERENCE_GROUP
    kind: KindName = "InferencePool"

    @property
    def is_pool(self) -> bool:
        """Whether it points at a kind that is a pool here."""
        groups = (INFERENCE_GROUP, INFERENCE_GROUP_V1)
        return self.kind == "InferencePool" and self.group in groups
