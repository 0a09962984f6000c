"""`Secret` as v1 shows it: values go in, and only their keys come out."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from inferno.core.kinds import Cause, Column, InvalidResource, KindDefinition, ServedVersion
from inferno.core.resources import ObjectMeta
from inferno.core.secrets import HIDDEN, Secret, SecretSpec, violations

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation in which `kubectl apply` keeps the manifest that it applied last, values and all."""


class SecretV1(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Named values that are kept encrypted and are not shown.

    Args:
        data: values in base64; `KGhpZGRlbik=` stands for one that stays as it is.
        string_data: values as they are, which win over those of `data`; never shown.
        type: what the values are for.
        immutable: whether the values stay as they are until the Secret is deleted.
    """

    data: dict[str, str] = {}
    string_data: dict[str, str] = {}
    type: Annotated[str, Meta(max_length=253)] = "Opaque"
    immutable: bool = False


def from_v1(shape: SecretV1, metadata: ObjectMeta, current: Secret | None) -> Secret:
    """Return the Secret to store; the store seals its values.

    Raises:
        InvalidResource: it keeps a value that is not there, or changes what may not change.
    """
    known = current.spec.data if current else {}
    given = {
        key: base64.b64encode(text.encode()).decode() for key, text in shape.string_data.items()
    }
    data, causes = {}, []
    for key, value in {**shape.data, **given}.items():
        if value != HIDDEN:
            data[key] = value
        elif key in known:
            data[key] = known[key]
        else:
            message = f"Invalid value: '{HIDDEN}' is what a hidden value looks like; give the value"
            causes.append(Cause(f"data[{key}]", message))
    spec = SecretSpec(type=shape.type, immutable=shape.immutable, data=data)
    causes += _changes(spec, current)
    if causes:
        raise InvalidResource(causes)
    return Secret(metadata=_without_copy(metadata), spec=spec)


def to_v1(secret: Secret) -> SecretV1:
    """Return what may be seen of a Secret."""
    spec = secret.spec
    hidden = dict.fromkeys(sorted(spec.data), HIDDEN)
    return SecretV1(data=hidden, type=spec.type, immutable=spec.immutable)


def _without_copy(metadata: ObjectMeta) -> ObjectMeta:
    """Hide the values in the copy of the manifest that `kubectl apply` puts into an annotation.

    It compares that copy with the next manifest to see what was removed; keys are enough for that.
    """
    annotations = dict(metadata.annotations)
    copy = annotations.pop(LAST_APPLIED, None)
    if copy is None:
        return metadata
    try:
        manifest = msgspec.json.decode(copy, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        manifest = {}
    for field in ("data", "stringData"):
        values = manifest.get(field)
        if isinstance(values, dict):
            manifest[field] = dict.fromkeys(values, HIDDEN)
        else:
            manifest.pop(field, None)
    annotations[LAST_APPLIED] = msgspec.json.encode(manifest).decode()
    return msgspec.structs.replace(metadata, annotations=annotations)


def _changes(spec: SecretSpec, current: Secret | None) -> Iterable[Cause]:
    """Find changes of what stays as it is."""
    if current is None:
        return
    if spec.type != current.spec.type:
        yield Cause("type", "Invalid value: field is immutable", "FieldValueForbidden")
    if not current.spec.immutable:
        return
    if spec.data != current.spec.data:
        message = "Forbidden: field is immutable when `immutable` is set"
        yield Cause("data", message, "FieldValueForbidden")
    if not spec.immutable:
        message = "Forbidden: field is immutable when `immutable` is set"
        yield Cause("immutable", message, "FieldValueForbidden")


def _violations(shape: SecretV1) -> Iterable[Cause]:
    return violations(shape.data, shape.string_data)


COLUMNS = (
    Column(name="Type", value=lambda secret: secret.spec.type, description="What it is for."),
    Column(
        name="Data",
        value=lambda secret: len(secret.spec.data),
        type="integer",
        description="How many values it holds.",
    ),
)

SECRETS = KindDefinition(
    stored=Secret,
    group="",
    kind="Secret",
    plural="secrets",
    versions=(
        ServedVersion(
            name="v1",
            shape=SecretV1,
            to_stored=from_v1,
            from_stored=to_v1,
            validate=_violations,
            columns=COLUMNS,
        ),
    ),
    status=False,
)
"""Values that other resources refer to."""
