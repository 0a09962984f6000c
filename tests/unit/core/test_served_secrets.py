"""Secrets: values go in, keys come out."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from inferno.core.kinds import InvalidResource
from inferno.core.resources import ObjectMeta
from inferno.core.secrets import HIDDEN, Secret, SecretSpec, violations
from inferno.core.served import secrets as served
from inferno.core.served.secrets import LAST_APPLIED, SecretV1

META = ObjectMeta(name="keys")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def stored(**data: str) -> Secret:
    return Secret(metadata=META, spec=SecretSpec(data=data))


def write(document: dict[str, Any], current: Secret | None = None) -> Secret:
    return served.from_v1(msgspec.convert(document, SecretV1), META, current)


def test_text_wins_over_base64() -> None:
    found = write({"data": {"a": encoded("x"), "b": encoded("y")}, "stringData": {"a": "z"}})
    assert found.spec.data == {"a": encoded("z"), "b": encoded("y")}
    assert found.spec.type == "Opaque"


def test_readers_see_keys() -> None:
    shown = msgspec.to_builtins(served.to_v1(stored(b="sealed:1", a="sealed:2")))
    assert shown == {"data": {"a": HIDDEN, "b": HIDDEN}}


def test_what_was_read_can_be_written_back() -> None:
    current = stored(a="sealed:1", b="sealed:2")
    shown = msgspec.to_builtins(served.to_v1(current))
    assert write(shown, current).spec == current.spec
    del shown["data"]["a"]
    assert write(shown, current).spec.data == {"b": "sealed:2"}


def test_a_hidden_value_cannot_be_copied() -> None:
    with pytest.raises(InvalidResource) as error:
        write({"data": {"a": HIDDEN, "b": encoded("x")}})
    assert [cause.field for cause in error.value.causes] == ["data[a]"]


def test_values_are_base64_and_not_too_large() -> None:
    assert [cause.field for cause in violations({"a": "sealed:1", "b": "?"}, {})] == [
        "data[a]",
        "data[b]",
    ]
    large = {"a": encoded("x" * 600_000)}
    assert list(violations(large, {})) == []
    assert [cause.reason for cause in violations(large, {"b": "x" * 600_000})] == [
        "FieldValueTooLong"
    ]
    wrong = violations({"a/b": ""}, {"": "", "k" * 254: "", "a\n": "", "fine": ""})
    assert [cause.field for cause in wrong] == ["data", "stringData", "stringData", "stringData"]


def test_the_type_stays_and_immutable_values_stay() -> None:
    current = stored(a="sealed:1")
    with pytest.raises(InvalidResource, match="type"):
        write({"data": {"a": HIDDEN}, "type": "other"}, current)
    current.spec.immutable = True
    for change in ({"data": {"a": encoded("x")}, "immutable": True}, {"data": {"a": HIDDEN}}):
        with pytest.raises(InvalidResource, match="immutable"):
            write(change, current)
    assert write({"data": {"a": HIDDEN}, "immutable": True}, current).spec == current.spec


@pytest.mark.parametrize("field", ["data", "stringData"])
def test_the_copy_of_kubectl_loses_its_values(field: str) -> None:
    manifest = {"kind": "Secret", field: {"a": "visible"}}
    metadata = ObjectMeta(
        name="keys", annotations={LAST_APPLIED: msgspec.json.encode(manifest).decode(), "x": "y"}
    )
    found = served.from_v1(SecretV1(), metadata, None).metadata.annotations
    assert msgspec.json.decode(found[LAST_APPLIED]) == {"kind": "Secret", field: {"a": HIDDEN}}
    assert found["x"] == "y"


@pytest.mark.parametrize("copy", ["visible", '["visible"]', '{"data": "visible"}', "[" * 5000])
def test_a_copy_that_cannot_be_read_is_not_kept(copy: str) -> None:
    metadata = ObjectMeta(name="keys", annotations={LAST_APPLIED: copy})
    found = served.from_v1(SecretV1(), metadata, None).metadata.annotations
    assert found == {LAST_APPLIED: "{}"}
