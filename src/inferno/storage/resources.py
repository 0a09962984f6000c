"""The resource store over SQL. Decisions are in `transitions`, writes in `journal`."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Self, TypeVar

from sqlalchemy import ColumnElement, Select, and_, collate, false, func, or_, select

from inferno.core.errors import NotFound
from inferno.core.resources import DEFAULT_NAMESPACE, ObjectMeta, Resource
from inferno.storage import removal, transitions
from inferno.storage.base import Page, Propagation, WatchEvent
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
from inferno.storage.tables import resource_events, resources
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

    async def page(
        self,
        kind: type[R],
        *,
        limit: int,
        namespace: str | None = None,
        after: tuple[str, str] | None = None,
    ) -> Page[R]:
        """Return at most `limit` resources whose (namespace, name) comes after `after`."""
        spaces, names = self._sorted(resources.c.namespace), self._sorted(resources.c.name)
        query = select(resources.c.document).where(resources.c.kind == kind_key(kind))
        if namespace is not None:
            possible = valid_namespace(namespace)
            query = query.where(resources.c.namespace == namespace if possible else false())
        if after is not None:
            further = and_(spaces == after[0], names > after[1])
            query = query.where(or_(spaces > after[0], further))
        wanted = query.order_by(spaces, names).limit(limit)
        async with self._database.read() as connection:
            version = await read_version(connection)
            documents = (await connection.scalars(wanted)).all()
            left = await connection.scalar(_count(query)) if len(documents) == limit else None
        found = [decode(document, kind) for document in documents]
        return Page(found, version, max(0, (left or 0) - len(found)))

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

    async def create(self, resource: R, *, dry_run: bool = False) -> R:
        """Store a new resource, and return it with uid, version and timestamps filled.

        Args:
            resource: with its status.
            dry_run: keep nothing of it.

        Raises:
            InvalidRequest: the name or a value cannot be stored.
            Conflict: the name is taken, or all of its owners are gone.
        """
        first = transitions.created(checked(resource), uid=str(uuid.uuid4()), at=timestamp())
        async with self._write(dry_run=dry_run) as journal:
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
        dry_run: bool = False,
    ) -> R:
        """Let `change` mutate a copy and write it, with no other write in between.

        Raises:
            InvalidRequest: as `update` does.
            NotFound: there is no such resource.
        """
        async with self._write(dry_run=dry_run) as journal:
            current = await _current(journal, kind, kind, name, namespace)
            wanted = checked(current)
            change(wanted)
            return await _step(journal, current, checked(wanted), status=status)

    async def delete(
        self,
        kind: type[Resource],
        name: str,
        namespace: str = DEFAULT_NAMESPACE,
        *,
        propagation: Propagation = "Background",
        precondition: Callable[[ObjectMeta], None] | None = None,
        dry_run: bool = False,
    ) -> ObjectMeta:
        """Remove a resource and its dependents, or mark it while finalizers hold it.

        Args:
            kind: of the resource.
            name: of the resource.
            namespace: of the resource.
            propagation: what becomes of its dependents.
            precondition: may raise for what is stored now.
            dry_run: keep nothing of it.

        Returns:
            The last metadata; it has finalizers where the resource is only marked.

        Raises:
            NotFound: there is no such resource.
        """
        async with self._write(dry_run=dry_run) as journal:
            # As a Document, so that even one that this version cannot read can be removed.
            current = await _current(journal, kind, Document, name, namespace)
            if precondition is not None:
                precondition(current.metadata)
            last = await removal.delete(journal, kind_key(kind), current, propagation)
        return last.metadata

    def _sorted(self, column: ColumnElement[str]) -> ColumnElement[str]:
        """Return a column that sorts by code points, whatever the database's locale."""
        return collate(column, "C") if self._database.is_postgres else column

    async def before(self, event: WatchEvent[R]) -> R | None:
        """Return the state of the resource before an event, if the history still has it."""
        kind, metadata = type(event.resource), event.resource.metadata
        events = resource_events.c
        query = (
            select(events.document)
            .where(
                events.kind == kind_key(kind),
                events.namespace == metadata.namespace,
                events.name == metadata.name,
                events.version < event.resource_version,
                events.type != "DELETED",
            )
            .order_by(events.version.desc())
            .limit(1)
        )
        async with self._database.read() as connection:
            document = await connection.scalar(query)
        return None if document is None else decode(document, kind)

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
    async def _write(self, *, dry_run: bool = False) -> AsyncIterator[Journal]:
        async with self._database.transaction() as connection:
            journal = await Journal.begin(connection, history=self._history, sealer=self._sealer)
            yield journal
            if dry_run:
                await connection.rollback()
                return
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
    return await removal.remove(journal, key, following)


def _count(query: Select[Any]) -> Select[Any]:
    return select(func.count()).select_from(query.subquery())


def _check_may_exist(kind: type[Resource], name: str, namespace: str) -> None:
    """Keep names that cannot exist away from the database, which chokes on some of them."""
    if not valid_name(name) or not valid_namespace(namespace):
        raise _not_found(kind, name)


def _not_found(kind: type[Resource], name: str) -> NotFound:
    return NotFound(f"{kind.KIND.kind} '{name}' not found.", kind=kind.KIND.kind, name=name)
