"""The kinds that are served, by group, version and plural."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import msgspec

from inferno.cluster.schemas import Schema, metadata_schema, schema_of
from inferno.core.kinds import KindDefinition, ServedVersion
from inferno.core.resources import Resource

METADATA = metadata_schema()


class Served:
    """One kind in one version: what a URL names.

    Args:
        definition: the kind.
        version: in which it is read and written.
    """

    def __init__(self, definition: KindDefinition, version: ServedVersion) -> None:
        self.definition = definition
        self.version = version
        group = definition.group
        self.group_version = f"{group}/{version.name}" if group else version.name

    @property
    def kind(self) -> str:
        """Singular CamelCase name."""
        return self.definition.kind

    @property
    def is_plain(self) -> bool:
        """Whether it is served as it is stored."""
        return issubclass(self.version.shape, Resource)

    @property
    def has_status(self) -> bool:
        """Whether the status is written apart from the rest."""
        return self.definition.status

    @cached_property
    def schema(self) -> Schema:
        """The schema of the whole object."""
        body = schema_of(self.version.shape, leave_out=frozenset({"metadata"}))
        about = {
            "apiVersion": {
                "type": "string",
                "description": "The versioned schema of this representation of an object.",
            },
            "kind": {
                "type": "string",
                "description": "The REST resource that this object represents, in CamelCase.",
            },
            "metadata": METADATA,
        }
        return {**body, "properties": about | body.get("properties", {})}

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """JSON names of the shape's fields, but for the metadata."""
        named = [one.encode_name for one in msgspec.structs.fields(self.version.shape)]
        return tuple(name for name in named if name != "metadata")

    def knows(self, path: str) -> bool:
        """Return whether a field of that path can be selected by."""
        schema = self.schema
        for part in path.split("."):
            schema = schema.get("properties", {}).get(part)
            if schema is None:
                return False
        return schema.get("type") not in ("object", "array")


class Catalog:
    """All kinds that are served.

    Args:
        definitions: in the order in which discovery lists them.
    """

    def __init__(self, definitions: Iterable[KindDefinition]) -> None:
        self.definitions = tuple(definitions)
        self._served = {
            (one.group, version.name, one.plural): Served(one, version)
            for one in self.definitions
            for version in one.versions
        }

    def find(self, group: str, version: str, plural: str) -> Served | None:
        """Return what a URL names, or None."""
        return self._served.get((group, version, plural))

    def groups(self) -> dict[str, list[str]]:
        """Return the versions of each group, the preferred one first."""
        found: dict[str, list[str]] = {}
        for definition in self.definitions:
            versions = found.setdefault(definition.group, [])
            for version in definition.versions:
                if version.name not in versions:
                    versions.append(version.name)
        return found

    def of(self, group: str, version: str) -> list[Served]:
        """Return what a group serves in a version."""
        return [
            served
            for (its_group, its_version, _), served in self._served.items()
            if (its_group, its_version) == (group, version)
        ]

    def stored_kinds(self) -> Iterator[type[Resource]]:
        """Yield every stored kind that lives in namespaces, once."""
        yield from dict.fromkeys(one.stored for one in self.definitions if one.namespaced)
