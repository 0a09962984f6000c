"""Pools that take their endpoints from the registry of inference servers. Pure.

A pool says so in annotations, so that its spec stays that of every `InferencePool`. What the query
finds becomes `ModelServer`s with the labels of the pool's selector; from there on they are servers
like any others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

import msgspec

from inferno.core import addresses
from inferno.core.documents.filters import parse_filter
from inferno.core.documents.tree import Every, Filter
from inferno.core.errors import InvalidRequest
from inferno.core.inference_pools import InferencePool
from inferno.core.kinds import Cause, InvalidResource
from inferno.core.model_servers import ModelServer, ModelServerSpec, SecretKeyReference, ServerTLS
from inferno.core.quotas import Quotas, quotas_in
from inferno.core.resources import ObjectMeta, OwnerReference

PREFIX = "inferno.dev/registry-"
QUERY = f"{PREFIX}query"
OWNERS = f"{PREFIX}owners"
SECRET = f"{PREFIX}api-key-secret"
ANNOTATIONS = (QUERY, OWNERS, SECRET)
"""What a pool can say. All of them are for admins to write: they decide where prompts go."""

ENTRY_ANNOTATION = f"{PREFIX}entry"
"""On a ModelServer: the entry that it stands for."""

Owners = Literal["admins", "tenant", "anyone"]
"""Whose entries are taken: those of admins; those of the pool's own tenant too, registered by users
who may write models; those of everybody."""

MAX_ENTRIES = 256
"""Of one pool; the first registered are taken."""

_ID, _METADATA = "inference_server_id", "inference_server_metadata"
_URLS, _PUBLIC_URL = "inference_server_urls", "inference_server_public_url"
_NAME, _TAGS = "inference_server_name", "inference_server_tags"
_PROTOCOLS = ("https", "http", "rest")
"""Of an entry's addresses, those that can be used, the best first."""

_SEARCHED = ((_NAME,), (_TAGS,), (_METADATA,))
_PATHS = frozenset({"", "/", "/v1", "/v1/"})
"""The API is asked for under `/v1`, whether an address says so or not."""

_PORTS = {"https": 443, "http": 80}
_HASH_LENGTH = 12
_MAX_NAME = 253

_LIVING = parse_filter({"state": "active", "health.state": {"$ne": "unhealthy"}})
"""What every query asks besides: entries that are there, and not known to be ill."""


@dataclass(frozen=True, slots=True)
class RegistryQuery:
    """What a pool wants of the registry.

    Args:
        filter: which entries.
        owners: whose.
        secret: the key to show to their servers.
    """

    filter: Filter
    owners: Owners
    secret: SecretKeyReference | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """An entry that cannot be an endpoint.

    Args:
        entry: its id.
        why: for a person.
    """

    entry: str
    why: str

    def __str__(self) -> str:
        """Return both."""
        return f"{self.entry}: {self.why}"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a pool's ModelServers become what its query finds.

    Args:
        create: those that are missing.
        update: those that are there and should be different, as they should be.
        delete: names of those that should not be there.
        skipped: entries that cannot be endpoints.
        kept: how many there are in the end.
    """

    create: list[ModelServer]
    update: list[ModelServer]
    delete: list[str]
    skipped: list[Skipped]
    kept: int


def query_of(annotations: Mapping[str, str]) -> RegistryQuery | None:
    """Return what a pool's annotations ask of the registry; None where they ask nothing.

    Raises:
        InvalidResource: an annotation is wrong; names it, and the operator.
    """
    text = annotations.get(QUERY)
    if text is None:
        others = [name for name in (OWNERS, SECRET) if name in annotations]
        if others:
            raise _wrong(others[0], annotations[others[0]], f"it needs {QUERY} beside it")
        return None
    owners = annotations.get(OWNERS, "admins")
    if owners not in get_args(Owners):
        raise _wrong(OWNERS, owners, f"must be one of {', '.join(get_args(Owners))}")
    secret = _secret(annotations.get(SECRET))
    if secret is not None and owners == "anyone":
        why = f"with {OWNERS}: anyone, whoever registers a server would be shown the key"
        raise _wrong(SECRET, annotations[SECRET], why)
    return RegistryQuery(Every((_filter(text), _LIVING)), cast("Owners", owners), secret)


def _filter(text: str) -> Filter:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _wrong(QUERY, text, f"must be a filter as JSON: {error}") from None
    if not isinstance(value, dict):
        raise _wrong(QUERY, text, "must be a filter: a JSON object")
    try:
        return parse_filter(value, text_paths=_SEARCHED)
    except InvalidRequest as error:
        raise _wrong(QUERY, text, error.message) from None


def _secret(text: str | None) -> SecretKeyReference | None:
    if text is None:
        return None
    name, _, key = text.partition("/")
    try:
        return msgspec.convert({"name": name, "key": key}, SecretKeyReference)
    except msgspec.ValidationError:
        raise _wrong(SECRET, text, "must be NAME/KEY: a Secret and one of its values") from None


def _wrong(annotation: str, value: str, why: str) -> InvalidResource:
    shown = value if len(value) <= 100 else f"{value[:100]}…"
    return InvalidResource(
        [Cause(f"metadata.annotations[{annotation}]", f"Invalid value: '{shown}': {why}")]
    )


def plan(
    pool: InferencePool,
    query: RegistryQuery | None,
    entries: Sequence[Mapping[str, Any]],
    servers: Iterable[ModelServer],
) -> Plan:
    """Return what to do with a pool's ModelServers.

    Args:
        pool: whose.
        query: what it asks; None for nothing, so that all go.
        entries: what was found, the first registered first.
        servers: all of the pool's namespace.
    """
    mine, taken = {}, set()
    for server in servers:
        if is_of(pool, server):
            mine[server.metadata.name] = server
        else:
            taken.add(server.metadata.name)
    wanted: dict[str, ModelServer] = {}
    skipped = []
    for entry in entries if query is not None else ():
        made = _server(pool, query, entry)
        if isinstance(made, Skipped):
            skipped.append(made)
        elif made.metadata.name in taken:
            why = f"there is a ModelServer '{made.metadata.name}' already"
            skipped.append(Skipped(str(entry[_ID]), why))
        else:
            wanted[made.metadata.name] = made
    return Plan(
        create=[one for name, one in wanted.items() if name not in mine],
        update=[one for name, one in wanted.items() if name in mine and not _same(one, mine[name])],
        delete=[
            name
            for name, one in mine.items()
            if name not in wanted and one.metadata.deletion_timestamp is None
        ],
        skipped=skipped,
        kept=len(wanted),
    )


def is_of(pool: InferencePool, server: ModelServer) -> bool:
    """Return whether a ModelServer was made from an entry, for this very pool."""
    metadata = server.metadata
    return ENTRY_ANNOTATION in metadata.annotations and any(
        owner.uid == pool.metadata.uid for owner in metadata.owner_references
    )


def _server(
    pool: InferencePool, query: RegistryQuery | None, entry: Mapping[str, Any]
) -> ModelServer | Skipped:
    """Return the ModelServer that stands for an entry, or why there is none."""
    id_ = str(entry[_ID])
    try:
        place = _place_in(entry)
        quota = _quota_in(entry)
    except ValueError as error:
        return Skipped(id_, str(error))
    metadata = pool.metadata
    owner = OwnerReference(
        api_version=pool.KIND.api_version,
        kind=pool.KIND.kind,
        name=metadata.name,
        uid=metadata.uid,
        controller=True,
    )
    digest = hashlib.sha256(id_.encode()).hexdigest()[:_HASH_LENGTH]
    name = f"{metadata.name[: _MAX_NAME - _HASH_LENGTH - 1].rstrip('-.')}-{digest}"
    return ModelServer(
        metadata=ObjectMeta(
            name=name,
            namespace=metadata.namespace,
            labels=dict(pool.spec.selector),
            annotations={ENTRY_ANNOTATION: id_},
            owner_references=[owner],
        ),
        spec=ModelServerSpec(
            address=place.host,
            port=place.port,
            tls=ServerTLS() if place.scheme == "https" else None,
            api_key_secret_ref=None if query is None else query.secret,
            quota=quota,
        ),
    )


def _same(wanted: ModelServer, there: ModelServer) -> bool:
    """Whether a ModelServer is as it should be; annotations of others may stay."""
    return (
        wanted.spec == there.spec
        and wanted.metadata.labels == there.metadata.labels
        and wanted.metadata.annotations.items() <= there.metadata.annotations.items()
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server of an entry is.

    Args:
        scheme: `http` or `https`.
        host: name or address.
        port: where it listens.
    """

    scheme: str
    host: str
    port: int


def _place_in(entry: Mapping[str, Any]) -> Place:
    """Return where an entry's server is, by the first of its addresses that can be used.

    Raises:
        ValueError: none can; says what is wrong with the first.
    """
    urls = entry.get(_URLS)
    named = [urls.get(name) for name in _PROTOCOLS] if isinstance(urls, dict) else []
    given = [str(url) for url in (*named, entry.get(_PUBLIC_URL)) if url]
    problems = []
    for url in given:
        try:
            return place_of(url)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(problems[0] if problems else f"it has no {_PUBLIC_URL}")


def place_of(url: str) -> Place:
    """Return where a URL leads, if a ModelServer can say so.

    Raises:
        ValueError: it cannot; says why.
    """
    shown = url if len(url) <= 100 else f"{url[:100]}…"
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"'{shown}' is no URL") from None
    if scheme not in _PORTS:
        raise ValueError(f"'{shown}' is neither http nor https")
    if parts.path not in _PATHS or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"'{shown}' has more than a host and a port; only /v1 may follow")
    problem = addresses.problem_with(host)
    if problem:
        raise ValueError(f"the address of '{shown}' {problem}")
    if port == 0:
        raise ValueError(f"'{shown}' has port 0")
    return Place(scheme, host, _PORTS[scheme] if port is None else port)


def _quota_in(entry: Mapping[str, Any]) -> Quotas | None:
    """Return the quotas of an entry. Raises ValueError."""
    metadata = entry.get(_METADATA)
    if not isinstance(metadata, dict):
        return None
    try:
        return quotas_in(metadata, path=_METADATA)
    except InvalidRequest as error:  # it was registered before anybody looked
        raise ValueError(error.message) from None
