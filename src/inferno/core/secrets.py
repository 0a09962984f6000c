"""`Secret`: values that other resources refer to by name, and that nobody reads back.

In the store every value is sealed (`storage.sealing`); what the API shows is that there is one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from inferno.core.kinds import Cause
from inferno.core.resources import Kind, Resource

MAX_BYTES = 1_048_576
"""Of all values of a Secret together, as in Kubernetes."""

SEALED_PREFIX = "sealed:"
"""Begins a value that is encrypted. Base64 has no colon, so no value of a client looks like it."""

HIDDEN = base64.b64encode(b"(hidden)").decode()
"""Stands for a value that is there, where somebody reads a Secret."""

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_SHOWN = 64  # characters of a wrong key that a message repeats

SecretKey = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]


class SecretSpec(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What a Secret holds.

    Args:
        type: what its values are for; `Opaque` says nothing.
        immutable: whether its values stay as they are until it is deleted.
        data: sealed values, or base64 on their way into the store.
    """

    type: Annotated[str, Meta(max_length=253)] = "Opaque"
    immutable: bool = False
    data: dict[SecretKey, str] = {}


class SecretStatus(msgspec.Struct):
    """A Secret has no observed state."""


class Secret(Resource, rename="camel", kw_only=True):
    """Named values that are kept encrypted."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Secret", "secrets")
    spec: SecretSpec = msgspec.field(default_factory=SecretSpec)
    status: SecretStatus = msgspec.field(default_factory=SecretStatus)


def is_sealed(value: str) -> bool:
    """Return whether a value is encrypted."""
    return value.startswith(SEALED_PREFIX)


def decoded(value: str) -> bytes | None:
    """Return what a base64 value says, or None where it is not base64."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def violations(data: Mapping[str, str], string_data: Mapping[str, str]) -> Iterator[Cause]:
    """Find what is wrong with values beyond what their types say."""
    for field, keys in (("data", data), ("stringData", string_data)):
        for key in keys:
            if not _KEY.fullmatch(key):
                words = "a key is 1 to 253 letters, digits, '-', '_' or '.'"
                yield Cause(field, f'Invalid value: "{key[:_SHOWN]}": {words}')
    total = 0
    for key, value in data.items():
        plain = decoded(value)
        if plain is None:
            yield Cause(f"data[{key}]", "Invalid value: must be base64; use stringData for text")
        else:
            total += len(plain)
    total += sum(len(value.encode("utf-8", "surrogatepass")) for value in string_data.values())
    if total > MAX_BYTES:
        message = f"Too long: may not be more than {MAX_BYTES} bytes"
        yield Cause("data", message, "FieldValueTooLong")
