"""A small client of the cluster API, for the commands `apply`, `get` and `delete`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from inferno.cli.client import Client
from inferno.cli.errors import CommandFailed
from inferno.cli.output import print_json, print_table

PREFIX = "/k8s"
MANAGER = "inferno-cli"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the server lists it.

    Args:
        group: API group; empty for the core group.
        version: in which it is asked for.
        plural: as in URLs.
        kind: singular CamelCase name.
        namespaced: whether it lives in namespaces.
        names: all that it is known by, in lower case.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    names: frozenset[str]

    def path(self, namespace: str, name: str | None = None) -> str:
        """Return the path of its collection in a namespace, or of one resource."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if self.namespaced and namespace:
            base += f"/namespaces/{quote(namespace, safe='')}"
        path = f"{PREFIX}{base}/{self.plural}"
        return f"{path}/{quote(name, safe='')}" if name is not None else path

    def shown(self, name: str) -> str:
        """Return `plural.group/name`, as `kubectl` shows it."""
        return f"{self.plural}{'.' if self.group else ''}{self.group}/{name}"


class Cluster:
    """Asks the cluster API.

    Args:
        client: of the control plane.
        namespace: of resources that name none; empty for all.
    """

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._known: list[Resource] | None = None

    def apply(self, document: Object, *, dry_run: bool) -> str:
        """Bring a resource to what a document says, and return what it is called."""
        resource, name, namespace = self._addressed(document)
        query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        path = f"{resource.path(namespace, name)}?{urlencode(query)}"
        self._client.patch(path, document, content_type="application/apply-patch+yaml")
        return resource.shown(name)

    def delete(self, kind: str, name: str) -> str:
        """Delete a resource, and return what it is called."""
        resource = self._find(kind)
        self._client.delete(resource.path(self._namespace, name))
        return resource.shown(name)

    def delete_document(self, document: Object) -> str:
        """Delete the resource that a document describes, and return what it is called."""
        resource, name, namespace = self._addressed(document)
        self._client.delete(resource.path(namespace, name))
        return resource.shown(name)

    def show(self, kind: str, name: str | None, *, output: str, selector: str) -> None:
        """Print resources."""
        resource = self._find(kind)
        if name is not None and not self._namespace and resource.namespaced:
            raise CommandFailed(
                "a name is of one namespace: leave out --all-namespaces", exit_code=2
            )
        path = resource.path(self._namespace, name)
        if selector:
            path += f"?{urlencode({'labelSelector': selector})}"
        if output in ("table", "wide"):
            self._print_table(self._client.get(path, accept=TABLE), wide=output == "wide")
            return
        found = self._client.get(path)
        items = found.get("items", [found])
        for item in items:
            item["metadata"].pop("managedFields", None)  # for programs; kubectl hides it too
        if output == "name":
            for item in items:
                print(resource.shown(item["metadata"]["name"]))
        elif output == "json":
            print_json(found)
        else:
            import yaml

            print(yaml.safe_dump(found, sort_keys=False, allow_unicode=True), end="")

    def _print_table(self, table: Object, *, wide: bool) -> None:
        headings = table["columnDefinitions"]
        shown = [i for i, one in enumerate(headings) if wide or not one.get("priority")]
        if not table["rows"]:
            print("No resources found.", file=sys.stderr)
            return
        columns = [headings[i]["name"].upper() for i in shown]
        rows = [[_cell(row["cells"][i]) for i in shown] for row in table["rows"]]
        if not self._namespace:
            spaces = [row["object"]["metadata"].get("namespace", "") for row in table["rows"]]
            if any(spaces):
                columns = ["NAMESPACE", *columns]
                rows = [[space, *row] for space, row in zip(spaces, rows, strict=True)]
        print_table(columns, rows)

    def _addressed(self, document: Object) -> tuple[Resource, str, str]:
        """Return kind, name and namespace of a document. Raises CommandFailed."""
        api_version, kind = document.get("apiVersion"), document.get("kind")
        metadata = document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not all(isinstance(one, str) and one for one in (api_version, kind, name)):
            raise CommandFailed("a resource needs apiVersion, kind and metadata.name")
        group, _, version = str(api_version).rpartition("/")
        for resource in self._resources():
            if (resource.group, resource.version, resource.kind) == (group, version, kind):
                assert isinstance(metadata, dict)  # noqa: S101 - it had a name
                namespace = str(metadata.get("namespace") or self._namespace)
                return resource, str(name), namespace
        raise CommandFailed(f"the server knows no kind {kind} in {api_version}")

    def _find(self, kind: str) -> Resource:
        """Return the kind of a name: the first that has it. Raises CommandFailed."""
        for resource in self._resources():
            if kind.lower() in resource.names:
                return resource
        known = sorted({one.plural for one in self._resources()})
        raise CommandFailed(f"the server knows no kind '{kind}' (known: {', '.join(known)})")

    def _resources(self) -> list[Resource]:
        if self._known is None:
            self._known = [
                resource
                for path in ("/api", "/apis")
                for resource in _listed(self._client.get(f"{PREFIX}{path}", accept=DISCOVERY))
            ]
        return self._known


def _listed(document: Object) -> Iterator[Resource]:
    """Yield the kinds of an aggregated discovery document."""
    for group in document["items"]:
        of_group = group["metadata"].get("name", "")
        for version in group["versions"]:
            for one in version["resources"]:
                plural, kind = one["resource"], one["responseKind"]["kind"]
                names = {plural, one["singularResource"], *one.get("shortNames", ())}
                names |= {f"{name}.{of_group}" for name in names}
                yield Resource(
                    group=of_group,
                    version=version["version"],
                    plural=plural,
                    kind=kind,
                    namespaced=one["scope"] == "Namespaced",
                    names=frozenset(name.lower() for name in names),
                )


def documents(files: Iterable[Path]) -> Iterator[Object]:
    """Yield the resources in files. Raises CommandFailed."""
    for file in files:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
        for document in _parsed(text, str(file)):
            if document is None:
                continue
            if not isinstance(document, dict):
                raise CommandFailed(f"{file}: a resource is a mapping")
            if document.get("kind") == "List":
                yield from document.get("items", [])
            else:
                yield document


def _parsed(text: str, file: str) -> list[Any]:
    import yaml

    try:
        # Through JSON, which has no dates: to the server they are text.
        return [json.loads(json.dumps(one, default=str)) for one in yaml.safe_load_all(text)]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CommandFailed(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
