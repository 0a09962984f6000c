"""What `$push`, `$addToSet`, `$pop`, `$pull` and `$pullAll` make of an array."""

from __future__ import annotations

from collections.abc import Iterable

from inferno.core.documents.matching import matches, passes
from inferno.core.documents.sorting import Sort, sort_key
from inferno.core.documents.tree import (
    AnyOf,
    Compare,
    Every,
    Expression,
    Field,
    Filter,
    NoneOf,
    Test,
    Text,
)
from inferno.core.documents.update_tree import Push
from inferno.core.documents.values import identity, order_key


def pushed(array: list[object], push: Push) -> list[object]:
    """Return an array with more elements, then sorted, then cut."""
    at = len(array) if push.position is None else push.position
    result = [*array[:at], *push.values, *array[at:]]
    if isinstance(push.sort, Sort):
        by = push.sort
        result.sort(key=lambda element: sort_key(element, by))
    elif push.sort is not None:
        result.sort(key=order_key, reverse=push.sort < 0)
    if push.slice is None:
        return result
    return result[: push.slice] if push.slice >= 0 else result[push.slice :]


def added(array: list[object], values: Iterable[object]) -> list[object]:
    """Return an array with those values that it lacks."""
    result = list(array)
    present = {identity(element) for element in array}
    for value in values:
        if (key := identity(value)) not in present:
            present.add(key)
            result.append(value)
    return result


def popped(array: list[object], end: int) -> list[object]:
    """Return an array without its last element, or its first where `end` is -1."""
    return array[:-1] if end > 0 else array[1:]


def pulled(array: list[object], condition: Test | Filter) -> list[object]:
    """Return an array without the elements that a condition chooses."""
    return [element for element in array if not _is_chosen(element, condition)]


def without(array: list[object], removed: frozenset[object]) -> list[object]:
    """Return an array without the elements of these identities."""
    return [element for element in array if identity(element) not in removed]


def _is_chosen(element: object, condition: Test | Filter) -> bool:
    match condition:
        case Every() | AnyOf() | NoneOf() | Field() | Text() | Expression():
            return isinstance(element, dict) and matches(condition, element)
        case Compare(operator="$eq"):
            return passes(condition, element)
    return matches(Field(("element",), condition), {"element": element})
