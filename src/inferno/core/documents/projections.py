"""Chooses the fields of documents that a caller wants to see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from inferno.core.documents.filters import parse_test, wrong
from inferno.core.documents.literals import check_nesting
from inferno.core.documents.matching import matches
from inferno.core.documents.paths import parse_field_path
from inferno.core.documents.tree import ElementMatches, ElementPasses, Field, Path
from inferno.core.documents.values import MISSING, copied, is_number, is_whole, joined
from inferno.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Slice:
    """`$slice`: some of the elements of an array.

    Args:
        skip: how many are left out first, counted from the end where it is negative.
        limit: how many are shown at most; None is all.
    """

    skip: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class Projection:
    """Which fields to show.

    Args:
        is_inclusion: whether only what is named is shown, or all else.
        fields: by part of a path: a projection of what is inside, what to show of an array, or
            None for the field as a whole.
    """

    is_inclusion: bool = False
    fields: dict[str, Choice] = field(default_factory=dict)


Choice = Projection | Slice | ElementMatches | ElementPasses | None


def parse_projection(value: object) -> Projection:
    """Return the projection that JSON stands for.

    Args:
        value: `{"name": 1, "tags": {"$slice": 2}}`, say; `None` and `{}` show everything.

    Raises:
        InvalidRequest: it is malformed, mixes inclusion and exclusion, or uses what is refused.
    """
    if value is None:
        return Projection()
    if not isinstance(value, dict):
        raise InvalidRequest('A projection is an object as {"name": 1}.', field="projection")
    check_nesting(value, "projection")
    named = dict(_named(value, ""))
    is_inclusion = _is_inclusion(named)
    root = Projection(is_inclusion)
    for name, operand in named.items():
        where = joined("projection", name)
        if name.endswith(".$"):
            raise wrong("$", "is refused in a projection; $elemMatch shows one element", where)
        path = parse_field_path(name, where)
        choice = _parse_operator(operand, where) if isinstance(operand, dict) else None
        # A document has no `_id`; who sends `"_id": 0` out of habit means no mixture.
        if choice is not None or bool(operand) is is_inclusion:
            _insert(root, path, choice, where)
    return root


def _named(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield paths and what is said of them, of `{"m": {"region": 1}}` as of `{"m.region": 1}`."""
    for name, operand in value.items():
        path = f"{prefix}{name}"
        is_inner = isinstance(operand, dict) and not any(inner[:1] == "$" for inner in operand)
        if is_inner and operand:
            yield from _named(operand, f"{path}.")
        else:
            yield path, operand


def _is_inclusion(value: dict[str, Any]) -> bool:
    """Return whether fields are included; what only cuts arrays shows all else as well."""
    kinds: dict[bool, str] = {}
    for name, operand in value.items():
        if isinstance(operand, dict):
            if "$elemMatch" in operand:
                kinds.setdefault(True, name)
        elif isinstance(operand, bool) or is_number(operand):
            if name != "_id" or len(value) == 1:
                kinds.setdefault(bool(operand), name)
        else:
            raise InvalidRequest(
                "A projection has 1, 0, $slice or $elemMatch for each field.",
                field=joined("projection", name),
            )
    if len(kinds) == 2:
        raise InvalidRequest(
            f"A projection either includes fields, as '{kinds[True]}', or excludes them, as "
            f"'{kinds[False]}'.",
            field="projection",
        )
    return True in kinds


def _insert(root: Projection, path: Path, choice: Choice, where: str) -> None:
    node = root
    for part in path[:-1]:
        inner = node.fields.setdefault(part, Projection(root.is_inclusion))
        if not isinstance(inner, Projection):
            raise _collision(where)
        node = inner
    if path[-1] in node.fields:
        raise _collision(where)
    node.fields[path[-1]] = choice


def _collision(where: str) -> InvalidRequest:
    return InvalidRequest("The projection names a field and what is inside it.", field=where)


def _parse_operator(operand: dict[str, Any], where: str) -> Choice:
    for name in operand:
        if name not in ("$slice", "$elemMatch") or len(operand) != 1:
            raise wrong(name[:50], "is no operator of projections that is known here", where)
        if name == "$slice":
            return _parse_slice(operand[name], where)
        test = parse_test({name: operand[name]}, where)
        if isinstance(test, ElementMatches | ElementPasses):
            return test
    raise InvalidRequest("A projection has 1, 0, $slice or $elemMatch.", field=where)


def _parse_slice(operand: object, where: str) -> Slice:
    numbers: list[Any] = operand if isinstance(operand, list) else [operand]
    if all(is_whole(each) and abs(each) < 2**31 for each in numbers):
        match numbers:
            case [count] if not isinstance(operand, list):
                return Slice(0, int(count)) if count >= 0 else Slice(int(count), None)
            case [skip, limit] if limit > 0:
                return Slice(int(skip), int(limit))
    raise wrong("$slice", "takes a whole number, or [skip, limit] with a limit above 0", where)


def project(projection: Projection, document: dict[str, Any]) -> dict[str, Any]:
    """Return what a projection shows of a document."""
    shown: dict[str, Any] = _shown(document, projection)
    return shown


def _shown(value: Any, projection: Projection) -> Any:
    """Return what is shown of a value; `MISSING` where it is nothing."""
    if isinstance(value, dict):
        pairs = ((name, _shown_field(name, inner, projection)) for name, inner in value.items())
        return {name: inner for name, inner in pairs if inner is not MISSING}
    if isinstance(value, list):
        elements = (_shown(element, projection) for element in value)
        return [element for element in elements if element is not MISSING]
    return MISSING if projection.is_inclusion else value


def _shown_field(name: str, value: Any, projection: Projection) -> Any:
    if name not in projection.fields:
        return MISSING if projection.is_inclusion else copied(value)
    match projection.fields[name]:
        case None:
            return copied(value) if projection.is_inclusion else MISSING
        case Projection() as inner:
            return _shown(value, inner)
        case Slice() as cut:
            return copied(_sliced(value, cut) if isinstance(value, list) else value)
        case test:
            return _first_match(value, test)


def _sliced(array: list[Any], cut: Slice) -> list[Any]:
    start = max(len(array) + cut.skip, 0) if cut.skip < 0 else cut.skip
    return array[start:] if cut.limit is None else array[start : start + cut.limit]


def _first_match(value: Any, test: ElementMatches | ElementPasses) -> Any:
    for element in value if isinstance(value, list) else ():
        if matches(Field(("array",), test), {"array": [element]}):
            return [copied(element)]
    return MISSING
