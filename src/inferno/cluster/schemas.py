"""JSON schemas of shapes, in the dialect that Kubernetes' OpenAPI documents use.

They come from the types alone. Validation, pruning and `kubectl explain` all read the same ones.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import msgspec

from inferno.core.resources import ObjectMeta

Schema = dict[str, Any]

OPEN: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
"""An object about whose fields nothing is said."""

_KEPT = (
    "type", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength",
    "maxLength", "pattern", "minItems", "maxItems", "minProperties", "maxProperties", "multipleOf",
    "default",
)  # fmt: skip
_ARGUMENT = re.compile(r"^ {4}([\w, ]+): ", re.MULTILINE)

LIST_KEYS: dict[str, list[str]] = {
    "conditions": ["type"],
    "ownerReferences": ["uid"],
    "managedFields": [],
    "containers": ["name"],
    "containerStatuses": [],
}
"""Lists whose items are known by keys, by the name of the field; others are replaced as a whole."""

LIST_SETS = frozenset({"finalizers"})
"""Lists that are sets."""


def schema_of(shape: type[msgspec.Struct], *, leave_out: frozenset[str] = frozenset()) -> Schema:
    """Return the schema of a struct.

    Args:
        shape: the struct.
        leave_out: fields that are not part of it.
    """
    (reference,), components = msgspec.json.schema_components([shape])
    descriptions = _descriptions(shape)
    schema = _resolved(reference, components, descriptions, ())
    for name in leave_out:
        schema.get("properties", {}).pop(name, None)
    if "required" in schema:
        schema["required"] = [name for name in schema["required"] if name not in leave_out]
        if not schema["required"]:
            del schema["required"]
    return schema


def metadata_schema() -> Schema:
    """Return the schema of `metadata`."""
    schema = schema_of(ObjectMeta)
    schema.pop("required", None)
    properties = schema["properties"]
    for name in ("creationTimestamp", "deletionTimestamp"):
        properties[name]["nullable"] = True
        properties[name]["format"] = "date-time"
    properties["selfLink"] = {"type": "string"}
    properties["deletionGracePeriodSeconds"] = {"type": "integer", "format": "int64"}
    schema["description"] = "Standard object's metadata."
    return schema


def _resolved(
    schema: Schema,
    components: dict[str, Schema],
    described: dict[str, tuple[str, dict[str, str]]],
    path: tuple[str, ...],
) -> Schema:
    """Return a schema without references; one that would never end is left open."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in path:
            return dict(OPEN)
        return _object(name, components, described, (*path, name)) | _words(schema)
    if "anyOf" in schema:
        return _choice(schema, components, described, path)
    if "enum" in schema:
        values = [value for value in schema["enum"] if value is not None]
        nullable = {"nullable": True} if None in schema["enum"] else {}
        return {"type": _type_of(values), "enum": values, **nullable, **_words(schema)}
    result: Schema = {key: schema[key] for key in _KEPT if key in schema} | _words(schema)
    if schema.get("type") == "array":
        result["items"] = _resolved(schema.get("items", {}), components, described, path) or OPEN
    elif schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        if isinstance(inner, dict):
            found = _resolved(inner, components, described, path)
            result["additionalProperties"] = found or {"x-kubernetes-preserve-unknown-fields": True}
        else:
            result["x-kubernetes-preserve-unknown-fields"] = True
    elif not schema.get("type"):
        result["x-kubernetes-preserve-unknown-fields"] = True
    return result


def _object(
    name: str,
    components: dict[str, Schema],
    described: dict[str, tuple[str, dict[str, str]]],
    path: tuple[str, ...],
) -> Schema:
    source = components[name]
    if "enum" in source or source.get("type") != "object":
        return _resolved(source, components, described, path)
    summary, fields = described.get(name, ("", {}))
    properties = {}
    for key, value in source.get("properties", {}).items():
        found = _resolved(value, components, described, path)
        if key in fields:
            found = {"description": fields[key], **found}
        properties[key] = _as_list(key, found)
    result: Schema = {"type": "object", "properties": properties}
    if summary:
        result = {"description": summary, **result}
    if source.get("required"):
        result["required"] = list(source["required"])
    return result


def _choice(
    schema: Schema,
    components: dict[str, Schema],
    described: dict[str, tuple[str, dict[str, str]]],
    path: tuple[str, ...],
) -> Schema:
    """Return the schema of a union: of one thing or null, of an integer or a string, or of any."""
    others = [one for one in schema["anyOf"] if one.get("type") != "null"]
    nullable = {"nullable": True} if len(others) < len(schema["anyOf"]) else {}
    if len(others) == 1:
        return _resolved(others[0], components, described, path) | nullable | _words(schema)
    if {one.get("type") for one in others} == {"integer", "string"}:
        return {"x-kubernetes-int-or-string": True, **nullable, **_words(schema)}
    return {"x-kubernetes-preserve-unknown-fields": True, **nullable, **_words(schema)}


def _as_list(name: str, schema: Schema) -> Schema:
    """Say how a list is merged."""
    if schema.get("type") != "array":
        return schema
    if name in LIST_SETS:
        return {**schema, "x-kubernetes-list-type": "set"}
    keys = LIST_KEYS.get(name)
    if keys:
        return {**schema, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}
    return {**schema, "x-kubernetes-list-type": "atomic"}


def _words(schema: Schema) -> Schema:
    return {key: schema[key] for key in ("description", "default") if key in schema}


def _type_of(values: list[Any]) -> str:
    return "integer" if values and all(isinstance(one, int) for one in values) else "string"


def _descriptions(shape: type) -> dict[str, tuple[str, dict[str, str]]]:
    """Return what the docstrings of a struct and of those inside it say, by name."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    waiting: list[Any] = [shape]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            if one.__name__ in found:
                continue
            found[one.__name__] = _documented(one)
            waiting.extend(field.type for field in msgspec.structs.fields(one))
        else:
            waiting.extend(getattr(one, "__args__", ()))
    return found


def _documented(shape: type[msgspec.Struct]) -> tuple[str, dict[str, str]]:
    """Return a struct's summary and what its `Args:` section says of its fields, by JSON name."""
    text = inspect.cleandoc(shape.__doc__ or "")
    if "__init__" in text or text.startswith("Struct("):
        return "", {}
    summary, _, rest = text.partition("\nArgs:\n")
    names = {field.name: field.encode_name for field in msgspec.structs.fields(shape)}
    parts = _ARGUMENT.split(rest)
    fields: dict[str, str] = {}
    for labels, words in zip(parts[1::2], parts[2::2], strict=True):
        for label in labels.split(","):
            if label.strip() in names:
                fields[names[label.strip()]] = _sentence(words)
    return " ".join(summary.split()), fields


def _sentence(words: str) -> str:
    """Return an argument's words as a sentence; what follows a blank line is another section."""
    text = " ".join(words.partition("\n\n")[0].split())
    return text[:1].upper() + text[1:]
