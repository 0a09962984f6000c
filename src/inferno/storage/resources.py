"""The resource store over SQL. Decisions are in `transitions`, writes in `journal`."""

from __future__ import annotations

import contextlib
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Self, TypeVar

from sqlalchemy import false, select

from inferno.core.errors import NotFound
from inferno.core.resources import DEFAULT_NAMESPACE, Resource
from inferno.storage import transitions
from inferno.storage.base import WatchEvent
from inferno.storage.database import Database
from inferno.storage.documents import (
    Document,
    checked,
    decode,
    kind_key,
    timestamp,
    valid_name,
    valid_namespace,
)
from inferno.storage.feed import CHANNEL, Feed
from inferno.storage.journal import Journal, read_version
from inferno.storage.sealing import NoSealer, Sealer
from inferno.storage.tables import resources
from inferno.storage.watches import Watch

R = TypeVar("R", bound=Resource)


class SqlResourceStore:
    """A `ResourceStore` in SQLite or Postgres. Make one with `open`, on one event loop.

    Any number of processes may write to one database; all of their watches see every write.
    """

    def __init__(self, database: Database, feed: Feed, *, history: int, sealer: Sealer) -> None:
        self._database = database
        self._feed = feed
        self._history = history
        self._sealer = sealer

    @classmethod
    async def open(
        cls,
        database: Database,
        *,
        history: int = 10_000,
        interval: float = 0.5,
        sealer: Sealer | None = None,
    ) -> Self:
        """Start a store.

        Args:
            database: stays the caller's to close, after the store.
            history: how many events are kept for watches to resume from.
            interval: seconds between looks for writes of other processes; Postgres tells sooner.
            sealer: encrypts values of Secrets; without one, there can be none.

        Raises:
            Overloaded: the database does not answer.
        """
        feed = Feed(database, interval=interval)
        await feed.start()
        return cls(database, feed, history=history, sealer=sealer or NoSealer())

    async def close(self) -> None:
        """End all watches."""
        await self._feed.close()

    async def list(
        self,
        kind: type[R],
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> tuple[list[R], int]:
        """Return the matching resources by (namespace, name) and the version of the snapshot."""
        query = select(resources.c.document).where(resources.c.kind == kind_key(kind))
        if namespace is not None:
            possible = valid_namespace(namespace)
            query = query.where(resources.c.namespace == namespace if possible else false())
        async with self._database.read() as connection:
            version = await read_version(connection)
            documents = (await connection.scalars(query)).all()
        found = [decode(document, kind) for document in documents]
        wanted = dict(labels or {}).items()
        matching = [resource for resource in found if wanted <= resource.metadata.labels.items()]
        # Here rather than in SQL, where the order would depend on the database's locale.
        matching.sort(key=lambda resource: (resource.metadata.namespace, resource.metadata.name))
        return matching, version

    async def get(self, kind: type[R], name: str, namespace: str = DEFAULT_NAMESPACE) -> R:
        """Return one resource. Raises NotFound."""
        _check_may_exist(kind, name, namespace)
        query = select(resources.c.document).where(
            resources.c.kind == kind_key(kind),
            resources.c.namespace == namespace,
            resources.c.name == name,
        )
        async with self._database.read() as connection:
            document = await connection.scalar(query)
        if document is None:
            raise _not_found(kind, name)
        return decode(document, kind)

    async def create(self, resource: R) -> R:
        """Store a new resource, and return it with uid, version and timestamps filled.

        Raises:
            InvalidRequest: the name or a value cannot be stored.
            Conflict: the name is taken, or all of its owners are gone.
        """
        first = transitions.created(checked(resource), uid=str(uuid.uuid4()), at=timestamp())
        async with self._write() as journal:
            return await journal.add(kind_key(type(resource)), first)

    async def update(self, resource: R) -> R:
        """Replace what a client owns of a resource, except its status.

        Raises:
            InvalidRequest: a value cannot be stored, or a finalizer is added too late.
            NotFound: there is no such resource.
            Conflict: `metadata.resource_version` or `uid` is set and not the current one.
        """
        return await self._put(resource, status=False)

    async def update_status(self, resource: R) -> R:
        """Replace only the status. Raises as `update` does."""
        return await self._put(resource, status=True)

    async def modify(
        self,
        kind: type[R],
        name: str,
        change: Callable[[R], None],
        *,
        namespace: str = DEFAULT_NAMESPACE,
        status: bool = False,
    ) -> R:
        """Let `change` mutate a copy and write it, with no other write in between.

        Raises:
            InvalidRequest: as `update` does.
            NotFound: there is no such resource.
        """
        async with self._write() as journal:
            current = await _current(journal, kind, kind, name, namespace)
            wanted = checked(current)
            change(wanted)
            return await _step(journal, current, checked(wanted), status=status)

    async def delete(
        self, kind: type[Resource], name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None:
        """Remove a resource and its dependents, or mark it while finalizers hold it.

        Raises:
            NotFound: there is no such resource.
        """
        async with self._write() as journal:
            # As a Document, so that even one that this version cannot read can be removed.
            current = await _current(journal, kind, Document, name, namespace)
            await _delete(journal, kind_key(kind), current)

    def watch(self, kind: type[R], *, since: int | None = None) -> AsyncIterator[WatchEvent[R]]:
        """Yield changes of a kind after version `since` (default: from this call on).

        Raises:
            Expired: from the iterator, when `since` is older than the history kept.
        """
        return Watch(
            self._database, self._feed, kind, self._feed.version if since is None else since
        )

    async def _put(self, resource: R, *, status: bool) -> R:
        kind, metadata = type(resource), resource.metadata
        _check_may_exist(kind, metadata.name, metadata.namespace)
        wanted = checked(resource)
        async with self._write() as journal:
            current = await _current(journal, kind, kind, metadata.name, metadata.namespace)
            transitions.check_precondition(current.metadata, metadata)
            return await _step(journal, current, wanted, status=status)

    @contextlib.asynccontextmanager
    async def _write(self) -> AsyncIterator[Journal]:
        async with self._database.transaction() as connection:
            journal = await Journal.begin(connection, history=self._history, sealer=self._sealer)
            yield journal
            await journal.finish()
            if journal.latest:
                await self._database.announce(connection, CHANNEL)
        if journal.latest:
            self._feed.publish(journal.latest)


async def _current(
    journal: Journal, kind: type[Resource], shape: type[R], name: str, namespace: str
) -> R:
    _check_may_exist(kind, name, namespace)
    current = await journal.find(kind_key(kind), shape, namespace, name)
    if current is None:
        raise _not_found(kind, name)
    return current


async def _step(journal: Journal, current: R, wanted: R, *, status: bool) -> R:
    key = kind_key(type(current))
    if status:
        return await journal.replace(key, current, transitions.with_status(current, wanted))
    # Before the comparison: a value that is written again as it was is no change.
    following = transitions.updated(current, journal.sealer.protected(wanted, current))
    if not transitions.is_gone(following.metadata):
        return await journal.replace(key, current, following)
    return await _remove(journal, key, following)


async def _delete(journal: Journal, key: str, resource: Resource) -> None:
    marked = transitions.going(resource, at=timestamp())
    if transitions.is_gone(marked.metadata):
        await _remove(journal, key, resource)
    else:
        await journal.replace(key, resource, marked)


async def _remove(journal: Journal, key: str, resource: R) -> R:
    """Remove a resource, then whatever it leaves without an owner."""
    removed = await journal.remove(key, resource)
    owners = deque([resource.metadata.uid])
    while owners:
        for orphan_key, orphan in await journal.orphans(owners.popleft()):
            marked = transitions.going(orphan, at=timestamp())
            if transitions.is_gone(marked.metadata):
                await journal.remove(orphan_key, orphan)
                owners.append(orphan.metadata.uid)
            else:
                await journal.replace(orphan_key, orphan, marked)
    return removed


def _check_may_exist(kind: type[Resource], name: str, namespace: str) -> None:
    """Keep names that cannot exist away from the database, which chokes on some of them."""
    if not valid_name(name) or not valid_namespace(namespace):
        raise _not_found(kind, name)


def _not_found(kind: type[Resource], name: str) -> NotFound:
    return NotFound(f"{kind.KIND.kind} '{name}' not found.", kind=kind.KIND.kind, name=name)
