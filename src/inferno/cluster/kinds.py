"""All kinds that the cluster API serves, in the order in which `kubectl api-resources` has them."""

from __future__ import annotations

from inferno.cluster.catalog import Catalog
from inferno.core.served import (
    catalogue,
    deployments,
    events,
    inference_services,
    namespaces,
    nodes,
    pods,
)


def catalog(node: str) -> Catalog:
    """Return the catalog.

    Args:
        node: name of the machine that runs the replicas.
    """
    return Catalog(
        (
            namespaces.NAMESPACES,
            nodes.NODES,
            pods.definition(node),
            events.EVENTS,
            deployments.DEPLOYMENTS,
            inference_services.SERVICES,
            *catalogue.DEFINITIONS,
        )
    )
