"""Getting and listing."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from inferno.cluster.objects import Object, encode
from inferno.cluster.permissions import sees
from inferno.cluster.requests import Request
from inferno.cluster.selectors import Selector
from inferno.cluster.status import VersionAhead
from inferno.cluster.tables import partial, row_of, table
from inferno.core.errors import Expired, InvalidRequest
from inferno.core.resources import Resource
from inferno.storage.base import ResourceStore

CHUNK = 200
"""Resources read from the store at once."""
TURN = 50
"""Resources written before others have their turn."""


class Continue(msgspec.Struct, frozen=True):
    """Where a list goes on.

    Args:
        version: of its first page.
        namespace, name: of the last resource so far.
    """

    version: int
    namespace: str
    name: str

    def token(self) -> str:
        """Return it as a client gets it."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @classmethod
    def of(cls, token: str) -> Continue:
        """Read one that a client sent. Raises InvalidRequest."""
        try:
            data = base64.b64decode(token, altchars=b"-_", validate=True)
            return msgspec.json.decode(data, type=cls)
        except (binascii.Error, ValueError):
            raise InvalidRequest(
                "continue key is not valid: it is none of this server's."
            ) from None


@dataclass(frozen=True, slots=True)
class Found:
    """A page of a list."""

    resources: list[Resource]
    version: int
    proceed: str
    remaining: int | None


class Reader:
    """Answers `get` and `list`.

    Args:
        store: where resources are.
    """

    def __init__(self, store: ResourceStore) -> None:
        self._store = store

    async def get(self, request: Request) -> None:
        """Send one resource. Raises NotFound."""
        await request.answer(await self._store.get(request.kind, request.name, request.namespace))

    async def send_list(self, request: Request) -> None:
        """Send the resources that are meant, or a page of them."""
        found = await self.find(request)
        metadata: Object = {"resourceVersion": str(found.version)}
        if found.proceed:
            metadata["continue"] = found.proceed
            if found.remaining:
                metadata["remainingItemCount"] = found.remaining
        await request.send(await _document(request, found.resources, metadata))

    async def find(self, request: Request) -> Found:
        """Return the resources that are meant, or a page of them."""
        options, selector = request.options, request.selector()
        limit = options.number("limit") or 0
        start = Continue.of(options.text("continue")) if options.text("continue") else None
        after = (start.namespace, start.name) if start else None
        found: list[Resource] = []
        version = start.version if start else -1
        async for page, seen, remaining in self._pages(request, after, limit):
            version = seen if version < 0 else version
            for index, resource in enumerate(page, start=1):
                if not index % TURN:
                    await asyncio.sleep(0)
                if meant(request, selector, resource):
                    found.append(resource)
                left = len(page) - index + remaining
                if limit and len(found) == limit and left:
                    shown = None if selector else left
                    return Found(found, version, _proceed(version, found[-1]), shown)
        _check_version(request, version)
        return Found(found, version, "", None)

    async def _pages(
        self, request: Request, after: tuple[str, str] | None, limit: int
    ) -> AsyncIterator[tuple[list[Any], int, int]]:
        """Yield resources in pages, with the version of each and how many come after it."""
        size = min(limit, CHUNK) if limit else CHUNK
        while True:
            page = await self._store.page(
                request.kind, limit=size, namespace=request.place.namespace, after=after
            )
            yield page.resources, page.version, page.remaining
            if not page.remaining:
                return
            last = page.resources[-1].metadata
            after = (last.namespace, last.name)


def meant(request: Request, selector: Selector, resource: Resource) -> bool:
    """Return whether a request means a resource, and may see it."""
    metadata = resource.metadata
    if not request.served.definition.namespaced and not sees(
        request.principal, request.served.definition.plural, metadata.name
    ):
        return False
    return selector.admits(metadata.labels, lambda: encode(request.served, resource))


def _proceed(version: int, last: Resource) -> str:
    return Continue(version, last.metadata.namespace, last.metadata.name).token()


def _check_version(request: Request, version: int) -> None:
    """Refuse a list of a version that is not there: not yet, or no more."""
    wanted = request.options.number("resourceVersion") or 0
    if wanted > version:
        raise VersionAhead(wanted)
    exact = request.options.text("resourceVersionMatch") == "Exact"
    if exact and wanted and wanted != version:
        raise Expired(f"The resource version {wanted} is no longer kept; list without it.")


async def _document(request: Request, resources: list[Resource], metadata: Object) -> Object:
    """Return a list in the form that is wanted."""
    served, form = request.served, request.wanted.form
    if form == "Table":
        include = request.include

        def row(one: Resource) -> Object:
            return row_of(served, one, encode(served, one) if include == "Object" else {}, include)

        return table(served, await _written(resources, row), metadata)
    if form in ("PartialObjectMetadata", "PartialObjectMetadataList"):
        return {
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": await _written(resources, lambda one: partial(served, one)),
        }
    return {
        "kind": f"{served.kind}List",
        "apiVersion": served.group_version,
        "metadata": metadata,
        "items": await _written(resources, lambda one: encode(served, one)),
    }


async def _written(resources: list[Resource], show: Callable[[Resource], Object]) -> list[Any]:
    """Return resources as they go over the wire, letting others work in between.

    Requests for inference share the event loop with this, and thousands of resources take a while.
    """
    written: list[Any] = []
    for index, resource in enumerate(resources, start=1):
        written.append(msgspec.Raw(msgspec.json.encode(show(resource))))
        if not index % TURN:
            await asyncio.sleep(0)
    return written
