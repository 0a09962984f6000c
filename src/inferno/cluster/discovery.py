"""Discovery: which groups, versions and kinds there are, in all forms that clients want."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from inferno.cluster.catalog import Catalog, Served
from inferno.core.kinds import KindDefinition

Document = dict[str, Any]

REVIEWS: tuple[tuple[str, str, str], ...] = (
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
)
"""What is only ever created, to be answered: group, plural, kind. All are of version `v1`."""


def core_versions(address: str) -> Document:
    """Return `/api`."""
    serving = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": serving}


def group_list(catalog: Catalog) -> Document:
    """Return `/apis`."""
    groups = [group(name, versions) for name, versions in _groups(catalog).items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(name: str, versions: list[str]) -> Document:
    """Return `/apis/GROUP`."""
    listed = [{"groupVersion": f"{name}/{one}", "version": one} for one in versions]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": name,
        "versions": listed,
        "preferredVersion": listed[0],
    }


def find_group(catalog: Catalog, name: str) -> Document | None:
    """Return `/apis/GROUP`, or None."""
    versions = _groups(catalog).get(name)
    return group(name, versions) if versions and name else None


def resource_list(catalog: Catalog, name: str, version: str) -> Document | None:
    """Return `/apis/GROUP/VERSION`, or None."""
    if version not in _groups(catalog).get(name, []):
        return None
    resources: list[Document] = []
    for served in catalog.of(name, version):
        resources += [_entry(served), *_subresources(served)]
    resources += [_review_entry(plural, kind) for plural, kind in _reviews(name, version)]
    group_version = f"{name}/{version}" if name else version
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }


def _groups(catalog: Catalog) -> dict[str, list[str]]:
    groups = catalog.groups()
    for name, _, _ in REVIEWS:
        groups.setdefault(name, ["v1"])
    return groups


def _reviews(name: str, version: str) -> list[tuple[str, str]]:
    return [(plural, kind) for of, plural, kind in REVIEWS if (of, "v1") == (name, version)]


def _entry(served: Served) -> Document:
    definition = served.definition
    entry: Document = {
        "name": definition.plural,
        "singularName": definition.singular,
        "namespaced": definition.namespaced,
        "kind": definition.kind,
        "verbs": sorted(definition.verbs),
        "storageVersionHash": _hash(definition),
    }
    if definition.short_names:
        entry["shortNames"] = list(definition.short_names)
    if definition.categories:
        entry["categories"] = list(definition.categories)
    return entry


def _review_entry(plural: str, kind: str) -> Document:
    return {
        "name": plural,
        "singularName": kind.lower(),
        "namespaced": False,
        "kind": kind,
        "verbs": ["create"],
    }


def subresources_of(served: Served) -> dict[str, tuple[str, str, str, list[str]]]:
    """Return the subresources of a kind: group, version and kind of each, and its verbs."""
    definition = served.definition
    writing = ["get", "patch", "update"]
    own = (definition.group, served.version.name, definition.kind)
    found: dict[str, tuple[str, str, str, list[str]]] = {}
    if definition.status:
        found["status"] = (*own, writing)
    if definition.scale is not None:
        found["scale"] = ("autoscaling", "v1", "Scale", ["get", "patch", "update"])
    if (definition.group, definition.plural) == ("", "pods"):
        found["log"] = (*own, ["get"])
    return found


def _subresources(served: Served) -> list[Document]:
    result = []
    definition = served.definition
    for name, (of_group, of_version, kind, verbs) in subresources_of(served).items():
        entry: Document = {
            "name": f"{definition.plural}/{name}",
            "singularName": "",
            "namespaced": definition.namespaced,
            "kind": kind,
            "verbs": verbs,
        }
        if of_group != definition.group:
            entry |= {"group": of_group, "version": of_version}
        result.append(entry)
    return result


def aggregated(catalog: Catalog, version: str, *, core: bool) -> Document:
    """Return all groups with all that is in them, in one document.

    Args:
        catalog: what is served.
        version: `v2` or `v2beta1`, which are alike.
        core: the core group, which `/api` has; else all others, which `/apis` has.
    """
    items = []
    for name, versions in _groups(catalog).items():
        if (name == "") is not core:
            continue
        listed = [
            {
                "version": one,
                "resources": [
                    *(_aggregated_entry(served) for served in catalog.of(name, one)),
                    *(_aggregated_review(name, *found) for found in _reviews(name, one)),
                ],
                "freshness": "Current",
            }
            for one in versions
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": listed})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_entry(served: Served) -> Document:
    definition = served.definition
    entry: Document = {
        "resource": definition.plural,
        "responseKind": _kind(definition.group, served.version.name, definition.kind),
        "scope": "Namespaced" if definition.namespaced else "Cluster",
        "singularResource": definition.singular,
        "verbs": sorted(definition.verbs),
    }
    if definition.short_names:
        entry["shortNames"] = list(definition.short_names)
    if definition.categories:
        entry["categories"] = list(definition.categories)
    below = [
        {"subresource": name, "responseKind": _kind(of_group, of_version, kind), "verbs": verbs}
        for name, (of_group, of_version, kind, verbs) in subresources_of(served).items()
    ]
    return entry | ({"subresources": below} if below else {})


def _aggregated_review(name: str, plural: str, kind: str) -> Document:
    return {
        "resource": plural,
        "responseKind": _kind(name, "v1", kind),
        "scope": "Cluster",
        "singularResource": kind.lower(),
        "verbs": ["create"],
    }


def _kind(of_group: str, version: str, kind: str) -> Document:
    return {"group": of_group, "version": version, "kind": kind}


def _hash(definition: KindDefinition) -> str:
    digest = hashlib.sha256(json.dumps([definition.group, definition.kind]).encode()).hexdigest()
    return digest[:12]
