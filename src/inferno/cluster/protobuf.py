"""Kubernetes' protobuf, as far as Go clients insist on sending it: their typed clients do.

Only what arrives is read; answers are JSON, which every client takes. A message is described by
its fields' numbers; what is not described is skipped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from inferno.core.errors import InvalidRequest

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
MAX_FIELDS = 100_000


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Args:
        name: in JSON.
        kind: how it is encoded; a message by its fields.
        many: whether it is a list.
    """

    name: str
    kind: Literal["text", "bytes", "int", "bool", "time", "map", "bytes_map"] | Mapping[int, Any]
    many: bool = False


Message = Mapping[int, Field]

OWNER: Message = {
    1: Field("kind", "text"), 3: Field("name", "text"), 4: Field("uid", "text"),
    5: Field("apiVersion", "text"), 6: Field("controller", "bool"),
    7: Field("blockOwnerDeletion", "bool"),
}  # fmt: skip
METADATA: Message = {
    1: Field("name", "text"), 2: Field("generateName", "text"), 3: Field("namespace", "text"),
    5: Field("uid", "text"), 6: Field("resourceVersion", "text"),
    11: Field("labels", "map"), 12: Field("annotations", "map"),
    13: Field("ownerReferences", OWNER, many=True), 14: Field("finalizers", "text", many=True),
}  # fmt: skip
REFERENCE: Message = {
    1: Field("kind", "text"), 2: Field("namespace", "text"), 3: Field("name", "text"),
    4: Field("uid", "text"), 5: Field("apiVersion", "text"), 6: Field("resourceVersion", "text"),
    7: Field("fieldPath", "text"),
}  # fmt: skip
ATTRIBUTES: Message = {
    1: Field("namespace", "text"), 2: Field("verb", "text"), 3: Field("group", "text"),
    4: Field("version", "text"), 5: Field("resource", "text"), 6: Field("subresource", "text"),
    7: Field("name", "text"),
}  # fmt: skip

MESSAGES: dict[tuple[str, str], Message] = {
    ("v1", "Namespace"): {1: Field("metadata", METADATA)},
    ("v1", "Secret"): {
        1: Field("metadata", METADATA), 2: Field("data", "bytes_map"), 3: Field("type", "text"),
        4: Field("stringData", "map"), 5: Field("immutable", "bool"),
    },
    ("v1", "Event"): {
        1: Field("metadata", METADATA), 2: Field("involvedObject", REFERENCE),
        3: Field("reason", "text"), 4: Field("message", "text"),
        5: Field("source", {1: Field("component", "text"), 2: Field("host", "text")}),
        6: Field("firstTimestamp", "time"), 7: Field("lastTimestamp", "time"),
        8: Field("count", "int"), 9: Field("type", "text"), 10: Field("eventTime", "time"),
        11: Field("series", {1: Field("count", "int"), 2: Field("lastObservedTime", "time")}),
        12: Field("action", "text"), 13: Field("related", REFERENCE),
        14: Field("reportingComponent", "text"), 15: Field("reportingInstance", "text"),
    },
    ("autoscaling/v1", "Scale"): {
        1: Field("metadata", METADATA), 2: Field("spec", {1: Field("replicas", "int")}),
    },
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): {
        1: Field("metadata", METADATA),
        2: Field("spec", {1: Field("resourceAttributes", ATTRIBUTES)}),
    },
    ("authentication.k8s.io/v1", "SelfSubjectReview"): {1: Field("metadata", METADATA)},
    ("v1", "DeleteOptions"): {
        1: Field("gracePeriodSeconds", "int"),
        2: Field("preconditions", {1: Field("uid", "text"), 2: Field("resourceVersion", "text")}),
        3: Field("orphanDependents", "bool"), 4: Field("propagationPolicy", "text"),
        5: Field("dryRun", "text", many=True),
    },
}  # fmt: skip
"""What is understood, by apiVersion and kind."""

_ENVELOPE: Message = {
    1: Field("typeMeta", {1: Field("apiVersion", "text"), 2: Field("kind", "text")}),
    2: Field("raw", "bytes"),
    3: Field("contentEncoding", "text"),
}


def decode(data: bytes) -> dict[str, Any]:
    """Return an object as JSON would have it. Raises InvalidRequest."""
    if not data.startswith(MAGIC):
        raise InvalidRequest("The protobuf body does not begin as Kubernetes' do.")
    try:
        envelope = _message(data[len(MAGIC) :], _ENVELOPE)
        about = envelope.get("typeMeta", {})
        key = (about.get("apiVersion", ""), about.get("kind", ""))
        if key[1] == "DeleteOptions":  # of any group
            key = ("v1", "DeleteOptions")
        message = MESSAGES.get(key)
        if message is None:
            raise InvalidRequest(
                f"{key[1][:63] or 'This'} is not understood as protobuf here; send JSON."
            )
        found = _message(envelope.get("raw", b""), message)
    except (IndexError, ValueError, OverflowError):  # UnicodeDecodeError is one
        raise InvalidRequest("The protobuf body is malformed.") from None
    return {**about, **found}


def _message(data: bytes, message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(data):
        field = message.get(number)
        if field is None:
            continue
        if field.kind in ("map", "bytes_map"):
            key, item = _pair(value, in_base64=field.kind == "bytes_map")
            found.setdefault(field.name, {})[key] = item
        elif field.many:
            found.setdefault(field.name, []).append(_value(value, field.kind))
        else:
            found[field.name] = _value(value, field.kind)
    return found


def _value(value: Any, kind: Any) -> Any:
    if isinstance(kind, Mapping):
        return _message(_bytes(value), kind)
    if kind == "text":
        return _bytes(value).decode()
    if kind == "bytes":
        return _bytes(value)
    if kind == "time":
        return _time(_bytes(value))
    if not isinstance(value, int):
        raise ValueError
    if kind == "bool":
        return bool(value)
    return value - (1 << 64) if value >= 1 << 63 else value


def _time(data: bytes) -> str | None:
    parts = dict(_fields(data))
    seconds, nanos = parts.get(1, 0), parts.get(2, 0)
    if not isinstance(seconds, int) or not isinstance(nanos, int):
        raise ValueError
    if seconds == 0 or seconds >= 1 << 40:  # none, or long before the epoch
        return None
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{nanos // 1000:06d}Z" if nanos else f"{moment}Z"


def _pair(value: Any, *, in_base64: bool) -> tuple[str, str]:
    parts = dict(_fields(_bytes(value)))
    item = _bytes(parts.get(2, b""))
    shown = base64.b64encode(item).decode() if in_base64 else item.decode()
    return _bytes(parts.get(1, b"")).decode(), shown


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message: number and value. Raises IndexError, ValueError."""
    position, count = 0, 0
    while position < len(data):
        count += 1
        if count > MAX_FIELDS:
            raise ValueError
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(wire, 0)
        if wire == 2:
            size, position = _varint(data, position)
        elif not size:
            raise ValueError
        if position + size > len(data):
            raise ValueError
        yield number, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError
