"""Keeps the ModelServers of pools that take their endpoints from the registry.

What a query finds becomes ModelServers that the pool owns: they go with it, and whoever looks after
servers (the gateway's probes, statuses, `kubectl get`) needs to know nothing of the registry.
Entries that change, expire or go are heard of from the registry's change feed; once in a while
everything is looked at again, since who may register for a pool can change as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

import structlog

from inferno.controllers.events import Story, event_of
from inferno.controllers.loop import Key, Loop, Source, own_key
from inferno.core import conditions
from inferno.core.conditions import present, settled
from inferno.core.documents.matching import matches
from inferno.core.documents.weight import weight
from inferno.core.errors import Conflict, DeadlineExceeded, InvalidRequest, NotFound
from inferno.core.inference_pools import InferencePool
from inferno.core.model_servers import ModelServer
from inferno.core.registry_queries import (
    ANNOTATIONS,
    MAX_ENTRIES,
    Plan,
    RegistryQuery,
    Skipped,
    plan,
    query_of,
)
from inferno.core.resources import Condition
from inferno.storage.base import ResourceStore

CONDITION = "RegistryQuery"

NAMED = 5
"""Entries that a message names; of more it gives the number."""

RESYNC = 3600.0
"""Seconds between looks at all pools; the registry says when to look at those with a query."""

MUCH = 100
"""Tests of a query that are not asked of each change."""

PAUSE = 1.0
"""Seconds before the registry is followed again after an error."""

_log = structlog.get_logger(__name__)

Document = dict[str, Any]
Change = tuple[Document | None, Document | None]
"""An entry before and after; None where it was not, or is not any more."""


class Registry(Protocol):
    """The registry, as pools see it."""

    async def find(self, query: RegistryQuery, *, tenant: str, most: int) -> list[Document]:
        """Return the entries that a pool of a tenant may take, the first registered first.

        Raises:
            InvalidRequest: the query asks for too much.
            DeadlineExceeded: it takes too long.
        """

    def changes(self) -> AsyncGenerator[Sequence[Change] | None]:
        """Yield changes as they come, for ever; None where anything may have changed."""


class RegistryPoolController:
    """Makes ModelServers of what pools' queries find.

    Args:
        store: holds pools and servers.
        registry: is queried.
    """

    def __init__(self, store: ResourceStore, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._queries: dict[Key, RegistryQuery] = {}
        self._wanted = asyncio.Event()
        self._seen: dict[Key, object] = {}
        self._told: dict[Key, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Runs once."""
        source = Source(InferencePool, self._changed)
        loop = Loop("registry_pool", self._store, [source], self.reconcile, resync=RESYNC)
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow(loop))
            await loop.run(stop)
            following.cancel()

    def _changed(self, pool: InferencePool) -> tuple[Key, ...]:
        """Return the key of a pool that says something else than before; its status says a lot."""
        (key,) = own_key(pool)
        metadata = pool.metadata
        said = [metadata.annotations.get(name) for name in ANNOTATIONS]
        state = (metadata.uid, metadata.deletion_timestamp, said, pool.spec.selector)
        if self._seen.get(key) == state:
            return ()
        self._seen[key] = state
        return (key,)

    async def _follow(self, loop: Loop) -> None:
        """Look at pools again whose query finds something else; not before there is a query."""
        await self._wanted.wait()
        while True:
            try:
                async with contextlib.aclosing(self._registry.changes()) as feed:
                    async for changes in feed:
                        for key in self._concerned(changes):
                            loop.add(key)
            except Exception:  # a fault of ours must not end the loop
                _log.exception("registry_not_followed")
            await asyncio.sleep(PAUSE)

    def _concerned(self, changes: Sequence[Change] | None) -> list[Key]:
        """Return the pools to which changes can make a difference; all where nobody knows."""
        return [
            key
            for key, query in self._queries.items()
            if changes is None or any(_concerns(query, change) for change in changes)
        ]

    async def reconcile(self, key: Key) -> None:
        """Look at one pool, and act. Raises what the store raises."""
        self._queries.pop(key, None)
        try:
            pool = await self._store.get(InferencePool, key.name, key.namespace)
        except NotFound:
            self._told.pop(key, None)
            return
        if pool.metadata.deletion_timestamp is not None:
            return
        try:
            query = query_of(pool.metadata.annotations)
        except InvalidRequest as error:  # nobody can write that; it was stored some other way
            await self._report(pool, _failed("InvalidQuery", error.message))
            return
        if query is None and conditions.find(pool.status.conditions, CONDITION) is None:
            return
        await self._bring_in_line(pool, query, key)

    async def _bring_in_line(
        self, pool: InferencePool, query: RegistryQuery | None, key: Key
    ) -> None:
        """Have the servers that a query finds. One that fails leaves them as they are."""
        entries: list[Document] = []
        if query is not None:
            self._queries[key] = query
            self._wanted.set()
            most = MAX_ENTRIES + 1
            try:
                entries = await self._registry.find(query, tenant=key.namespace, most=most)
            except (InvalidRequest, DeadlineExceeded) as error:
                await self._report(pool, _failed("QueryFailed", error.message))
                return
        if not pool.spec.selector:
            entries = []
        servers, _ = await self._store.list(ModelServer, namespace=key.namespace)
        decision = plan(pool, query, entries[:MAX_ENTRIES], servers)
        if query is None:
            await self._act(key, decision)
            await self._report(pool, None)
            return
        # First of all: a pool that has servers is known by it when the query is taken away.
        too_many = len(entries) > MAX_ENTRIES
        await self._report(pool, _verdict(pool, query, decision, too_many=too_many))
        await self._act(key, decision)
        await self._tell(pool, key, decision.skipped)

    async def _act(self, key: Key, decision: Plan) -> None:
        for server in decision.create:
            await self._store.create(server)
        for server in decision.update:
            await self._update(server)
        for name in decision.delete:
            with contextlib.suppress(NotFound):
                await self._store.delete(ModelServer, name, key.namespace)
        if decision.create or decision.update or decision.delete:
            _log.info(
                "registry_pool_changed",
                pool=key.name,
                namespace=key.namespace,
                created=len(decision.create),
                updated=len(decision.update),
                deleted=len(decision.delete),
            )

    async def _update(self, wanted: ModelServer) -> None:
        metadata = wanted.metadata

        def change(server: ModelServer) -> None:
            server.spec = wanted.spec
            server.metadata.labels = metadata.labels
            server.metadata.annotations = {**server.metadata.annotations, **metadata.annotations}

        with contextlib.suppress(NotFound):
            await self._store.modify(
                ModelServer, metadata.name, change, namespace=metadata.namespace
            )

    async def _report(self, pool: InferencePool, verdict: Condition | None) -> None:
        """Write the condition down; None takes it away."""
        metadata, now = pool.metadata, present()

        def change(known: InferencePool) -> None:
            known.status.conditions = _with(known, verdict, now=now)

        if _with(pool, verdict, now=now) == pool.status.conditions:
            return
        with contextlib.suppress(NotFound):
            await self._store.modify(
                InferencePool, metadata.name, change, namespace=metadata.namespace, status=True
            )

    async def _tell(self, pool: InferencePool, key: Key, skipped: Sequence[Skipped]) -> None:
        """Write an event that names the entries which cannot be endpoints, when they are others."""
        message = _named(skipped)
        if self._told.get(key, "") == message:
            return
        self._told[key] = message
        if message:
            story = Story("Warning", "EntriesSkipped", message, present())
            with contextlib.suppress(Conflict):  # it was told already, by a process before
                await self._store.create(event_of(pool, story))


def _concerns(query: RegistryQuery, change: Change) -> bool:
    """Return whether a change can make a difference to what a query finds.

    Of a query that is much work that is not asked here, where everybody waits for the answer.
    """
    return weight(query.filter) > MUCH or any(
        entry is not None and matches(query.filter, entry) for entry in change
    )


def _with(pool: InferencePool, verdict: Condition | None, *, now: str) -> list[Condition]:
    """Return a pool's conditions with another verdict on its query, or with none."""
    before = pool.status.conditions
    if verdict is None:
        return [one for one in before if one.type != CONDITION]
    return settled(before, [verdict], generation=pool.metadata.generation, now=now)


def _failed(reason: str, message: str) -> Condition:
    return Condition(type=CONDITION, status="False", reason=reason, message=message)


def _verdict(
    pool: InferencePool, query: RegistryQuery, decision: Plan, *, too_many: bool
) -> Condition:
    """Return the condition of a pool, without its time."""
    if not pool.spec.selector:
        message = "The selector is empty: servers could not be given labels that it finds."
        return _failed("EmptySelector", message)
    said = [f"Servers of the registry in the pool: {decision.kept}."]
    reason = "Found" if decision.kept else "NothingFound"
    if not decision.kept and not decision.skipped:
        said = [f"No active entry matches that {_whose(query, pool.metadata.namespace)}."]
    if too_many:
        said.append(f"More than {MAX_ENTRIES} match; the first registered are taken.")
    if decision.skipped:
        reason = "EntriesSkipped"
        said.append(_named(decision.skipped))
    return Condition(type=CONDITION, status="True", reason=reason, message=" ".join(said))


def _whose(query: RegistryQuery, tenant: str) -> str:
    match query.owners:
        case "anyone":
            return "anybody registered"
        case "admins":
            return "an admin registered"
        case "tenant":
            return f"an admin, or somebody who may write models in '{tenant}', registered"


def _named(skipped: Sequence[Skipped]) -> str:
    """Return what is wrong with entries; empty for none."""
    if not skipped:
        return ""
    named = "; ".join(map(str, skipped[:NAMED]))
    more = f"; and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
    return f"Entries that cannot be endpoints: {len(skipped)}. {named}{more}."
