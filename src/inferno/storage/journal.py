"""Writes to the resource tables: every change is a row and an event with one version, at once."""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import Conflict
from inferno.core.resources import ObjectMeta, Resource
from inferno.storage.documents import Document, decode, encode, timestamp
from inferno.storage.sealing import Sealer
from inferno.storage.tables import (
    counters,
    resource_events,
    resource_history,
    resource_owners,
    resources,
)

R = TypeVar("R", bound=Resource)
EventType = Literal["ADDED", "MODIFIED", "DELETED"]

_VERSION = counters.c.name == "resource_version"
_UID_LENGTH = 36


async def read_version(connection: AsyncConnection) -> int:
    """Return the version of the newest write that the connection's transaction sees."""
    return await connection.scalar(select(counters.c.value).where(_VERSION)) or 0


class Journal:
    """The resource writes of one transaction; `begin` it first, `finish` it before the commit.

    Kinds are named by their key, as rows do.

    Args:
        connection: inside a write transaction.
        version: version of the newest write so far.
        history: how many events are kept for watchers to resume from.
        sealer: encrypts what is stored encrypted.
    """

    def __init__(
        self, connection: AsyncConnection, version: int, *, history: int, sealer: Sealer
    ) -> None:
        self._connection = connection
        self.sealer = sealer
        self._start = version
        self._history = history
        self.version = version
        self.latest: dict[str, int] = {}
        """The newest version of each kind that was written here."""

    @classmethod
    async def begin(cls, connection: AsyncConnection, *, history: int, sealer: Sealer) -> Journal:
        """Wait for all other writers, in every process, and start after them.

        The lock on the counter makes the order of versions the order of commits. With a sequence
        a later version could become visible first, and a watcher would skip the earlier one.
        """
        query = select(counters.c.value).where(_VERSION).with_for_update()
        version = await connection.scalar(query)
        if version is None:
            start = "INSERT INTO counters VALUES ('resource_version', 0) ON CONFLICT DO NOTHING"
            await connection.execute(text(start))
            version = await connection.scalar(query)
        return cls(connection, version or 0, history=history, sealer=sealer)

    async def finish(self) -> None:
        """Store the version reached, and forget events that are older than the history."""
        if self.version == self._start:
            return
        await self._connection.execute(update(counters).where(_VERSION).values(value=self.version))
        # In steps of a tenth of the history, so that few writes pay for it.
        step = max(1, self._history // 10)
        if self.version // step > self._start // step:
            await self._prune(self.version - self._history)

    async def find(self, key: str, kind: type[R], namespace: str, name: str) -> R | None:
        """Return the current state of a resource, or None."""
        query = select(resources.c.document).where(
            resources.c.kind == key, resources.c.namespace == namespace, resources.c.name == name
        )
        document = await self._connection.scalar(query)
        return None if document is None else decode(document, kind)

    async def add(self, key: str, resource: R) -> R:
        """Store a new resource and return it with its version. Raises Conflict."""
        metadata = resource.metadata
        if await self.find(key, Document, metadata.namespace, metadata.name) is not None:
            raise Conflict(
                f"{resource.KIND.kind} '{metadata.name}' exists already.", name=metadata.name
            )
        await self._check_owners(metadata)
        stored = self._numbered(self.sealer.protected(resource, None))
        row = {"uid": metadata.uid, "kind": key, "namespace": metadata.namespace}
        await self._connection.execute(
            insert(resources).values(**row, name=metadata.name, **_changing(stored))
        )
        await self._own(metadata)
        await self._record("ADDED", key, stored)
        return stored

    async def replace(self, key: str, current: R, wanted: R) -> R:
        """Store the next state of a resource, unless nothing changed, and return it."""
        if wanted == current:
            return current
        stored = self._numbered(wanted)
        uid = current.metadata.uid
        await self._connection.execute(
            update(resources).where(resources.c.uid == uid).values(**_changing(stored))
        )
        if wanted.metadata.owner_references != current.metadata.owner_references:
            await self._connection.execute(
                delete(resource_owners).where(resource_owners.c.dependent_uid == uid)
            )
            await self._own(wanted.metadata)
        await self._record("MODIFIED", key, stored)
        return stored

    async def remove(self, key: str, resource: R) -> R:
        """Remove a resource and return its last state, with the version of the removal."""
        stored = self._numbered(resource)
        await self._connection.execute(
            delete(resources).where(resources.c.uid == resource.metadata.uid)
        )
        await self._record("DELETED", key, stored)
        return stored

    async def orphans(self, owner_uid: str) -> list[tuple[str, Document]]:
        """Return the resources that named this owner and have no other one left, with keys."""
        dependent, owner, link = resources.alias(), resources.alias(), resource_owners.alias()
        other_owner_lives = (
            select(link.c.owner_uid)
            .join(owner, owner.c.uid == link.c.owner_uid)
            .where(link.c.dependent_uid == dependent.c.uid)
            .exists()
        )
        query = (
            select(dependent.c.kind, dependent.c.document)
            .join(resource_owners, resource_owners.c.dependent_uid == dependent.c.uid)
            .where(resource_owners.c.owner_uid == owner_uid, ~other_owner_lives)
            .order_by(dependent.c.kind, dependent.c.namespace, dependent.c.name)
        )
        found = (await self._connection.execute(query)).all()
        return [(key, decode(document, Document)) for key, document in found]

    async def dependents(self, owner_uid: str) -> list[tuple[str, Document]]:
        """Return all resources that name this owner, with their keys."""
        query = (
            select(resources.c.kind, resources.c.document)
            .join(resource_owners, resource_owners.c.dependent_uid == resources.c.uid)
            .where(resource_owners.c.owner_uid == owner_uid)
            .order_by(resources.c.kind, resources.c.namespace, resources.c.name)
        )
        found = (await self._connection.execute(query)).all()
        return [(key, decode(document, Document)) for key, document in found]

    async def find_uid(self, uid: str) -> tuple[str, Document] | None:
        """Return the resource with this uid and its key, or None."""
        query = select(resources.c.kind, resources.c.document).where(resources.c.uid == uid)
        found = (await self._connection.execute(query)).first()
        return None if found is None else (found[0], decode(found[1], Document))

    def _numbered(self, resource: R) -> R:
        self.version += 1
        metadata = msgspec.structs.replace(resource.metadata, resource_version=str(self.version))
        return msgspec.structs.replace(resource, metadata=metadata)

    async def _check_owners(self, metadata: ObjectMeta) -> None:
        # Whoever creates a dependent saw the owner a moment ago; should it have gone since,
        # nothing would ever take the dependent away.
        owners = [owner.uid for owner in metadata.owner_references]
        if not owners:
            return
        alive = select(resources.c.uid).where(resources.c.uid.in_(owners)).limit(1)
        if await self._connection.scalar(alive) is None:
            raise Conflict(f"The owner of '{metadata.name}' is gone.", name=metadata.name)

    async def _own(self, metadata: ObjectMeta) -> None:
        # A longer uid is none of ours; nothing here can own by it.
        owners = {owner.uid for owner in metadata.owner_references if len(owner.uid) <= _UID_LENGTH}
        if owners:
            await self._connection.execute(
                insert(resource_owners),
                [{"dependent_uid": metadata.uid, "owner_uid": uid} for uid in sorted(owners)],
            )

    async def _record(self, event: EventType, key: str, resource: Resource) -> None:
        metadata = resource.metadata
        await self._connection.execute(
            insert(resource_events).values(
                version=self.version,
                type=event,
                kind=key,
                namespace=metadata.namespace,
                name=metadata.name,
                document=encode(resource),
                at=timestamp(),
            )
        )
        self.latest[key] = self.version

    async def _prune(self, through: int) -> None:
        events = resource_events.c
        forgotten = await self._connection.execute(
            select(events.kind, func.max(events.version))
            .where(events.version <= through)
            .group_by(events.kind)
        )
        for kind, version in forgotten.all():
            same = resource_history.c.kind == kind
            await self._connection.execute(delete(resource_history).where(same))
            await self._connection.execute(
                insert(resource_history).values(kind=kind, pruned_through=version)
            )
        await self._connection.execute(delete(resource_events).where(events.version <= through))


def _changing(resource: Resource) -> dict[str, object]:
    return {
        "resource_version": int(resource.metadata.resource_version),
        "generation": resource.metadata.generation,
        "document": encode(resource),
    }
