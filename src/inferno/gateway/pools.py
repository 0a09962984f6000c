"""Pools and model names: from what the store says of them to lines and routes.

Level-triggered: whatever changes, the whole picture is drawn anew a moment later, and what is the
same as before is left alone: an endpoint that stays keeps its count, its health and its memory of
prompts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import structlog

from inferno.core.errors import InfernoError, ModelNotFound
from inferno.core.inference_models import InferenceModel, routed, winners
from inferno.core.inference_objectives import InferenceObjective
from inferno.core.inference_pools import InferencePool
from inferno.core.labels import selects
from inferno.core.model_servers import ModelServer
from inferno.core.pool_members import Member, members
from inferno.core.replica_labels import replica_labels
from inferno.core.resources import Pod, Resource
from inferno.core.secrets import Secret
from inferno.core.target_split import TargetSplit
from inferno.gateway.directory import Directory
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.following import follow, join_place, place_of
from inferno.gateway.lines import LineTable
from inferno.gateway.quotas import QuotaBook, name_of
from inferno.gateway.routing import Objective, Route, RouteKey
from inferno.gateway.server_clients import ServerClients
from inferno.gateway.upstream import Address
from inferno.storage.base import ResourceStore

R = TypeVar("R", bound=Resource)
T = TypeVar("T")

log = structlog.get_logger(__name__)

SERVER_CAPACITY = 256
"""Requests that a model server is given at once, until it says how many it works on: vLLM's default
of how many it works on."""

SETTLING_SECONDS = 0.02
"""After a change, before the picture is drawn anew: changes come in crowds."""


LINE_PREFIX = "pool:"
"""Of the names of pools' lines; no model's name has a colon."""


def line_name(namespace: str, pool: str) -> str:
    """Return the name of a pool's line."""
    return f"{LINE_PREFIX}{namespace}/{pool}"


class Loadable(NamedTuple):
    """Models of ours that a pool can have loaded.

    Args:
        places: of the models, by their names and by those of their adapters.
        exact: whether a target has to be one of these names, or to be had elsewhere: replicas of
            one model alone answer for any.
    """

    places: dict[str, str]
    exact: bool


class Pools:
    """Routes by name, over lines of pools.

    Args:
        store: where pools, names and servers are watched.
        directory: the replicas of ours.
        lines: the table to keep.
        clients: HTTP clients for servers, by their TLS.
        quotas: counts what servers with quotas are given.
        unsealed: opens the value of a Secret.
    """

    def __init__(
        self,
        store: ResourceStore,
        directory: Directory,
        lines: LineTable,
        clients: ServerClients,
        quotas: QuotaBook,
        *,
        unsealed: Callable[[Secret, str], bytes | None],
    ) -> None:
        self.named: dict[RouteKey, Route] = {}
        self.objectives: dict[RouteKey, Objective] = {}
        self.servers: dict[str, ModelServer] = {}
        self.remote: dict[str, list[Endpoint]] = {}
        """Endpoints of each model server, by its place."""
        self._store = store
        self._directory = directory
        self._lines = lines
        self._clients = clients
        self._quotas = quotas
        self._unsealed = unsealed
        self._pools: dict[str, InferencePool] = {}
        self._models: dict[str, InferenceModel] = {}
        self._named_objectives: dict[str, InferenceObjective] = {}
        self._secrets: dict[str, Secret] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._loadables: dict[str, Loadable] = {}
        """What the pools can have loaded, by their lines."""
        self._stale = asyncio.Event()
        self.redrawn = asyncio.Event()
        """Set, and replaced, each time that the picture is drawn."""

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Keep the routes fresh while the block runs; they are complete when it begins."""
        pictures: list[tuple[type[Resource], Any]] = [
            (InferencePool, self._pools),
            (InferenceModel, self._models),
            (InferenceObjective, self._named_objectives),
            (ModelServer, self.servers),
            (Secret, self._secrets),
        ]
        async with asyncio.TaskGroup() as tasks:
            ready = [asyncio.Event() for _ in pictures]
            minding = [
                tasks.create_task(follow(self._store, kind, known, self._on_change, event))
                for (kind, known), event in zip(pictures, ready, strict=True)
            ]
            for event in ready:
                await event.wait()
            self._draw()
            minding.append(tasks.create_task(self._redraw()))
            minding.append(tasks.create_task(self._mind_replicas()))
            yield
            for task in minding:
                task.cancel()

    def has_name(self, model: str) -> bool:
        """Return whether a model is to be had under that name in any namespace."""
        return any(name == model for _, name in self.named)

    def _on_change(self, resource: Resource, gone: bool) -> None:
        self._stale.set()

    async def _mind_replicas(self) -> None:
        """Take in what the directory has heard of replicas of ours."""
        while True:
            await self._directory.noticed()
            self._stale.set()

    async def _redraw(self) -> None:
        while True:
            await self._stale.wait()
            await asyncio.sleep(SETTLING_SECONDS)
            self._stale.clear()
            self._draw()

    def _draw(self) -> None:
        """Bring lines and routes in line with what is known."""
        seen: dict[str, Endpoint] = {}
        self.remote = {}
        self._loadables = {}
        known_lines: set[str] = set()
        pods = by_namespace(self._directory.pods.values())
        servers = by_namespace(self.servers.values())
        for pool in self._pools.values():
            if pool.is_served:
                known_lines.add(self._draw_pool(pool, pods, servers, seen))
        for name in self._known_lines() - known_lines:
            self._lines.drop(name, lambda: ModelNotFound("", []))
        self._endpoints = seen
        self._draw_routes()
        self.redrawn.set()
        self.redrawn = asyncio.Event()

    def _loadable(self, pool: InferencePool, *, is_mixed: bool) -> Loadable:
        """Return the models of ours whose replicas a pool finds.

        Args:
            pool: which.
            is_mixed: whether it has servers of others.
        """
        namespace, selector = pool.metadata.namespace, pool.spec.selector
        own: dict[str, str] = {}
        adapters: dict[str, str] = {}
        for place, service in self._directory.services.items():
            if service.metadata.namespace != namespace:
                continue
            if selects(selector, replica_labels(service)):
                own[service.metadata.name] = place
                adapters |= dict.fromkeys(service.spec.predictor.model.adapters, place)
        return Loadable(adapters | own, exact=bool(adapters) or is_mixed)

    def _known_lines(self) -> set[str]:
        return {line.model for line in self._lines.lines() if line.model.startswith(LINE_PREFIX)}

    def _draw_pool(
        self,
        pool: InferencePool,
        pods: Mapping[str, Sequence[Pod]],
        servers: Mapping[str, Sequence[ModelServer]],
        seen: dict[str, Endpoint],
    ) -> str:
        """Bring one pool's line up to date with what its namespace has, and return its name."""
        metadata = pool.metadata
        line = self._lines.line(line_name(metadata.namespace, metadata.name))
        space = metadata.namespace
        found = members(pool, pods.get(space, ()), servers.get(space, ()))
        is_mixed = any(member.kind == "ModelServer" for member in found)
        self._loadables[line.model] = self._loadable(pool, is_mixed=is_mixed)
        wanted = {e.name: e for e in self._present(metadata.namespace, found, seen)}
        for name, endpoint in list(line.endpoints.items()):
            if wanted.get(name) is not endpoint:
                line.remove(name)
        for name, endpoint in wanted.items():
            if name not in line.endpoints:
                line.add(endpoint)
        return line.model

    def _present(
        self, namespace: str, found: Iterable[Member], seen: dict[str, Endpoint]
    ) -> Iterable[Endpoint]:
        """Yield the endpoints of members that requests can go to."""
        for member in found:
            if member.kind == "Pod":
                endpoint = self._replica(namespace, member) if member.ready else None
            else:
                endpoint = self._server(namespace, member, seen)
            if endpoint is not None:
                yield endpoint

    def _replica(self, namespace: str, member: Member) -> Endpoint | None:
        """Return the endpoint of a replica of ours: the one that its own model's line has."""
        pod = self._directory.pods.get(join_place(namespace, member.name))
        return None if pod is None else self._directory.endpoint_of(pod)

    def _server(self, namespace: str, member: Member, seen: dict[str, Endpoint]) -> Endpoint | None:
        """Return the endpoint of a model server: the one there is, unless it has changed."""
        server = self.servers.get(join_place(namespace, member.name))
        if server is None or server.metadata.deletion_timestamp is not None or not member.port:
            return None
        key = self._key(server)
        if key is None:
            return None
        name = f"modelserver/{namespace}/{member.name}:{member.port}"
        address = Address(member.host, member.port)
        client = self._clients.client(server.spec.tls)
        endpoint = seen.get(name) or self._endpoints.get(name)
        same = (
            endpoint is not None
            and endpoint.address == address
            and endpoint.authorization == key
            and endpoint.client is client
        )
        if endpoint is None or not same:
            endpoint = Endpoint(
                name=name,
                model="",
                address=address,
                authorization=key,
                capacity=SERVER_CAPACITY,
                slots=SERVER_CAPACITY,
                context_size=0,
                capabilities=None,
                remote=True,
                client=client,
            )
            endpoint.health.reachable = False  # until somebody has looked
        endpoint.quota = self._quotas.of(name_of(server), server.spec.quota)
        known = server.spec.models or server.status.models
        anything = server.status.engine == "llamacpp" and not server.spec.models
        endpoint.serves = frozenset(known) if known and not anything else None
        seen[name] = endpoint
        self.remote.setdefault(place_of(server), []).append(endpoint)
        return endpoint

    def _key(self, server: ModelServer) -> bytes | None:
        """Return the header that opens a server; None where its Secret is not there."""
        reference = server.spec.api_key_secret_ref
        if reference is None:
            return b""
        secret = self._secrets.get(join_place(server.metadata.namespace, reference.name))
        if secret is None:
            return None
        try:
            value = self._unsealed(secret, reference.key)
        except InfernoError as error:
            log.warning("secret_unreadable", secret=place_of(secret), error=error.message)
            return None
        return None if value is None else b"Bearer " + value.strip()

    def _draw_routes(self) -> None:
        """Bring the routes up to date: the oldest of those that want a name has it."""
        named: dict[RouteKey, Route] = {}
        priorities: dict[str, set[int]] = {}
        lines = self._known_lines()
        pools = {
            (pool.metadata.namespace, pool.metadata.name)
            for pool in self._pools.values()
            if pool.is_served
        }
        holders = winners(self._models.values()).values()
        for (namespace, model_name), model in routed(holders, pools).items():
            pool = model.spec.pool_ref.name
            name, priority = line_name(namespace, pool), model.spec.priority
            priorities.setdefault(name, set()).add(priority)
            loadable, exact = self._loadables[name]
            named[namespace, model_name] = Route(
                model_name,
                self._lines.line(name),
                split=TargetSplit.of(model_name, model.spec.target_models),
                priority=priority,
                pool=f"{namespace}/{pool}",
                loadable=loadable,
                exact=exact,
            )
        _replace(self.named, named)
        objectives = {
            (one.metadata.namespace, one.metadata.name): Objective(
                one.spec.priority or 0, one.spec.pool_ref.name
            )
            for one in self._named_objectives.values()
        }
        _replace(self.objectives, objectives)
        for one in self._named_objectives.values():
            name = line_name(one.metadata.namespace, one.spec.pool_ref.name)
            priorities.setdefault(name, set()).add(one.spec.priority or 0)
        for name, levels in priorities.items():
            if name in lines:
                self._lines.line(name).tight = levels != {0}


def by_namespace(resources: Iterable[R]) -> dict[str, list[R]]:
    """Return resources by their namespaces."""
    spaces: dict[str, list[R]] = {}
    for resource in resources:
        spaces.setdefault(resource.metadata.namespace, []).append(resource)
    return spaces


def _replace(table: dict[RouteKey, T], content: dict[RouteKey, T]) -> None:
    """Give a table that others hold another content, in one step."""
    table.clear()
    table.update(content)
