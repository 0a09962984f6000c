"""Tables of the fields of served kinds, made from their types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from inferno.core.kinds import KindDefinition, ServedVersion

WORDS = {
    r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$": "as labels are",
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$": "a DNS name",
    r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$": "letters, digits and `-`, beginning with a letter",
    r"^[-._a-zA-Z0-9]+$": "letters, digits, `-`, `_` and `.`",
}
"""What the page says for a pattern; a new one needs words of its own."""


class Row(NamedTuple):
    """One field.

    Args:
        path: as messages name it; `[]` stands for any item of a list.
        default: as JSON has it; `required` where there is none.
        allowed: type and limits.
        meaning: the words of its shape's docstring.
    """

    path: str
    default: str
    allowed: str
    meaning: str

    def __str__(self) -> str:
        # In a table a bar ends a cell.
        allowed = self.allowed.replace("|", "\\|")
        return f"| `{self.path}` | {self.default} | {allowed} | {self.meaning} |"


def title(definition: KindDefinition, version: ServedVersion) -> str:
    """Return the heading of a kind in a version."""
    group = f"{definition.group}/" if definition.group else ""
    return f"## `{definition.kind}` in `{group}{version.name}`"


def rows(shape: type[msgspec.Struct]) -> list[Row]:
    """Return the fields that a client writes: all but metadata and status."""
    return [row for row in _rows(shape, "") if not re.match(r"(metadata|status)\b", row.path)]


def _rows(shape: type[msgspec.Struct], prefix: str) -> Iterator[Row]:
    meanings = _meanings(shape)
    info = inspect.type_info(shape)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        path = prefix + field.encode_name
        below = _struct(field.type)
        is_list = isinstance(_plain(field.type), inspect.ListType)
        if not (path in ("spec", "status", "metadata") and below):
            yield Row(path, _default(field), _allowed(field.type), meanings.get(field.name, ""))
        if below and path not in ("status", "metadata"):
            yield from _rows(below, f"{path}[]." if is_list else f"{path}.")


def _plain(kind: inspect.Type) -> inspect.Type:
    """Return a type without the None that it may be."""
    if isinstance(kind, inspect.UnionType):
        (kind,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _struct(kind: inspect.Type) -> type[msgspec.Struct] | None:
    plain = _plain(kind)
    if isinstance(plain, inspect.ListType):
        plain = _plain(plain.item_type)
    return plain.cls if isinstance(plain, inspect.StructType) else None


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value: Any = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory() if callable(field.default_factory) else None
    return "" if value in (None, "", [], {}) else f"`{msgspec.json.encode(value).decode()}`"


def _allowed(kind: inspect.Type) -> str:
    plain = _plain(kind)
    match plain:
        case inspect.LiteralType():
            return ", ".join(f"`{value}`" for value in plain.values if value)
        case inspect.IntType():
            return f"integer, {plain.ge} to {plain.le}"
        case inspect.StrType():
            return ", ".join(["text", *_lengths(plain, "characters"), *_pattern(plain)])
        case inspect.BoolType():
            return "boolean"
        case inspect.DictType():
            return f"map to {_allowed(plain.value_type)}"
        case inspect.ListType():
            item = plain.item_type
            inner = "" if _struct(item) else f" of {_allowed(item)}"
            return ", ".join([f"list{inner}", *_lengths(plain, "items")])
        case inspect.StructType():
            return "object"
    raise AssertionError(f"no words for {plain}")


def _lengths(kind: inspect.StrType | inspect.ListType, what: str) -> list[str]:
    if kind.max_length is None:
        return []
    return [f"{kind.min_length or 0} to {kind.max_length} {what}"]


def _pattern(kind: inspect.StrType) -> list[str]:
    return [WORDS[kind.pattern]] if kind.pattern else []


def _meanings(shape: type) -> dict[str, str]:
    """Return what the `Args:` of a docstring say of each field."""
    _, _, arguments = (shape.__doc__ or "").partition("Args:")
    found: dict[str, str] = {}
    for name, words in re.findall(r"^        (\w+): (.*(?:\n            .*)*)", arguments, re.M):
        text = " ".join(words.split())
        found[name] = text[0].upper() + text[1:]
    return found
