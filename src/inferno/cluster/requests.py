"""One request to the cluster API, understood: who asks for what, and how the answer should look."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from inferno.cluster import protobuf
from inferno.cluster.calls import Options, Place, Wanted, wanted_form
from inferno.cluster.catalog import Served
from inferno.cluster.objects import Object, encode
from inferno.cluster.selectors import Selector, parse_fields, parse_labels
from inferno.cluster.status import NotAcceptable, UnsupportedMediaType
from inferno.cluster.tables import Include, partial, row_of, table
from inferno.core.errors import InvalidRequest
from inferno.core.resources import DEFAULT_NAMESPACE, Resource
from inferno.core.tenancy import Principal
from inferno.web.exchange import Exchange, Header, decode_body

_JSON: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_UNSAFE = re.compile(r"[^\x20-\x7e]")

MAX_YAML_DEPTH = 200
MAX_YAML_EVENTS = 100_000
"""Reading YAML takes a hundred times as long as JSON, and others wait meanwhile."""


@dataclass(slots=True)
class Request:
    """A request for a kind that is served.

    Args:
        exchange: the request as HTTP has it.
        served: the kind and version.
        place: what the path names.
        options: the query.
        principal: who asks.
        warnings: for the client, beside the answer.
    """

    exchange: Exchange
    served: Served
    place: Place
    options: Options
    principal: Principal
    warnings: list[str] = field(default_factory=list)

    @property
    def kind(self) -> type[Resource]:
        """What is stored."""
        return self.served.definition.stored

    @property
    def namespace(self) -> str:
        """Where the resource is stored; kinds that live in no namespace are in the default one."""
        return self.place.namespace or DEFAULT_NAMESPACE

    @property
    def name(self) -> str:
        """Of the resource that the request is about; empty where it is about many."""
        return self.place.name or ""

    @property
    def manager(self) -> str:
        """Who looks after the fields that this request writes. Raises InvalidRequest."""
        given = self.options.text("fieldManager")
        if len(given) > 128 or _UNSAFE.search(given):
            raise InvalidRequest("fieldManager: Invalid value: at most 128 printable characters.")
        agent = (self.exchange.header(b"user-agent") or b"unknown").decode("latin-1")
        return given or _UNSAFE.sub("", agent.partition("/")[0])[:128] or "unknown"

    @property
    def wanted(self) -> Wanted:
        """The form of the answer."""
        return wanted_form((self.exchange.header(b"accept") or b"").decode("latin-1"))

    @property
    def include(self) -> Include:
        """What goes with the rows of a table. Raises InvalidRequest."""
        value = self.options.text("includeObject") or "Metadata"
        if value not in ("None", "Metadata", "Object"):
            raise InvalidRequest("includeObject has to be None, Metadata or Object.")
        return value  # type: ignore[return-value]  # one of them

    @property
    def content_type(self) -> str:
        """The type of the body, without parameters."""
        return content_type(self.exchange)

    def selector(self) -> Selector:
        """Return which resources are meant. Raises InvalidRequest."""
        return Selector(
            parse_labels(self.options.text("labelSelector")),
            parse_fields(self.options.text("fieldSelector"), self.served.knows),
        )

    async def body(self) -> Any:
        """Return the body, from JSON or YAML. Raises InvalidRequest."""
        return decoded_body(await self.exchange.body(), self.content_type)

    async def answer(self, resource: Resource, *, status: int = 200) -> None:
        """Send a resource."""
        form = self.wanted.form
        if form == "Table":
            metadata = {"resourceVersion": resource.metadata.resource_version}
            shown = encode(self.served, resource) if self.include == "Object" else {}
            row = row_of(self.served, resource, shown, self.include)
            await self.send(table(self.served, [row], metadata), status=status)
        elif form == "PartialObjectMetadata":
            await self.send(partial(self.served, resource), status=status)
        elif form == "PartialObjectMetadataList":
            raise NotAcceptable("One object is no PartialObjectMetadataList.")
        else:
            await self.send(encode(self.served, resource), status=status)

    async def send(self, document: Object, *, status: int = 200) -> None:
        """Send a document, with the warnings."""
        await self.exchange.respond_json(document, status=status, headers=warned(self.warnings))


def content_type(exchange: Exchange) -> str:
    """Return the type of a body, without parameters."""
    header = (exchange.header(b"content-type") or b"application/json").decode("latin-1")
    return header.partition(";")[0].strip().lower()


def decoded_body(data: bytes, kind: str) -> Any:
    """Return what a body says, by its type. Raises InvalidRequest."""
    if kind == protobuf.CONTENT_TYPE:
        return protobuf.decode(data)
    if kind.endswith("yaml"):
        return from_yaml(data)
    if not kind.endswith("json"):
        raise UnsupportedMediaType(
            f"The body's type is '{kind[:100]}'; application/json and application/yaml are "
            "understood here."
        )
    return decode_body(_JSON, data)


def warned(warnings: Iterable[str]) -> list[Header]:
    """Return warnings as headers, in the form that `kubectl` shows (RFC 7234, 5.5)."""
    return [(b"warning", b'299 - "%s"' % _quoted(one)) for one in list(warnings)[:20]]


def _quoted(text: str) -> bytes:
    """Return the inside of a quoted string (RFC 9110, 5.6.4)."""
    plain = _UNSAFE.sub("?", text)[:500]
    return plain.replace("\\", "\\\\").replace('"', '\\"').encode()


def from_yaml(data: bytes) -> Any:
    """Return what a YAML document says. Raises InvalidRequest.

    JSON is YAML, and most clients send that. Aliases are refused: a few lines of them stand for
    gigabytes. So is what is nested deeply, before it is composed: libyaml recurses without looking
    at how much stack is left, and the process dies.
    """
    try:
        return _JSON.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    import yaml

    try:
        _check_yaml(yaml.parse(data, Loader=_loader()))
        return msgspec.to_builtins(yaml.load(data, Loader=_loader()))  # noqa: S506 - a safe loader
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise InvalidRequest(f"The body is not valid YAML: {why}") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None


def _check_yaml(events: Iterable[Any]) -> None:
    """Refuse a document that costs far more than it looks. Raises InvalidRequest."""
    import yaml

    depth = 0
    for count, event in enumerate(events):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidRequest("The YAML body uses aliases, which are not taken here.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_YAML_DEPTH:
            raise InvalidRequest("The body is nested too deeply.")
        if count > MAX_YAML_EVENTS:
            raise InvalidRequest("The YAML body has too many parts; send it as JSON.")


def _loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)
