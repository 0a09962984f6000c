"""Checks objects against schemas: everything that is wrong, and every field that is unknown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from inferno.cluster.schemas import Schema
from inferno.core.kinds import Cause, Reason

MAX_CAUSES = 50
"""Told of at once; more help nobody."""

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_NAMES = {dict: "object", list: "array", str: "string", int: "integer", bool: "boolean"}


def pruned(value: Any, schema: Schema, path: str, unknown: list[str]) -> Any:
    """Return a value without the fields that its schema does not know.

    Args:
        value: JSON.
        schema: what is known.
        path: of the value.
        unknown: gets the paths of what was left out.
    """
    if isinstance(value, dict) and "properties" in schema:
        kept = {}
        for key, item in value.items():
            below = schema["properties"].get(key)
            if below is not None:
                kept[key] = pruned(item, below, _join(path, key), unknown)
            elif schema.get("x-kubernetes-preserve-unknown-fields"):
                kept[key] = item
            else:
                unknown.append(_join(path, key))
        return kept
    if isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        inner = schema["additionalProperties"]
        return {key: pruned(item, inner, _join(path, key), unknown) for key, item in value.items()}
    if isinstance(value, list) and "items" in schema:
        items = enumerate(value)
        return [pruned(item, schema["items"], f"{path}[{i}]", unknown) for i, item in items]
    return value


def without_nulls(value: Any, schema: Schema) -> Any:
    """Return a value without the fields that are null where null means nothing: absent."""
    if isinstance(value, dict):
        known = schema.get("properties", {})
        more = schema.get("additionalProperties")
        inner = {key: known.get(key, more if isinstance(more, dict) else {}) for key in value}
        return {
            key: without_nulls(item, inner[key])
            for key, item in value.items()
            if item is not None or inner[key].get("nullable") or not inner[key]
        }
    if isinstance(value, list):
        return [without_nulls(item, schema.get("items", {})) for item in value]
    return value


def with_defaults(value: Any, schema: Schema) -> Any:
    """Return a value with the defaults that say something: a word, a number other than zero.

    As Kubernetes has it: who writes a default down finds it there, so that `kubectl apply` of the
    same file has nothing to do.
    """
    if isinstance(value, dict):
        known = schema.get("properties", {})
        more = schema.get("additionalProperties")
        inner = more if isinstance(more, dict) else {}
        shown = {key: with_defaults(item, known.get(key, inner)) for key, item in value.items()}
        for key, field in known.items():
            default = field.get("default")
            if default and key not in shown and isinstance(default, str | int | float):
                shown[key] = default
        return shown
    if isinstance(value, list):
        items = schema.get("items", {})
        return [with_defaults(item, items) for item in value]
    return value


def causes(value: Any, schema: Schema, path: str = "") -> Iterator[Cause]:
    """Yield everything that is wrong with a value."""
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str) or isinstance(value, bool):
            yield _wrong_type(value, path, "integer or string")
        return
    wanted = schema.get("type")
    if wanted and not _is(value, wanted):
        yield _wrong_type(value, path, wanted)
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(json.dumps(one) for one in schema["enum"])
        message = f"Unsupported value: {_shown(value)}: supported values: {supported}"
        yield Cause(path, message, "FieldValueNotSupported")
        return
    if isinstance(value, str):
        yield from _text(value, schema, path)
    elif isinstance(value, list):
        yield from _list(value, schema, path)
    elif isinstance(value, dict):
        yield from _object(value, schema, path)
    elif isinstance(value, int | float):
        yield from _number(value, schema, path)


def _is(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[wanted])


def _text(value: str, schema: Schema, path: str) -> Iterator[Cause]:
    if len(value) < schema.get("minLength", 0):
        yield _bad(value, path, f"should be at least {schema['minLength']} chars long")
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        message = f"Too long: may not be more than {schema['maxLength']} characters"
        yield Cause(path, message, "FieldValueTooLong")
    elif "pattern" in schema and not _pattern(schema["pattern"]).search(value):
        yield _bad(value, path, f"should match '{schema['pattern']}'")


def _number(value: float, schema: Schema, path: str) -> Iterator[Cause]:
    limits = (
        ("minimum", value.__lt__, "greater than or equal to"),
        ("maximum", value.__gt__, "less than or equal to"),
        ("exclusiveMinimum", value.__le__, "greater than"),
        ("exclusiveMaximum", value.__ge__, "less than"),
    )
    for key, breaks, words in limits:
        if key in schema and breaks(schema[key]) is True:
            yield _bad(value, path, f"should be {words} {schema[key]}")
    if "multipleOf" in schema and value % schema["multipleOf"]:
        yield _bad(value, path, f"should be a multiple of {schema['multipleOf']}")


def _list(value: list[Any], schema: Schema, path: str) -> Iterator[Cause]:
    if len(value) < schema.get("minItems", 0):
        yield _bad(value, path, f"should have at least {schema['minItems']} items")
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        message = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
        yield Cause(path, message, "FieldValueTooMany")
        return
    keys = schema.get("x-kubernetes-list-map-keys", ())
    seen: set[str] = set()
    for index, item in enumerate(value):
        where = f"{path}[{index}]"
        if keys and isinstance(item, dict):
            identity = json.dumps([item.get(key) for key in keys])
            if identity in seen:
                shown = json.dumps({key: item.get(key) for key in keys})
                yield Cause(where, f"Duplicate value: {shown}", "FieldValueDuplicate")
            seen.add(identity)
        yield from causes(item, schema.get("items", {}), where)


def _object(value: dict[str, Any], schema: Schema, path: str) -> Iterator[Cause]:
    for name in schema.get("required", ()):
        if value.get(name) is None:
            yield Cause(_join(path, name), "Required value", "FieldValueRequired")
    if "maxProperties" in schema and len(value) > schema["maxProperties"]:
        message = f"Too many: {len(value)}: must have at most {schema['maxProperties']} items"
        yield Cause(path, message, "FieldValueTooMany")
        return
    if len(value) < schema.get("minProperties", 0):
        yield _bad(value, path, f"should have at least {schema['minProperties']} properties")
    known = schema.get("properties", {})
    more = schema.get("additionalProperties")
    for key, item in value.items():
        below = known.get(key, more if isinstance(more, dict) else None)
        if below is not None and not (item is None and key in schema.get("required", ())):
            yield from causes(item, below, _join(path, key))


def _wrong_type(value: Any, path: str, wanted: str) -> Cause:
    found = "null" if value is None else _NAMES.get(type(value), "number")
    message = f'Invalid value: "{found}": must be of type {wanted}'
    return Cause(path, message, "FieldValueTypeInvalid")


def _bad(value: Any, path: str, why: str, reason: Reason = "FieldValueInvalid") -> Cause:
    return Cause(path, f"Invalid value: {_shown(value)}: {path} in body {why}", reason)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


@lru_cache(maxsize=512)
def _pattern(pattern: str) -> re.Pattern[str]:
    # Where JSON Schema's `$` is the very end, Python's lets a newline follow.
    return re.compile(pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern)
