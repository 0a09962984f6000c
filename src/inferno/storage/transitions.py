"""What a write makes of a resource. Pure: current state and wish in, next state out.

The store fills in `resource_version` when it writes, so that here a write that changes nothing
returns a resource equal to the current one.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from inferno.core.errors import Conflict, InvalidRequest
from inferno.core.resources import ObjectMeta, Resource

R = TypeVar("R", bound=Resource)


def created(resource: R, *, uid: str, at: str) -> R:
    """Return the first state of a resource: its own spec and status, the store's metadata."""
    metadata = msgspec.structs.replace(
        resource.metadata,
        uid=uid,
        resource_version="",
        generation=1,
        creation_timestamp=at,
        deletion_timestamp=None,
    )
    return msgspec.structs.replace(resource, metadata=metadata)


def updated(current: R, wanted: R) -> R:
    """Return `current` with everything of `wanted` that a client owns, except the status.

    Raises:
        InvalidRequest: it adds a finalizer to a resource that is going away.
    """
    spec_changed = wanted.spec != current.spec
    metadata = msgspec.structs.replace(
        current.metadata,
        generation=current.metadata.generation + int(spec_changed),
        labels=wanted.metadata.labels,
        annotations=wanted.metadata.annotations,
        owner_references=wanted.metadata.owner_references,
        finalizers=wanted.metadata.finalizers,
        managed_fields=wanted.metadata.managed_fields,
    )
    _check_finalizers(current.metadata, metadata)
    return msgspec.structs.replace(current, metadata=metadata, spec=wanted.spec)


def with_status(current: R, wanted: R) -> R:
    """Return `current` with the status of `wanted`, and its word on who looks after what."""
    metadata = msgspec.structs.replace(
        current.metadata, managed_fields=wanted.metadata.managed_fields
    )
    return msgspec.structs.replace(current, metadata=metadata, status=wanted.status)


def going(current: R, *, at: str, held_by: str = "") -> R:
    """Return `current` marked for deletion; the first mark stays.

    Args:
        current: the state before.
        at: the present.
        held_by: a finalizer to add where the mark is new; empty for none.
    """
    metadata = current.metadata
    finalizers = metadata.finalizers
    if held_by and metadata.deletion_timestamp is None and held_by not in finalizers:
        finalizers = [*finalizers, held_by]
    metadata = msgspec.structs.replace(
        metadata, deletion_timestamp=metadata.deletion_timestamp or at, finalizers=finalizers
    )
    return msgspec.structs.replace(current, metadata=metadata)


def disowned(current: R, owner_uid: str) -> R:
    """Return `current` without its references to one owner."""
    owners = [one for one in current.metadata.owner_references if one.uid != owner_uid]
    metadata = msgspec.structs.replace(current.metadata, owner_references=owners)
    return msgspec.structs.replace(current, metadata=metadata)


def released(current: R, finalizer: str) -> R:
    """Return `current` without one of its finalizers."""
    left = [name for name in current.metadata.finalizers if name != finalizer]
    metadata = msgspec.structs.replace(current.metadata, finalizers=left)
    return msgspec.structs.replace(current, metadata=metadata)


def is_gone(metadata: ObjectMeta) -> bool:
    """Say whether nothing holds back the removal of a resource marked for deletion."""
    return metadata.deletion_timestamp is not None and not metadata.finalizers


def check_precondition(current: ObjectMeta, wanted: ObjectMeta) -> None:
    """Raise Conflict when `wanted` was made from another state, or another resource, than stored.

    Empty fields ask for nothing.
    """
    if wanted.uid and wanted.uid != current.uid:
        raise Conflict(
            f"'{current.name}' was deleted and created again meanwhile; read it again.",
            name=current.name,
        )
    if wanted.resource_version and wanted.resource_version != current.resource_version:
        raise Conflict(
            f"'{current.name}' was changed meanwhile; read it again and repeat the change.",
            name=current.name,
            resource_version=current.resource_version,
        )


def _check_finalizers(current: ObjectMeta, wanted: ObjectMeta) -> None:
    added = set(wanted.finalizers) - set(current.finalizers)
    if current.deletion_timestamp is not None and added:
        raise InvalidRequest(
            "Finalizers cannot be added to a resource that is being deleted.",
            field="metadata.finalizers",
        )
