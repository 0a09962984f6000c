"""What a `ModelServer` says of itself: whether requests can be sent to it.

Looking at servers is the gateway's: whoever looks tells with `set_reachable` what it saw, and the
controller draws the conclusion.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec

from inferno.controllers.loop import Key, Loop, Source
from inferno.controllers.reporting import namespace_key, report
from inferno.core import conditions
from inferno.core.conditions import present, settled
from inferno.core.errors import NotFound
from inferno.core.model_servers import REACHABLE, READY, ModelServer, Observation, observed
from inferno.core.resources import Condition
from inferno.core.secrets import Secret
from inferno.storage.base import ResourceStore


async def set_reachable(store: ResourceStore, namespace: str, name: str, seen: Observation) -> None:
    """Write down what came of a look at a model server.

    A write per look would be too many: call it when what was seen differs from the server's status.
    A server that is gone, or whose spec has changed since, is left alone.

    Args:
        store: holds the server.
        namespace: of the server.
        name: of the server.
        seen: what was seen.
    """
    now = present()

    def change(server: ModelServer) -> None:
        server.status = observed(server, seen, now=now)

    with contextlib.suppress(NotFound):
        await store.modify(ModelServer, name, change, namespace=namespace, status=True)


def verdict(server: ModelServer, secrets: Mapping[str, Secret]) -> Condition:
    """Return the condition `Ready` of a server, without its time.

    Args:
        server: with what was observed of it.
        secrets: those of its namespace, by name.
    """
    reference = server.spec.api_key_secret_ref
    if reference is not None:
        secret = secrets.get(reference.name)
        if secret is None:
            message = f"There is no Secret '{reference.name}'."
            return Condition(type=READY, status="False", reason="SecretNotFound", message=message)
        if reference.key not in secret.spec.data:
            message = f"Secret '{reference.name}' has no value '{reference.key}'."
            return Condition(
                type=READY, status="False", reason="SecretKeyNotFound", message=message
            )
    reachable = conditions.find(server.status.conditions, REACHABLE)
    if reachable is None or reachable.observed_generation != server.metadata.generation:
        message = "Nobody has looked at the server as it is described now."
        return Condition(type=READY, status="Unknown", reason="Pending", message=message)
    if reachable.status == "True":
        message = "Requests can be sent to the server."
        return Condition(type=READY, status="True", reason="Ready", message=message)
    return Condition(
        type=READY, status=reachable.status, reason=reachable.reason, message=reachable.message
    )


class ModelServerController:
    """Keeps the status of model servers true.

    Args:
        store: holds servers, and the Secrets that they refer to.
    """

    def __init__(self, store: ResourceStore) -> None:
        self._store = store

    def loop(self, *, resync: float = 300.0) -> Loop:
        """Return the loop that runs this controller.

        Args:
            resync: seconds between looks at everything.
        """
        sources = [Source(ModelServer, namespace_key), Source(Secret, namespace_key)]
        return Loop("model_server", self._store, sources, self.reconcile, resync=resync)

    async def reconcile(self, key: Key) -> None:
        """Look at all servers of a namespace. Raises what the store raises."""
        servers, _ = await self._store.list(ModelServer, namespace=key.namespace)
        if not servers:
            return
        found, _ = await self._store.list(Secret, namespace=key.namespace)
        secrets = {secret.metadata.name: secret for secret in found}
        now = present()
        for server in servers:
            settled_now = settled(
                server.status.conditions,
                [verdict(server, secrets)],
                generation=server.metadata.generation,
                now=now,
            )
            status = msgspec.structs.replace(server.status, conditions=settled_now)
            await report(self._store, server, status)
