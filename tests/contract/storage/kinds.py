"""Resource kinds for the store's tests: one that owns, one that is owned."""

from typing import Any, ClassVar

import msgspec

from inferno.core.resources import Kind, ObjectMeta, OwnerReference, Resource


class WidgetSpec(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    size: int = 0
    ratio: float = 0.0
    free_text: str = ""
    extra: dict[str, Any] = {}


class WidgetStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    seen: int = 0
    note: str = ""


class Widget(Resource, rename="camel", kw_only=True):
    KIND: ClassVar[Kind] = Kind("test.inferno.dev", "v1", "Widget", "widgets")
    spec: WidgetSpec = msgspec.field(default_factory=WidgetSpec)
    status: WidgetStatus = msgspec.field(default_factory=WidgetStatus)


class Part(Resource, rename="camel", kw_only=True):
    KIND: ClassVar[Kind] = Kind("", "v1", "Part", "parts")
    spec: WidgetSpec = msgspec.field(default_factory=WidgetSpec)
    status: WidgetStatus = msgspec.field(default_factory=WidgetStatus)


def widget(name: str, *, size: int = 0, **metadata: Any) -> Widget:
    return Widget(metadata=ObjectMeta(name=name, **metadata), spec=WidgetSpec(size=size))


def part(name: str, *owners: Resource, **metadata: Any) -> Part:
    references = [
        OwnerReference(
            api_version=owner.KIND.api_version,
            kind=owner.KIND.kind,
            name=owner.metadata.name,
            uid=owner.metadata.uid,
        )
        for owner in owners
    ]
    return Part(metadata=ObjectMeta(name=name, owner_references=references, **metadata))
