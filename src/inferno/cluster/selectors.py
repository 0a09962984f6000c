"""Label and field selectors, as `-l` and `--field-selector` take them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from inferno.core.errors import InvalidRequest

Operator = Literal["in", "notin", "exists", "absent", "gt", "lt"]

_KEY = r"(?:[A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=|>|<)\s*([A-Za-z0-9_.-]*)")
_PRESENT = re.compile(rf"(!?)\s*({_KEY})")
_FIELD = re.compile(r"([A-Za-z][\w./\-\[\]]*)\s*(==|=|!=)(.*)", re.DOTALL)
_BOUND = re.compile(r"[0-9]{1,18}")
MAX_LENGTH = 16_384


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on a label."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def admits(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels fulfil it."""
        value = labels.get(self.key)
        match self.operator:
            case "exists":
                return value is not None
            case "absent":
                return value is None
            case "in":
                return value in self.values
            case "notin":
                return value not in self.values
        return _compare(value, self.operator, next(iter(self.values)))


def _compare(value: str | None, operator: Operator, bound: str) -> bool:
    try:
        number = int(value or "")
    except ValueError:
        return False
    return number > int(bound) if operator == "gt" else number < int(bound)


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """One condition on a field."""

    path: str
    equal: bool
    value: str

    def admits(self, value: str) -> bool:
        """Return whether a field's value, as text, fulfils it."""
        return (value == self.value) is self.equal


@dataclass(frozen=True, slots=True)
class Selector:
    """Which resources of a kind a request is about."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[FieldRequirement, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.fields)

    def admits(self, labels: Mapping[str, str], served: Callable[[], Mapping[str, Any]]) -> bool:
        """Return whether a resource is meant.

        Args:
            labels: of the resource.
            served: makes the object as it is served; called only for fields.
        """
        if not all(one.admits(labels) for one in self.labels):
            return False
        if not self.fields:
            return True
        whole = served()
        return all(one.admits(field_text(whole, one.path)) for one in self.fields)

    @property
    def name(self) -> str | None:
        """The one name that the selector admits, where it asks for one."""
        wanted = [one.value for one in self.fields if one.path == "metadata.name" and one.equal]
        return wanted[0] if wanted else None


def field_text(served: Mapping[str, Any], path: str) -> str:
    """Return a field as text; one that is absent is empty."""
    value: Any = served
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """Parse a label selector. Raises InvalidRequest."""
    _check_length(text, "labelSelector")
    return tuple(_label(part.strip()) for part in _split(text)) if text.strip() else ()


def _split(text: str) -> list[str]:
    """Split a selector at the commas that are not inside of parentheses, in one pass."""
    parts, begin, is_inside = [], 0, False
    for index, char in enumerate(text):
        if char in "()":
            is_inside = char == "("
        elif char == "," and not is_inside:
            parts.append(text[begin:index])
            begin = index + 1
    return [*parts, text[begin:]]


def _label(part: str) -> Requirement:
    if found := _SET.fullmatch(part):
        values = frozenset(value.strip() for value in found[3].split(","))
        return Requirement(found[1], "in" if found[2] == "in" else "notin", values)
    if found := _EQUAL.fullmatch(part):
        key, sign, value = found.groups()
        if sign in "<>":
            if not _BOUND.fullmatch(value):
                raise _unreadable("labelSelector", part)
            return Requirement(key, "gt" if sign == ">" else "lt", frozenset({value}))
        return Requirement(key, "notin" if sign == "!=" else "in", frozenset({value}))
    if found := _PRESENT.fullmatch(part):
        return Requirement(found[2], "absent" if found[1] else "exists")
    raise _unreadable("labelSelector", part)


def parse_fields(text: str, known: Callable[[str], bool]) -> tuple[FieldRequirement, ...]:
    """Parse a field selector.

    Args:
        text: `metadata.name=a,status.phase!=Running`.
        known: whether a path can be selected by.

    Raises:
        InvalidRequest: it cannot be read, or names a field that is not known.
    """
    _check_length(text, "fieldSelector")
    wanted = []
    for part in text.split(",") if text.strip() else ():
        found = _FIELD.fullmatch(part.strip())
        if found is None:
            raise _unreadable("fieldSelector", part)
        if not known(found[1]):
            raise InvalidRequest(f'"{found[1]}" is not a known field selector.')
        wanted.append(FieldRequirement(found[1], found[2] != "!=", found[3].strip()))
    return tuple(wanted)


def _check_length(text: str, name: str) -> None:
    if len(text) > MAX_LENGTH:
        raise InvalidRequest(f"The {name} is longer than {MAX_LENGTH} characters.")


def _unreadable(name: str, part: str) -> InvalidRequest:
    return InvalidRequest(f"unable to parse the {name}: '{part[:100]}' is not understood.")
