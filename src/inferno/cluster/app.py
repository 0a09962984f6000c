"""The cluster API as an ASGI app: from paths and methods to verbs.

It stands behind the control plane's door: the caller is known when a request comes here.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from starlette.types import Receive, Scope, Send

from inferno.cluster import discovery, openapi, permissions
from inferno.cluster.calls import PREFIX, Options, Place, discovery_version, place_of
from inferno.cluster.catalog import Catalog, Served
from inferno.cluster.logs import LogReader, LogSource
from inferno.cluster.objects import Object
from inferno.cluster.reading import Reader
from inferno.cluster.requests import Request
from inferno.cluster.reviews import review
from inferno.cluster.status import RESOURCE_STATE, Subject
from inferno.cluster.watching import Watcher
from inferno.cluster.writing import Writer
from inferno.core.errors import InvalidRequest, NotFound, PermissionDenied
from inferno.core.kinds import READING, Verb
from inferno.storage.base import ResourceStore
from inferno.tenancy.access import Visit
from inferno.web.errors import MethodNotAllowed
from inferno.web.exchange import Exchange, header_of

KUBERNETES = "1.32"
"""The version of Kubernetes' API conventions that is spoken here."""

MAX_BODY_BYTES = 3 * 1024 * 1024  # as in Kubernetes
HEALTH = frozenset({"/healthz", "/livez", "/readyz"})

Handler = Callable[[Request], Awaitable[None]]


class Witness(Protocol):
    """Whoever is told of refusals and of changes."""

    def note_denial(self, scope: Scope, visit: Visit, error: PermissionDenied) -> None:
        """Record that a caller was refused what it may not do."""

    def note_change(self, scope: Scope, visit: Visit, action: str, target: str) -> None:
        """Record that a caller changed something."""


class ClusterApi:
    """The app.

    Args:
        store: where resources are.
        catalog: what is served.
        logs: where logs of replicas are.
        access: told of refusals and changes.
        version: the platform's.
        stopping: set when the platform goes.
    """

    def __init__(
        self,
        store: ResourceStore,
        catalog: Catalog,
        logs: LogSource,
        access: Witness,
        *,
        version: str,
        stopping: asyncio.Event,
    ) -> None:
        self._catalog = catalog
        self._access = access
        self._version = version
        reader = Reader(store)
        writer = Writer(store, reader)
        watcher = Watcher(store, reader, stopping)
        self._log = LogReader(store, logs, stopping)
        self._many: dict[str, tuple[Verb, Handler]] = {
            "GET": ("list", reader.send_list),
            "POST": ("create", writer.create),
            "DELETE": ("deletecollection", writer.delete_collection),
        }
        self._one: dict[str, tuple[Verb, Handler]] = {
            "GET": ("get", reader.get),
            "PUT": ("update", writer.update),
            "PATCH": ("patch", writer.patch),
            "DELETE": ("delete", writer.delete),
        }
        self._status: dict[str, tuple[Verb, Handler]] = {
            method: self._one[method] for method in ("GET", "PUT", "PATCH")
        }
        self._scale: dict[str, tuple[Verb, Handler]] = {
            "GET": ("get", writer.scale),
            "PUT": ("update", writer.scale),
            "PATCH": ("patch", writer.scale),
        }
        self._watch: tuple[Verb, Handler] = ("watch", watcher.watch)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises what `status.REASONS` has an answer for."""
        exchange = Exchange(scope, receive, send, max_body_bytes=MAX_BODY_BYTES)
        path = scope["path"].removeprefix(PREFIX).rstrip("/") or "/"
        place = place_of(path)
        if place is None:
            await self._document(exchange, path)
            return
        try:
            await self._resource(exchange, place)
        except RecursionError:
            raise InvalidRequest("The object is nested too deeply.") from None

    async def _resource(self, exchange: Exchange, place: Place) -> None:
        """Serve a request for a collection, a resource or a subresource."""
        visit: Visit = exchange.scope["state"]["visit"]
        if (place.group, place.plural, place.version) in _REVIEWED:
            await review(exchange, place, visit.principal)
            return
        served = self._catalog.find(place.group, place.version, place.plural)
        if served is None or not _fits(place, served):
            raise NotFound("the server could not find the requested resource")
        definition = served.definition
        exchange.scope["state"][RESOURCE_STATE] = Subject(
            definition.group, definition.kind, definition.plural, (place.name or "")[:253]
        )
        options = Options.of(exchange.scope["query_string"])
        request = Request(exchange, served, place, options, visit.principal)
        verb, handler = self._route(request)
        self._require(request, visit, verb)
        await handler(request)
        if is_audited(request, verb):
            about: Subject = exchange.scope["state"][RESOURCE_STATE]
            target = f"{about.resource}/{about.name}" if about.name else about.resource
            where = f" in {place.namespace}" if place.namespace else ""
            self._access.note_change(exchange.scope, visit, f"cluster.{verb}", target + where)

    def _route(self, request: Request) -> tuple[Verb, Handler]:
        """Return what a request asks for. Raises MethodNotAllowed, NotFound."""
        place, definition = request.place, request.served.definition
        method = request.exchange.scope["method"]
        routes = self._routes(request)
        verbs = definition.verbs
        if place.subresource not in ("scale", "log"):
            routes = {key: value for key, value in routes.items() if value[0] in verbs}
        if method not in routes:
            raise MethodNotAllowed(method, ", ".join(sorted(routes)))
        if method == "GET" and place.name is None and request.options.flag("watch"):
            return self._watch
        return routes[method]

    def _routes(self, request: Request) -> dict[str, tuple[Verb, Handler]]:
        place = request.place
        if not place.subresource:
            return self._many if place.name is None else self._one
        if place.subresource not in discovery.subresources_of(request.served):
            raise NotFound("the server could not find the requested resource", spelt_out=True)
        if place.subresource == "log":
            return {"GET": ("get", self._log.read)}
        return self._status if place.subresource == "status" else self._scale

    def _require(self, request: Request, visit: Visit, verb: Verb) -> None:
        """Refuse what the caller may not do. Raises PermissionDenied."""
        place = request.place
        resource = f"{place.plural}/{place.subresource}" if place.subresource else place.plural
        if place.subresource == "scale":
            resource = place.plural
        try:
            permissions.require(
                request.principal,
                verb,
                place.group,
                resource,
                namespace=place.namespace,
                name=request.name,
            )
        except PermissionDenied as error:
            self._access.note_denial(request.exchange.scope, visit, error)
            raise

    async def _document(self, exchange: Exchange, path: str) -> None:
        """Serve what is about the API itself."""
        if exchange.scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed(exchange.scope["method"], "GET")
        if path in HEALTH:
            await exchange.respond(200, b"ok", [(b"content-type", b"text/plain")])
            return
        accept = (exchange.header(b"accept") or b"").decode("latin-1")
        version = discovery_version(accept) if path in ("/api", "/apis") else None
        if version is not None:
            body = discovery.aggregated(self._catalog, version, core=path == "/api")
            kind = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            data = msgspec.json.encode(body)
            await exchange.respond(200, data, [(b"content-type", kind.encode())])
            return
        if path == "/openapi/v2" and openapi.V2_PROTOBUF in accept:
            kind = openapi.V2_PROTOBUF_SENT
            await exchange.respond(200, openapi.v2_protobuf(), [(b"content-type", kind.encode())])
            return
        found = self._find_document(exchange.scope, path)
        if found is None:
            raise NotFound("the server could not find the requested resource")
        await exchange.respond_json(found)

    def _find_document(self, scope: Scope, path: str) -> Object | None:
        match path.strip("/").split("/"):
            case [""]:
                return {"paths": ["/api", "/apis", "/openapi/v2", "/openapi/v3", "/version"]}
            case ["version"]:
                return self._version_document()
            case ["api"]:
                host = header_of(scope, b"host") or b""
                return discovery.core_versions(host.decode("latin-1"))
            case ["apis"]:
                return discovery.group_list(self._catalog)
            case ["apis", group]:
                return discovery.find_group(self._catalog, group)
            case ["api", version]:
                return discovery.resource_list(self._catalog, "", version)
            case ["apis", group, version]:
                return discovery.resource_list(self._catalog, group, version)
            case ["openapi", "v2"]:
                return openapi.v2(self._catalog)
            case ["openapi", "v3"]:
                return openapi.index(self._catalog)
            case ["openapi", "v3", "api", version] if version in self._versions(""):
                return openapi.v3(self._catalog, "", version)
            case ["openapi", "v3", "apis", group, version] if version in self._versions(group):
                return openapi.v3(self._catalog, group, version)
        return None

    def _versions(self, group: str) -> list[str]:
        return self._catalog.groups().get(group, [])

    def _version_document(self) -> Object:
        major, minor = KUBERNETES.split(".")
        return {
            "major": major,
            "minor": minor,
            "gitVersion": f"v{KUBERNETES}.0+inferno-{self._version}",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "",
            "platform": f"{platform.system().lower()}/{platform.machine()}",
        }


_REVIEWED = frozenset((group, plural, "v1") for group, plural, _ in discovery.REVIEWS)


def is_audited(request: Request, verb: Verb) -> bool:
    """Return whether the audit trail tells of a request: of what people and tools want changed.

    Operators write statuses and events all day long, which would bury the rest.
    """
    definition = request.served.definition
    observed = request.place.subresource == "status" or definition.plural == "events"
    return verb not in READING and not observed and not request.options.dry_run


def _fits(place: Place, served: Served) -> bool:
    """Return whether a kind can be at a place: in a namespace, or in none."""
    definition = served.definition
    if not definition.namespaced:
        return place.namespace is None
    return place.namespace is not None or (place.name is None and not place.subresource)
