"""What an update is parsed into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inferno.core.documents.tree import Filter, Path


@dataclass(frozen=True, slots=True)
class Change:
    """One operator at one path.

    Args:
        operator: `$set`, say.
        path: where; parts may be `$`, `$[]` and `$[identifier]`.
        argument: what the operator made of its operand; a value for `$set`, a `Path` for
            `$rename`, a `Push` for `$push`, a `Test` or `Filter` for `$pull`.
    """

    operator: str
    path: Path
    argument: object


@dataclass(frozen=True, slots=True)
class Update:
    """Changes that are made together.

    Args:
        changes: in the order of their paths; none is in the way of another.
        array_filters: what `$[identifier]` stands for.
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
