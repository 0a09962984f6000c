"""How kinds of resources are shown to the world: versions, shapes, columns, subresources.

A `Resource` says how a kind is stored. A `KindDefinition` says how an API group serves it: the
same stored kind may be served by several groups and versions, each with a shape of its own.

A shape is a `msgspec.Struct` in camelCase with `spec` and `status` (and no `metadata`: that is
the same for all). What its types say, the cluster API enforces and `kubectl explain` shows:

- `msgspec.Meta(ge, le, min_length, max_length, pattern, …)` and `Literal` are validated, all of
  them at once, with messages that name the field;
- a field without a default is required; defaults are filled in and stored;
- a docstring describes a shape, and the lines of its `Args:` section describe the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from inferno.core.errors import InvalidRequest
from inferno.core.resources import Kind, Resource

Reason = Literal[
    "FieldValueInvalid",
    "FieldValueRequired",
    "FieldValueNotSupported",
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
]

Verb = Literal["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]

READING: frozenset[Verb] = frozenset({"get", "list", "watch"})
ALL_VERBS: frozenset[Verb] = READING | {"create", "update", "patch", "delete", "deletecollection"}


class Cause(msgspec.Struct, frozen=True):
    """One thing that is wrong with an object, as Kubernetes puts it into `details.causes`.

    Args:
        field: JSON path of the field (`spec.targetModels[0].weight`).
        message: what is wrong and what would be right (`Invalid value: 70000: must be at most
            65535`).
        reason: in one word.
    """

    field: str
    message: str
    reason: Reason = "FieldValueInvalid"


class InvalidResource(InvalidRequest):
    """A resource breaks the rules of its kind.

    Args:
        causes: all that is wrong with it; at least one.
    """

    def __init__(self, causes: Iterable[Cause]) -> None:
        self.causes = list(causes)
        said = "; ".join(f"{cause.field}: {cause.message}" for cause in self.causes)
        super().__init__(said, field=self.causes[0].field)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that `kubectl get` shows.

    Args:
        name: its heading (`Ready`).
        value: reads the cell from the stored resource; None shows nothing. A column of type
            `date` gets RFC 3339 and is shown as an age.
        type: of the cell.
        description: for a person.
        priority: 0 always; 1 with `-o wide` only.
    """

    name: str
    value: Callable[[Any], Any]
    type: Literal["string", "integer", "number", "boolean", "date"] = "string"
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePaths:
    """Where the `scale` subresource finds its numbers, in the served shape.

    Args:
        spec_replicas: path of the number wanted (`spec.predictor.replicas`).
        status_replicas: path of the number there is.
        selector: the label selector of the replicas, from the stored resource.
    """

    spec_replicas: str
    status_replicas: str
    selector: Callable[[Any], str] | None = None


def same(value: Any) -> Any:
    """Return the value: the codec of a kind that is served as it is stored."""
    return value


def nothing_more(_: Any) -> Iterable[Cause]:
    """Find nothing wrong: the rules of a kind whose types say it all."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """One version of a kind, as it is written and read from outside.

    Args:
        name: `v1alpha1`.
        shape: a Struct with the fields `spec` and `status` (or others, for kinds such as
            `Event`); it may be the stored type itself, whose `metadata` is left alone.
        to_stored: makes a stored resource from an instance of `shape` and its metadata; may raise
            `InvalidResource`. Fields that other versions have and this one lacks are taken from
            the third argument: what is stored now, or None for a new resource.
        from_stored: makes an instance of `shape` from a stored resource.
        validate: rules beyond those that the types of `shape` state.
        columns: for `kubectl get`, after NAME; an AGE column follows by itself.
        own_table: whether `columns` are all there are, in their order.
    """

    name: str
    shape: type[msgspec.Struct]
    to_stored: Callable[[Any, Any, Any], Resource] | None = None
    from_stored: Callable[[Any], msgspec.Struct] = same
    validate: Callable[[Any], Iterable[Cause]] = nothing_more
    columns: tuple[Column, ...] = ()
    own_table: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KindDefinition:
    """A kind that an API group serves.

    Args:
        stored: the type in the store.
        group: API group that serves it; empty for the core group.
        kind: singular CamelCase name.
        plural: lower-case plural, as in URLs.
        versions: the preferred one first.
        short_names: what `kubectl get` takes too.
        categories: groups of kinds that `kubectl get` takes (`all`, `inferno`).
        namespaced: whether its resources live in namespaces.
        verbs: what callers may do with it, given the permission.
        status: whether it has a `status` subresource, and `spec` writes leave the status alone.
        scale: of the `scale` subresource, where there is one.
    """

    stored: type[Resource]
    group: str
    kind: str
    plural: str
    versions: tuple[ServedVersion, ...]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    verbs: frozenset[Verb] = field(default=ALL_VERBS)
    status: bool = True
    scale: ScalePaths | None = None

    @property
    def singular(self) -> str:
        """The lower-case singular, which `kubectl` takes too."""
        return self.kind.lower()

    @property
    def resource(self) -> str:
        """`plural.group`, as messages name the kind."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def version(self, name: str) -> ServedVersion | None:
        """Return a served version by its name, or None."""
        return next((one for one in self.versions if one.name == name), None)

    @classmethod
    def of(cls, stored: type[Resource], **facts: Any) -> KindDefinition:
        """Return the definition of a kind that is served as it is stored, in its one version."""
        kind: Kind = stored.KIND
        columns = facts.pop("columns", ())
        validate = facts.pop("validate", nothing_more)
        version = ServedVersion(name=kind.version, shape=stored, validate=validate, columns=columns)
        return cls(
            stored=stored,
            group=kind.group,
            kind=kind.kind,
            plural=kind.plural,
            versions=(version,),
            **facts,
        )
