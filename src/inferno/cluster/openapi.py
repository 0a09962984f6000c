"""OpenAPI documents: what `kubectl explain` shows, and what `kubectl apply` plans by."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from inferno.cluster.catalog import Catalog, Served
from inferno.cluster.discovery import subresources_of

Document = dict[str, Any]

_BODY_TYPES = {
    "post": ("application/json",),
    "put": ("application/json",),
    "patch": (
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ),
}
_WRITING = ("dryRun", "fieldManager", "fieldValidation")
_LISTING = (
    "labelSelector", "fieldSelector", "limit", "continue", "watch", "resourceVersion",
    "resourceVersionMatch", "timeoutSeconds", "allowWatchBookmarks", "sendInitialEvents",
)  # fmt: skip
_NUMBERS = frozenset({"limit", "timeoutSeconds"})
_FLAGS = frozenset({"watch", "allowWatchBookmarks", "sendInitialEvents", "force"})


def index(catalog: Catalog) -> Document:
    """Return `/openapi/v3`: where the document of each group and version is."""
    paths: Document = {}
    for group, versions in catalog.groups().items():
        for version in versions:
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            digest = hashlib.sha256(msgspec.json.encode(v3(catalog, group, version))).hexdigest()
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest[:32].upper()}"}
    return {"paths": paths}


def v3(catalog: Catalog, group: str, version: str) -> Document:
    """Return the OpenAPI 3 document of a group and version."""
    served = catalog.of(group, version)
    paths: Document = {}
    for one in served:
        paths |= _paths(one)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Inferno cluster API", "version": "v1"},
        "paths": paths,
        "components": {"schemas": {_name(one): _component(one) for one in served}},
    }


def v2(catalog: Catalog) -> Document:
    """Return the Swagger 2 document of everything, which older tools read."""
    definitions = {
        _name(served): _component(served)
        for group, versions in catalog.groups().items()
        for version in versions
        for served in catalog.of(group, version)
    }
    return {
        "swagger": "2.0",
        "info": {"title": "Inferno cluster API", "version": "v1"},
        "paths": {},
        "definitions": definitions,
    }


V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""What Go clients ask for."""
V2_PROTOBUF_SENT = V2_PROTOBUF.replace("@", ".")
"""What they understand: the other is no media type to them."""


def v2_protobuf() -> bytes:
    """Return a Swagger 2 document without definitions, as Go clients want it: in protobuf.

    `kubectl` asks for it where an object has no schema of its own, such as a `List`. What it does
    not find there, it leaves to the server to check.
    """
    info = _text(1, "Inferno cluster API") + _text(2, "v1")
    return _text(1, "2.0") + bytes([2 << 3 | 2, len(info)]) + info


def _text(number: int, text: str) -> bytes:
    """Return a short text as a field of a protobuf message."""
    data = text.encode()
    return bytes([number << 3 | 2, len(data)]) + data


def _name(served: Served) -> str:
    """Return the name of a schema, in the order of a Java package as Kubernetes has it."""
    group = served.definition.group or "core"
    turned = ".".join(reversed(group.split(".")))
    return f"{turned}.{served.version.name}.{served.kind}"


def _component(served: Served) -> Document:
    return {**served.schema, "x-kubernetes-group-version-kind": [_gvk(served)]}


def _gvk(served: Served) -> Document:
    definition = served.definition
    return {"group": definition.group, "version": served.version.name, "kind": definition.kind}


def _paths(served: Served) -> Document:
    definition = served.definition
    group, version = definition.group, served.version.name
    base = f"/apis/{group}/{version}" if group else f"/api/{version}"
    if definition.namespaced:
        collection = f"{base}/namespaces/{{namespace}}/{definition.plural}"
        everywhere = {f"{base}/{definition.plural}": _operations(served, {"get": "list"}, [])}
        where = ["namespace"]
    else:
        collection, everywhere, where = f"{base}/{definition.plural}", {}, []
    verbs = definition.verbs
    many = {"get": "list", "post": "create", "delete": "deletecollection"}
    one = {"get": "get", "put": "update", "patch": "patch", "delete": "delete"}
    paths = {
        **everywhere,
        collection: _operations(served, _allowed(many, verbs), where),
        f"{collection}/{{name}}": _operations(served, _allowed(one, verbs), [*where, "name"]),
    }
    for name, (_, _, _, allowed) in subresources_of(served).items():
        if name == "log":
            continue
        methods = {method: verb for method, verb in one.items() if verb in allowed}
        paths[f"{collection}/{{name}}/{name}"] = _operations(served, methods, [*where, "name"])
    return paths


def _allowed(methods: dict[str, str], verbs: frozenset[Any]) -> dict[str, str]:
    return {method: verb for method, verb in methods.items() if verb in verbs}


def _operations(served: Served, methods: dict[str, str], where: list[str]) -> Document:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in where
    ]
    operations = {method: _operation(served, method, verb) for method, verb in methods.items()}
    return {**operations, "parameters": parameters}


def _operation(served: Served, method: str, verb: str) -> Document:
    schema = {"$ref": f"#/components/schemas/{_name(served)}"}
    options: tuple[str, ...] = ()
    if method in ("post", "put", "patch"):
        options = (*_WRITING, "force") if method == "patch" else _WRITING
    elif verb == "list":
        options = _LISTING
    elif method == "delete":
        options = ("dryRun", "propagationPolicy", "gracePeriodSeconds")
    operation: Document = {
        "operationId": f"{verb}{_name(served).title().replace('.', '')}",
        "parameters": [_parameter(name) for name in options],
        "responses": {
            "200": {"description": "OK", "content": {"application/json": {"schema": schema}}}
        },
        "x-kubernetes-action": verb,
        "x-kubernetes-group-version-kind": _gvk(served),
    }
    if method in _BODY_TYPES:
        body = schema if method != "patch" else {"type": "object"}
        operation["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": body} for kind in _BODY_TYPES[method]},
        }
    return operation


def _parameter(name: str) -> Document:
    kind = "integer" if name in _NUMBERS else "boolean" if name in _FLAGS else "string"
    return {"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}}
