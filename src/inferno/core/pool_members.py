"""Which replicas and model servers a pool's selector finds, and where they listen. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from inferno.core.inference_pools import InferencePool
from inferno.core.labels import selects
from inferno.core.model_servers import ModelServer
from inferno.core.resources import Pod


class Member(NamedTuple):
    """A place that a pool's requests can go to.

    Args:
        kind: what it is; a server that listens on several ports is several members.
        name: of the Pod or ModelServer, in the namespace of the pool.
        host: name or address; empty for a replica that does not listen yet.
        port: where it listens; 0 for a replica that does not listen yet.
        ready: whether it can answer.
    """

    kind: Literal["Pod", "ModelServer"]
    name: str
    host: str
    port: int
    ready: bool


def members(
    pool: InferencePool, pods: Iterable[Pod], servers: Iterable[ModelServer]
) -> list[Member]:
    """Return the members of a pool, by kind, name and port.

    Args:
        pool: whose.
        pods: all replicas there are; those of other namespaces are passed over.
        servers: all model servers there are, likewise.
    """
    return sorted([*_replicas(pool, pods), *_servers(pool, servers)])


def _replicas(pool: InferencePool, pods: Iterable[Pod]) -> Iterator[Member]:
    for pod in pods:
        if not _is_in(pool, pod):
            continue
        leaving = pod.metadata.deletion_timestamp is not None
        ready = pod.status.phase == "Ready" and not leaving
        # A replica of ours says itself where it listens: any free port.
        yield Member("Pod", pod.metadata.name, pod.status.host, pod.status.port, ready)


def _servers(pool: InferencePool, servers: Iterable[ModelServer]) -> Iterator[Member]:
    for server in servers:
        if not _is_in(pool, server):
            continue
        spec = server.spec
        ports = pool.spec.target_ports if spec.port is None else [spec.port]
        for port in ports:
            ready = server.is_ready and port > 0
            yield Member("ModelServer", server.metadata.name, spec.address, port, ready)


def _is_in(pool: InferencePool, resource: Pod | ModelServer) -> bool:
    metadata = resource.metadata
    same_namespace = metadata.namespace == pool.metadata.namespace
    return same_namespace and selects(pool.spec.selector, metadata.labels)
