"""A registry of inference servers (seed 000): its calls, pages of answers, and the change feed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from inferno.client.calls import Call, given, member, post, query, reader, segment
from inferno.client.calls import delete as deleting
from inferno.client.calls import get as getting
from inferno.client.errors import ClientError, ConnectionFailed, RateLimited, ServerBusy

PATH, ALL = "/inference_server", "/inference_servers"
PAGE = 1000

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Between attempts to go on watching, in seconds; they double."""


class ServerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What the registry found when it looked at a server: `healthy`, `unhealthy` or `unknown`."""

    state: str
    since: str
    reason: str = ""


class InferenceServer(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a registry; fields that a projection leaves out are empty."""

    id: str = msgspec.field(name="inference_server_id", default="")
    name: str = msgspec.field(name="inference_server_name", default="")
    metadata: dict[str, Any] = msgspec.field(name="inference_server_metadata", default_factory=dict)
    tags: list[str] = msgspec.field(name="inference_server_tags", default_factory=list)
    public_url: str = msgspec.field(name="inference_server_public_url", default="")
    urls: dict[str, str] = msgspec.field(name="inference_server_urls", default_factory=dict)
    ttl_seconds: int | None = None
    registered_at: str = ""
    updated_at: str = ""
    state: str = ""
    expires_at: str | None = None
    health: ServerHealth | None = None


class ServerPage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of what a query finds."""

    servers: list[InferenceServer] = msgspec.field(name="data")
    next_cursor: str | None = None
    count: int | None = None


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """How an entry stands after a heartbeat."""

    state: str
    expires_at: str


class ServerChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change, as seen through the watch's filter; `version` is where to go on from."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    server: InferenceServer = msgspec.field(name="document")
    version: int


class _Created(msgspec.Struct, frozen=True):
    id: str


_read_created = member("data", _Created)
_read_server = member("data", InferenceServer)
_read_beat = member("data", Heartbeat)
_read_page = reader(ServerPage)
_read_change = reader(ServerChange)


def register(
    *,
    name: str | None = None,
    public_url: str | None = None,
    urls: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Sequence[str] | None = None,
    ttl_seconds: int | None = None,
    server_id: str | None = None,
    health_check: Mapping[str, Any] | None = None,
) -> Call[str]:
    """Register a server, and return its id.

    Args:
        name: unique, unless empty.
        public_url: unique, unless empty.
        urls: addresses by protocol.
        metadata: whatever else there is to know.
        tags: to find it by.
        ttl_seconds: the entry expires so long after its last heartbeat; None for never.
        server_id: its id; None lets the registry choose.
        health_check: how the registry looks whether it is healthy: `path`, `enabled`.
    """
    entry = given(
        inference_server_id=server_id,
        inference_server_name=name,
        inference_server_public_url=public_url,
        inference_server_urls=urls,
        inference_server_metadata=metadata,
        inference_server_tags=tags,
        ttl_seconds=ttl_seconds,
        health_check=health_check,
    )
    return post(PATH, lambda body: _read_created(body).id, entry)


def get(server_id: str) -> Call[InferenceServer]:
    """Return a server."""
    return getting(f"{PATH}/{segment(server_id)}", _read_server)


def update(
    server_id: str,
    change: Mapping[str, Any],
    *,
    array_filters: Sequence[Mapping[str, Any]] | None = None,
    condition: Mapping[str, Any] | None = None,
) -> Call[None]:
    """Change a server, whole or not at all.

    Args:
        server_id: of the server.
        change: in MongoDB's language: `{"$set": {…}}`.
        array_filters: which elements `$[name]` stands for.
        condition: a filter that the server has to match, else it is a conflict.
    """
    body = {"update": change, **given(arrayFilters=array_filters, filter=condition)}
    return post(f"{PATH}/{segment(server_id)}", lambda _: None, body, method="PUT")


def delete(server_id: str) -> Call[None]:
    """Remove a server from the registry."""
    return deleting(f"{PATH}/{segment(server_id)}", lambda _: None)


def heartbeat(server_id: str) -> Call[Heartbeat]:
    """Keep a server's entry alive."""
    return post(f"{PATH}/{segment(server_id)}/heartbeat", _read_beat, repeatable=True)


def page(
    wanted: Mapping[str, Any] | None = None,
    *,
    projection: Mapping[str, Any] | None = None,
    sort: Mapping[str, int] | None = None,
    skip: int | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    count: bool | None = None,
    search: str | None = None,
    mine: bool | None = None,
) -> Call[ServerPage]:
    """Return a page of the servers that a filter finds.

    Args:
        wanted: the filter, in MongoDB's language; None for all.
        projection: which fields to return.
        sort: fields, with 1 or -1; None for the order of registration.
        skip: leaves out so many of the first.
        limit: at most so many; 1000 at most.
        cursor: `next_cursor` of the page before; not with `sort`.
        count: whether to say how many there are in all.
        search: words, of which one has to be in the name, the tags or the metadata.
        mine: only what the caller registered.
    """
    options = given(
        projection=projection,
        sort=sort,
        skip=skip,
        limit=limit,
        cursor=cursor,
        count=count,
        search=search,
        mine=mine,
    )
    return post(ALL, _read_page, {"filter": wanted or {}, **options}, repeatable=True)


class Paging:
    """The pages of one query, one after the other.

    Args:
        wanted: the filter.
        sort: of the servers; only their own order has cursors.
        limit: servers in all; None for all there are.
        options: further ones of `page`.
    """

    def __init__(
        self,
        wanted: Mapping[str, Any] | None,
        sort: Mapping[str, int] | None,
        limit: int | None,
        **options: Any,
    ) -> None:
        self._wanted = wanted
        self._sort = sort
        self._left = limit
        self._options = options
        self._found = 0
        self._cursor: str | None = None
        self.is_over = limit == 0

    def call(self) -> Call[ServerPage]:
        """Return the call for the next page."""
        place = {"skip": self._found} if self._sort else {"cursor": self._cursor}
        limit = self._limit()
        return page(self._wanted, sort=self._sort, limit=limit, **given(**place), **self._options)

    def _limit(self) -> int:
        return PAGE if self._left is None else min(PAGE, self._left)

    def take(self, found: ServerPage) -> list[InferenceServer]:
        """Return the servers of a page, and note where the next one begins."""
        servers = found.servers
        full = len(servers) == self._limit()
        self._found += len(servers)
        self._cursor = found.next_cursor
        if self._left is not None:
            self._left -= len(servers)
        more = full if self._sort else found.next_cursor is not None
        self.is_over = not more or self._left == 0
        return servers


class Watching:
    """A watch that outlives its connections.

    Args:
        wanted: the filter.
        since: version of the last change that is known; None begins now.
    """

    def __init__(self, wanted: Mapping[str, Any] | None, since: int | None) -> None:
        self._wanted = wanted
        self._position = None if since is None else str(since)
        self._begun = False
        self._failures = 0

    def call(self) -> Call[bytes]:
        """Return the call that goes on watching."""
        filter_ = None if self._wanted is None else msgspec.json.encode(self._wanted).decode()
        asked = query(filter=filter_)
        headers = {"accept": "text/event-stream"}
        if self._position is not None:
            headers["last-event-id"] = self._position
        return Call(method="GET", path=f"{ALL}/watch{asked}", read=bytes, headers=headers)

    def connected(self) -> None:
        """Note that the registry streams."""
        self._begun, self._failures = True, 0

    def read(self, id_: str, data: str) -> ServerChange | None:
        """Take an event; return its change, if it has one. Raises UnexpectedAnswer."""
        if id_:
            self._position = id_
        return _read_change(data.encode()) if data else None

    def pause_after(self, error: ClientError) -> float | None:
        """Return how long to wait before it goes on; None where it does not.

        A watch that never began fails at once, and so does one that the registry refuses.
        """
        again = isinstance(error, ConnectionFailed | ServerBusy | RateLimited)
        if not again or not self._begun:
            return None
        pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 10), LONGEST_PAUSE)
        self._failures += 1
        asked = getattr(error, "retry_after", None) or 0.0
        return max(asked, pause) * (0.75 + 0.5 * random.random())  # noqa: S311 - nothing secret
