"""`/openapi.json`: an OpenAPI 3.1 document made from the operations and their types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from inferno.server.errors import speaks_openai
from inferno.server.operation import Operation

ERROR_REF = {"$ref": "#/components/schemas/Error"}
OPENAI_ERROR_REF = {"$ref": "#/components/schemas/OpenAIError"}

_ERRORS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error", "request_id", "timestamp"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "details": {"type": "object"},
                },
            },
            "request_id": {"type": "string"},
            "timestamp": {"type": "string", "format": "date-time"},
        },
    },
    "OpenAIError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    },
}


def document(operations: Sequence[Operation], *, version: str) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        operations: all of the API.
        version: the platform's version.
    """
    types = [operation.request for operation in operations if operation.request is not None]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = paths.setdefault(operation.documented_path, {})
        path[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inferno inference API",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas, **_ERRORS},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _identifier(operation),
        "responses": {
            "200": {"description": operation.responses},
            "default": {
                "description": "An error.",
                "content": {"application/json": {"schema": _error(operation.path)}},
            },
        },
    }
    names = re.findall(r"{(\w+)", operation.path)
    if names:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if operation.request is not None:
        name = operation.request.__name__
        reference = {"$ref": f"#/components/schemas/{name}"}
        described["requestBody"] = {"content": {"application/json": {"schema": reference}}}
    if operation.public:
        described["security"] = []
    if operation.deprecation is not None:
        described["deprecated"] = True
    return described


def _identifier(operation: Operation) -> str:
    words = re.findall(r"\w+", operation.path)
    return "_".join([operation.method.lower(), *words]) if words else "describe"


def _error(path: str) -> dict[str, str]:
    return OPENAI_ERROR_REF if speaks_openai(path) else ERROR_REF
