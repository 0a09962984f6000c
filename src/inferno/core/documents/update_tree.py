"""What an update is parsed into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inferno.core.documents.sorting import Sort
from inferno.core.documents.tree import Filter, Path


@dataclass(frozen=True, slots=True)
class Push:
    """What `$push` does.

    Args:
        values: what is added.
        position: the index that it comes before, counted from the end where it is negative; None
            is the end.
        slice: how many elements are kept, the last ones where it is negative; None is all.
        sort: what the array is sorted by, or 1 or -1 for its elements themselves.
    """

    values: tuple[object, ...]
    position: int | None = None
    slice: int | None = None
    sort: Sort | int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One operator at one path.

    Args:
        operator: `$set`, say.
        path: where; parts may be `$`, `$[]` and `$[identifier]`.
        argument: what became of the operand: a value for `$set` and its like, a number for `$inc`,
            a `Path` for `$rename`, a `Push`, a tuple of values for `$addToSet`, a `Test` or a
            `Filter` for `$pull`, the identities of values for `$pullAll`.
    """

    operator: str
    path: Path
    argument: object

    @property
    def name(self) -> str:
        """Return the path as it was written."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Update:
    """Changes that are made together.

    Args:
        changes: none is in the way of another.
        array_filters: what `$[identifier]` stands for: filters of `{identifier: element}`.
    """

    changes: tuple[Change, ...]
    array_filters: Mapping[str, Filter] = field(default_factory=dict)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return every path that is written, targets of `$rename` among them."""
        targets = (
            change.argument
            for change in self.changes
            if change.operator == "$rename" and isinstance(change.argument, tuple)
        )
        return (*(change.path for change in self.changes), *targets)
