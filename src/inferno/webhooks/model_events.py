"""Events of models, told from what the store says of their replicas.

Level-triggered: what subscribers were last told of each model is kept, and compared with what is.
So nothing is told again at a start, what changed while nobody looked is told then, and of several
processes that see the same change one tells it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import Expired, InfernoError
from inferno.core.events import Event, EventName
from inferno.core.resources import DEFAULT_NAMESPACE, Pod
from inferno.storage.base import ResourceStore
from inferno.storage.database import Database
from inferno.storage.tables import webhook_model_states as table
from inferno.webhooks.outbox import Outbox

UNLOADED = "unloaded"
LOADED = "loaded"
FAILED = "failed"

RETRY_SECONDS = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a model stands.

    Args:
        state: `loaded`, `unloaded`, or `failed` with the replica that failed.
        facts: what an event says of it.
    """

    state: str
    facts: dict[str, Any]


def standing_of(pods: Iterable[Pod]) -> Standing:
    """Return how a model stands, by its replicas."""
    present = [pod for pod in pods if pod.metadata.deletion_timestamp is None]
    ready = [pod for pod in present if pod.status.phase == "Ready"]
    if ready:
        status = min(ready, key=lambda pod: pod.status.ready_at).status
        facts: dict[str, Any] = {
            "load_time_ms": status.load_time_ms,
            "memory_usage_bytes": sum(pod.status.memory_bytes for pod in ready),
            "context_size": status.context_size,
        }
        return Standing(LOADED, facts)
    failed = [pod for pod in present if pod.status.phase == "Failed"]
    if failed and len(failed) == len(present):
        last = failed[-1]
        facts = {"reason": last.status.reason, "message": last.status.message}
        return Standing(f"{FAILED} {last.metadata.uid}", facts)
    return Standing(UNLOADED, {})


def place_of(pod: Pod) -> str:
    """Return which model a replica belongs to, as namespace and name."""
    return f"{pod.metadata.namespace}/{pod.spec.service}"


def events_between(place: str, told: str, now: Standing) -> list[Event]:
    """Return what subscribers are to be told of a model.

    Models of the default namespace are everybody's, others those of the tenant with its name.

    Args:
        place: its namespace and name.
        told: the state that they know.
        now: how it stands.
    """
    names: list[tuple[EventName, dict[str, Any]]] = []
    if told == LOADED and now.state != LOADED:
        names.append((EventName.MODEL_UNLOADED, {}))
    if now.state == LOADED and told != LOADED:
        names.append((EventName.MODEL_LOADED, now.facts))
    if now.state.startswith(FAILED) and told != now.state:
        names.append((EventName.MODEL_FAILED, now.facts))
    namespace, _, model = place.partition("/")
    tenant = None if namespace == DEFAULT_NAMESPACE else namespace
    return [Event(name=n, tenant=tenant, data={"model": model, **facts}) for n, facts in names]


class ModelEvents:
    """Follows the replicas and tells of models.

    Args:
        store: where replicas are watched.
        database: where it is kept what was told.
        outbox: takes the events.
    """

    def __init__(self, store: ResourceStore, database: Database, outbox: Outbox) -> None:
        self._store = store
        self._database = database
        self._outbox = outbox
        self._pods: dict[str, Pod] = {}
        self._told: dict[str, str] = {}

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Tell of models while the block runs."""
        async with asyncio.TaskGroup() as tasks:
            follower = tasks.create_task(self._follow())
            try:
                yield
            finally:
                follower.cancel()

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_once()
                return
            except Expired:
                continue
            except InfernoError as error:
                log.warning("model_events_not_told", error=error.message)
            except Exception:  # inference goes on, whatever is the matter here
                log.exception("model_events_failed")
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow_once(self) -> None:
        """List, tell, then watch from there. Raises what the store raises."""
        listed, version = await self._store.list(Pod)
        self._pods = {pod.metadata.uid: pod for pod in listed}
        self._told = await self._read()
        for place in self._told.keys() | {place_of(pod) for pod in listed}:
            await self._tell(place, version)
        async for change in self._store.watch(Pod, since=version):
            pod = change.resource
            if change.type == "DELETED":
                self._pods.pop(pod.metadata.uid, None)
            else:
                self._pods[pod.metadata.uid] = pod
            await self._tell(place_of(pod), change.resource_version)

    async def _read(self) -> dict[str, str]:
        query = sa.select(table.c.model, table.c.state)
        async with self._database.read() as connection:
            return dict((await connection.execute(query)).all())

    async def _tell(self, place: str, version: int) -> None:
        """Tell of a model what its subscribers do not know yet.

        Args:
            place: its namespace and name.
            version: of the store, as far as this process has seen it.
        """
        now = standing_of(pod for pod in self._pods.values() if place_of(pod) == place)
        if self._told.get(place, UNLOADED) == now.state:
            return
        async with self._database.transaction() as connection:
            told, seen = await _told_of(connection, place)
            # Another process may have seen more; then it is for that one to tell.
            events = events_between(place, told, now) if version > seen else []
            for event in events:
                await self._outbox.add(connection, event)
            if version > seen:
                await _note(connection, place, now.state, version)
        self._told[place] = now.state
        if events:
            self._outbox.wake()


async def _told_of(connection: AsyncConnection, place: str) -> tuple[str, int]:
    """Return what was last told of a model, and as of when; whoever else wants to tell waits."""
    start = "INSERT INTO webhook_model_states (model, state, version) VALUES (:model, :state, 0)"
    values = {"model": place, "state": UNLOADED}
    await connection.execute(sa.text(f"{start} ON CONFLICT DO NOTHING"), values)
    query = sa.select(table.c.state, table.c.version).where(table.c.model == place)
    row = (await connection.execute(query.with_for_update())).one()
    return str(row.state), int(row.version)


async def _note(connection: AsyncConnection, place: str, state: str, version: int) -> None:
    values = {"state": state, "version": version}
    await connection.execute(sa.update(table).where(table.c.model == place).values(values))
