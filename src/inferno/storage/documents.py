"""Resources as stored documents: encoding, decoding and what a document may hold. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from inferno.core.errors import InfernoError, InvalidRequest
from inferno.core.resources import Kind, ObjectMeta, Resource

R = TypeVar("R", bound=Resource)

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def kind_key(kind: type[Resource]) -> str:
    """Return `group/plural`, which is how rows name a kind; the API version is not part of it."""
    return f"{kind.KIND.group}/{kind.KIND.plural}"


def timestamp() -> str:
    """Return the present as RFC 3339 in UTC, to the second as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def valid_name(name: object) -> bool:
    """Say whether `name` is a DNS-1123 subdomain of at most 253 characters."""
    return isinstance(name, str) and len(name) <= 253 and _NAME.fullmatch(name) is not None


def valid_namespace(namespace: object) -> bool:
    """Say whether `namespace` is a DNS-1123 label of at most 63 characters."""
    return (
        isinstance(namespace, str)
        and len(namespace) <= 63
        and _NAMESPACE.fullmatch(namespace) is not None
    )


def check_identity(metadata: ObjectMeta) -> None:
    """Raise InvalidRequest when the name or the namespace cannot be one."""
    if not valid_name(metadata.name):
        raise InvalidRequest(
            "The name must be 1 to 253 lower-case letters, digits, '-' or '.', and start and end "
            "with a letter or digit.",
            field="metadata.name",
        )
    if not valid_namespace(metadata.namespace):
        raise InvalidRequest(
            "The namespace must be 1 to 63 lower-case letters, digits or '-', and start and end "
            "with a letter or digit.",
            field="metadata.namespace",
        )


class Document(Resource, rename="camel", kw_only=True):
    """A resource of any kind whose spec and status stay as they are stored."""

    KIND = Kind("", "", "Resource", "")
    spec: msgspec.Raw
    status: msgspec.Raw


def checked(resource: R) -> R:
    """Return a deep copy of a resource that is sure to be readable once it is stored.

    Raises:
        InvalidRequest: a value is of the wrong type, or a string holds a NUL character or half a
            surrogate pair, which no JSON reader and no database takes without trouble.
    """
    check_identity(resource.metadata)
    try:
        data = msgspec.json.encode(resource)
        # A struct does not check its fields when it is made, and a document that cannot be read
        # back would break every list of its kind.
        copy = msgspec.json.decode(data, type=type(resource))
    except UnicodeEncodeError:
        raise _unstorable(resource) from None
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at ")
        raise InvalidRequest(f"{reason}.", field=_field(path)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"The resource cannot be written as JSON: {error}") from None
    if b"\\u0000" in data and any(True for _ in _unstorable_paths(msgspec.to_builtins(copy))):
        raise _unstorable(resource)
    return copy


def encode(resource: Resource) -> str:
    """Return the document of a resource that has been `checked`."""
    return msgspec.json.encode(resource).decode()


def decode(document: str, kind: type[R]) -> R:
    """Return a fresh resource from its document.

    Raises:
        InfernoError: the document is not of this kind: another version of the platform wrote it.
    """
    try:
        return msgspec.json.decode(document, type=kind)
    except msgspec.DecodeError as error:
        raise InfernoError(
            f"A stored {kind.KIND.kind} cannot be read by this version: {error}"
        ) from error


def _unstorable(resource: Resource) -> InvalidRequest:
    path = next(_unstorable_paths(msgspec.to_builtins(resource)), "")
    return InvalidRequest(
        "Text must not hold NUL characters or unpaired surrogates.", field=path or None
    )


def _unstorable_paths(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            below = f"{path}.{key}" if path else str(key)
            if isinstance(key, str) and _UNSTORABLE.search(key):
                yield path  # the key itself is what cannot be shown
            yield from _unstorable_paths(item, below)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable_paths(item, f"{path}[{index}]")


def _field(path: str) -> str | None:
    return path.strip("`").removeprefix("$").removeprefix(".") or None
