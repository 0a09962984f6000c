"""The resource store: what controllers, runtimes and APIs share.

Optimistic concurrency by `metadata.resource_version`; watches are delivered in write order.
`sqlite` and `postgres` are implementations over the same tables; one suite of contract tests
holds both to this protocol.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from inferno.core.resources import DEFAULT_NAMESPACE, ObjectMeta, Resource

R = TypeVar("R", bound=Resource)


Propagation = Literal["Background", "Foreground", "Orphan"]
"""What becomes of the dependents of a resource that is deleted: they go after it, they go before
it, or they stay."""


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """A part of a list.

    Args:
        resources: by (namespace, name).
        version: of the snapshot that they are from.
        remaining: how many matching resources come after them; 0 at the end of the list.
    """

    resources: list[R]
    version: int
    remaining: int


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[R]):
    """One change, in write order.

    `resource` is the state after it; for DELETED the last state, with the version of the removal.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    resource: R
    resource_version: int


class ResourceStore(Protocol):
    """Typed access to resources; `R.KIND` selects the table rows."""

    async def list(
        self,
        kind: type[R],
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> tuple[list[R], int]:
        """Return the matching resources by (namespace, name) and the version of the snapshot."""

    async def page(
        self,
        kind: type[R],
        *,
        limit: int,
        namespace: str | None = None,
        after: tuple[str, str] | None = None,
    ) -> Page[R]:
        """Return at most `limit` resources whose (namespace, name) comes after `after`."""

    async def get(self, kind: type[R], name: str, namespace: str = DEFAULT_NAMESPACE) -> R:
        """Return one resource. Raises NotFound."""

    async def create(self, resource: R, *, dry_run: bool = False) -> R:
        """Store a new resource and return it with uid, version and timestamps filled.

        Its status is stored as given. Raises Conflict when the name is taken or all of its owners
        are gone, InvalidRequest when the name or a value cannot be stored. A dry run does and
        raises the same and keeps nothing.
        """

    async def update(self, resource: R) -> R:
        """Replace spec, labels, annotations, … of a resource; its status stays as stored.

        A change of spec increments `generation`. A write that changes nothing keeps the version.
        Raises NotFound, or Conflict when `metadata.resource_version` or `uid` is set and not the
        current, InvalidRequest when a value cannot be stored.
        """

    async def update_status(self, resource: R) -> R:
        """Replace only the status. Raises as `update` does."""

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
        """Read, let `change` mutate the copy, write; no other write comes between.

        `change` may be called more than once, so it must do nothing else. Raises NotFound.
        """

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
        """Remove a resource and, by owner references, its dependents; return its last metadata.

        With finalizers it only gets a deletion timestamp; it goes when the last one is removed
        by an update. `precondition` may raise, and then nothing happens. Raises NotFound.
        """

    async def before(self, event: WatchEvent[R]) -> R | None:
        """Return the state of the resource before an event, if the history still has it."""

    def watch(self, kind: type[R], *, since: int | None = None) -> AsyncIterator[WatchEvent[R]]:
        """Yield changes of a kind after version `since`, in write order, each once.

        Without `since` it starts at this call, not at the first `anext`. The iterator owns nothing
        that needs closing, a cancelled `anext` loses no event, and it ends when the store closes.
        It raises Expired when its place in the history is no longer kept: list and watch again.
        """
