"""Inferno: an inference platform in one process, and the Python client of its inference API.

`from inferno import Client` loads the client, and nothing else does: the command line starts with
this package and must start at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inferno.client import (
        AsyncClient,
        AsyncRegistry,
        Client,
        ClientError,
        Registry,
        verify_webhook,
    )

__all__ = [
    "AsyncClient",
    "AsyncRegistry",
    "Client",
    "ClientError",
    "Registry",
    "verify_webhook",
]


def __getattr__(name: str) -> Any:
    """Load the client when its first name is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'inferno' has no attribute {name!r}")
    from inferno import client

    return getattr(client, name)
