"""What a status says before a controller has looked: that nobody knows yet."""

from __future__ import annotations

from collections.abc import Sequence

from inferno.core.resources import Condition, ObjectMeta


def with_pending(
    conditions: Sequence[Condition], metadata: ObjectMeta, kind: str = "Accepted"
) -> list[Condition]:
    """Return the conditions, or where there are none, one of type `kind` that is `Unknown`."""
    if conditions:
        return list(conditions)
    pending = Condition(
        type=kind,
        status="Unknown",
        reason="Pending",
        message="Waiting for controller",
        # The definitions of others say 1970 here, which a table shows as an age of decades.
        last_transition_time=metadata.creation_timestamp,
    )
    return [pending]
