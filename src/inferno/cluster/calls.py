"""What a request asks for: its path, its options, the type of its answer. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

from inferno.core.errors import InvalidRequest

PREFIX = "/k8s"
MAX_TIMEOUT = 3600
_AS = re.compile(r"(?:^|;)\s*as=([A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class Place:
    """What a path names: a collection, one resource, or a subresource of it."""

    group: str
    version: str
    plural: str
    namespace: str | None = None
    name: str | None = None
    subresource: str = ""


def place_of(path: str) -> Place | None:
    """Return what a path below the prefix names, or None for what is no resource.

    `/api/v1/…` is the core group, `/apis/GROUP/VERSION/…` every other one.
    """
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2 and (group or rest[2] not in _OF_NAMESPACES):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3 or not all(rest):
        return None
    rest += [""] * (3 - len(rest))
    return Place(group, version, rest[0], namespace, rest[1] or None, rest[2])


_OF_NAMESPACES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class Options:
    """The query of a request."""

    values: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, query: bytes) -> Options:
        """Parse a query. Raises InvalidRequest."""
        try:
            pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=64)
        except ValueError:
            raise InvalidRequest("The query has too many parameters.") from None
        return cls(dict(pairs))

    def text(self, name: str) -> str:
        """Return a parameter; empty where it is absent."""
        return self.values.get(name, "")

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a switch. Raises InvalidRequest."""
        value = self.values.get(name)
        if value is None:
            return default
        if value.lower() in ("true", "1", ""):
            return True
        if value.lower() in ("false", "0"):
            return False
        raise InvalidRequest(f"{name} has to be true or false, not '{value[:50]}'.")

    def number(self, name: str) -> int | None:
        """Return a number that is not negative; None where it is absent. Raises InvalidRequest."""
        value = self.values.get(name, "")
        if not value:
            return None
        if not value.isascii() or not value.isdigit() or len(value) > 18:
            raise InvalidRequest(f"{name} has to be a number, not '{value[:50]}'.")
        return int(value)

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be kept. Raises InvalidRequest."""
        value = self.text("dryRun")
        if value not in ("", "All"):
            raise InvalidRequest(f"dryRun: Unsupported value: '{value[:50]}': supported: 'All'.")
        return value == "All"

    @property
    def validation(self) -> Literal["Strict", "Warn", "Ignore"]:
        """What becomes of unknown fields. Raises InvalidRequest."""
        value = self.text("fieldValidation") or "Warn"
        if value not in ("Strict", "Warn", "Ignore"):
            raise InvalidRequest(
                f"fieldValidation: Unsupported value: '{value[:50]}': supported values: 'Ignore', "
                "'Warn', 'Strict'."
            )
        return value  # type: ignore[return-value]  # one of them


@dataclass(frozen=True, slots=True)
class Wanted:
    """In what form an answer is wanted.

    Args:
        form: the object itself, a table, or its metadata alone.
        content_type: to send it as.
    """

    form: Literal["object", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"]
    content_type: str = "application/json"


def wanted_form(accept: str) -> Wanted:
    """Return the first form that a client names and that is known here."""
    for part in accept.split(","):
        kind, _, parameters = part.strip().partition(";")
        if kind not in ("application/json", "*/*", "application/*", ""):
            continue
        found = _AS.search(parameters)
        if found is None or kind != "application/json":
            return Wanted("object")
        if "g=meta.k8s.io" in parameters and "v=v1" in parameters.replace("v=v1beta1", ""):
            form = found[1]
            if form in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
                return Wanted(form)  # type: ignore[arg-type]  # one of them
    return Wanted("object")


def discovery_version(accept: str) -> str | None:
    """Return the version of aggregated discovery that a client asks for, the first it names."""
    for part in accept.split(","):
        if "g=apidiscovery.k8s.io" in part and "as=APIGroupDiscoveryList" in part:
            found = re.search(r"v=(v2beta1|v2)(?:;|$)", part.strip())
            if found:
                return found[1]
    return None
