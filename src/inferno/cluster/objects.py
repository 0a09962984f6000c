"""Objects as they go over the wire, and the resources that are stored: one made from the other."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from inferno.cluster.catalog import Served
from inferno.cluster.validation import MAX_CAUSES, causes, pruned, with_defaults, without_nulls
from inferno.core.errors import InvalidRequest
from inferno.core.kinds import Cause, InvalidResource
from inferno.core.resources import DEFAULT_NAMESPACE, ObjectMeta, Resource

Object = dict[str, Any]
"""A resource as JSON has it."""

MAX_ANNOTATIONS = 256 * 1024  # bytes, as in Kubernetes
MAX_HOLDERS = 100
"""Finalizers, and owners, of one resource: each is looked for when something goes."""

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes' own: no vowels, so that no words arise
_SUFFIX_LENGTH = 5
_MAX_NAME = 253
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_NAME_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character"
)
_KEY_WORDS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character"
)
_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character"
)


def encode(served: Served, resource: Resource) -> Object:
    """Return a resource as its version shows it."""
    shown = msgspec.to_builtins(served.version.from_stored(resource))
    shown.pop("metadata", None)
    if "spec" in shown:
        shown["spec"] = with_defaults(shown["spec"], served.schema["properties"]["spec"])
    return {
        "apiVersion": served.group_version,
        "kind": served.kind,
        "metadata": encode_metadata(served, resource.metadata),
        **{name: value for name, value in shown.items() if value is not None},
    }


def encode_metadata(served: Served, metadata: ObjectMeta) -> Object:
    """Return the metadata of a resource as clients see it."""
    shown: Object = msgspec.to_builtins(metadata)
    # The default is left out by its type; a client takes what is absent for cluster-wide.
    shown.pop("namespace", None)
    if served.definition.namespaced:
        shown["namespace"] = metadata.namespace
    return shown


def decode(
    served: Served, given: Object, *, current: Resource | None, unknown: list[str]
) -> Resource:
    """Return the resource that an object describes.

    Args:
        served: the object's kind and version.
        given: the object, with its namespace and name.
        current: what is stored now; None for a new one.
        unknown: gets the paths of fields that are not known, which are left out.

    Raises:
        InvalidResource: it breaks rules of its kind; names all of them.
    """
    given = without_nulls(given, served.schema)
    given = pruned(given, served.schema, "", unknown)
    wrong = [*_about_metadata(given["metadata"]), *causes(given, served.schema)]
    refuse(wrong)
    metadata = _metadata(given["metadata"], served)
    body = {name: given[name] for name in served.fields if name in given}
    shape, to_stored = served.version.shape, served.version.to_stored
    if served.is_plain:
        made = _convert({"metadata": msgspec.to_builtins(metadata), **body}, shape)
    else:
        made = _convert(body, shape)
    refuse(served.version.validate(made))
    if to_stored is not None:
        stored: Resource = to_stored(made, metadata, current)
        return stored
    assert isinstance(made, Resource)  # noqa: S101 - the shape of a plain kind is what is stored
    made.metadata = metadata
    return made


def refuse(wrong: Any) -> None:
    """Raise InvalidResource where anything is wrong."""
    found = list(wrong)[:MAX_CAUSES]
    if found:
        raise InvalidResource(found)


def _convert(body: Object, shape: type[msgspec.Struct]) -> msgspec.Struct:
    try:
        return msgspec.convert(body, shape)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at ")
        where = path.strip("`").removeprefix("$").removeprefix(".")
        raise InvalidResource([Cause(where, f"Invalid value: {reason}")]) from None


def _metadata(given: Mapping[str, Any], served: Served) -> ObjectMeta:
    # Clients in Go say null for a timestamp that they have not: kubectl did until 1.31.
    fields = {
        name: value for name, value in given.items() if name != "selfLink" and value is not None
    }
    if not served.definition.namespaced:
        fields["namespace"] = DEFAULT_NAMESPACE
    owners = [{"controller": False, **owner} for owner in given.get("ownerReferences", ())]
    return msgspec.convert({**fields, "ownerReferences": owners}, ObjectMeta)


def _about_metadata(metadata: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield what is wrong with the metadata beyond its types."""
    name = metadata.get("name")
    if not name:
        yield Cause("metadata.name", "Required value: name or generateName is required",
                    "FieldValueRequired")  # fmt: skip
    elif isinstance(name, str) and (len(name) > _MAX_NAME or not _NAME.fullmatch(name)):
        yield Cause("metadata.name", f'Invalid value: "{name[:_MAX_NAME]}": {_NAME_WORDS}')
    yield from _about_labels(metadata.get("labels"))
    for field in ("finalizers", "ownerReferences"):
        items = metadata.get(field)
        count = len(items) if isinstance(items, list) else 0
        if count > MAX_HOLDERS:
            message = f"Too many: {count}: must have at most {MAX_HOLDERS} items"
            yield Cause(f"metadata.{field}", message, "FieldValueTooMany")
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict):
        yield from _about_annotations(annotations)


def _about_labels(labels: Any) -> Iterator[Cause]:
    for key, value in labels.items() if isinstance(labels, dict) else ():
        if not _LABEL_KEY.fullmatch(key):
            yield Cause("metadata.labels", f'Invalid value: "{key[:320]}": {_KEY_WORDS}')
        if isinstance(value, str) and not _LABEL_VALUE.fullmatch(value):
            yield Cause("metadata.labels", f'Invalid value: "{value[:320]}": {_VALUE_WORDS}')


def _about_annotations(annotations: Mapping[str, Any]) -> Iterator[Cause]:
    size = 0
    for key, value in annotations.items():
        if not _LABEL_KEY.fullmatch(key.lower()):
            yield Cause("metadata.annotations", f'Invalid value: "{key[:320]}": {_KEY_WORDS}')
        size += len(key.encode()) + len(str(value).encode("utf-8", "replace"))
    if size > MAX_ANNOTATIONS:
        message = f"Too long: may not be more than {MAX_ANNOTATIONS} bytes"
        yield Cause("metadata.annotations", message, "FieldValueTooLong")


def addressed(given: Any, served: Served, *, namespace: str | None, name: str | None) -> Object:
    """Return an object that was sent, under the name and the namespace that its URL has.

    Raises:
        InvalidRequest: it is no object of this kind, or it is another one than the URL's.
    """
    if not isinstance(given, dict):
        raise InvalidRequest("The body has to be a JSON object.")
    _check_type(given, served)
    metadata = given.get("metadata")
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict):
        raise InvalidRequest('"metadata" has to be an object.')
    metadata = dict(metadata)
    if namespace is not None:
        if metadata.get("namespace") not in (None, "", namespace):
            raise InvalidRequest(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )
        metadata["namespace"] = namespace
    if name is not None:
        if metadata.get("name") not in (None, "", name):
            raise InvalidRequest(
                f"the name of the object ({metadata['name']}) does not match the name on the URL "
                f"({name})"
            )
        metadata["name"] = name
    elif not metadata.get("name") and isinstance(metadata.get("generateName"), str):
        prefix = metadata["generateName"]
        if prefix:
            metadata["name"] = prefix[: _MAX_NAME - _SUFFIX_LENGTH] + _suffix()
    return {**given, "metadata": metadata}


def _check_type(given: Object, served: Served) -> None:
    api_version, kind = given.get("apiVersion"), given.get("kind")
    if api_version not in (None, "", served.group_version) or kind not in (None, "", served.kind):
        raise InvalidRequest(
            f"the object provided is unrecognized (must be of type {served.kind}): its apiVersion "
            f"is {str(api_version)[:100]!r} and its kind {str(kind)[:100]!r}, where "
            f"{served.group_version!r} and {served.kind!r} belong"
        )


def _suffix() -> str:
    return "".join(secrets.choice(_SUFFIX) for _ in range(_SUFFIX_LENGTH))
