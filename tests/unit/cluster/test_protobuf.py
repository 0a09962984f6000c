"""What Go clients send in Kubernetes' protobuf."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.cluster import protobuf
from inferno.core.errors import InvalidRequest


def field(number: int, value: bytes | str | int) -> bytes:
    """Encode a field, independently of what is tested."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    about = field(1, api_version) + field(2, kind)
    return b"k8s\x00" + field(1, about) + field(2, raw) + field(3, "") + field(4, "")


def test_a_secret() -> None:
    metadata = field(1, "name") + field(11, field(1, "a") + field(2, "b")) + field(14, "f")
    raw = (
        field(1, metadata)
        + field(2, field(1, "key") + field(2, b"\x00\xff"))
        + field(3, "Opaque")
        + field(5, 1)
    )
    assert protobuf.decode(envelope("v1", "Secret", raw)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "name", "labels": {"a": "b"}, "finalizers": ["f"]},
        "data": {"key": "AP8="},
        "type": "Opaque",
        "immutable": True,
    }


def test_times_and_negative_numbers() -> None:
    event = field(1, field(1, "e")) + field(6, field(1, 86400)) + field(8, (1 << 64) - 1)
    event += field(10, field(1, 86400) + field(2, 5000)) + field(7, b"")
    found = protobuf.decode(envelope("v1", "Event", event))
    assert found["firstTimestamp"] == "1970-01-02T00:00:00Z"
    assert found["eventTime"] == "1970-01-02T00:00:00.000005Z"
    assert found["lastTimestamp"] is None
    assert found["count"] == -1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"k8s\x00\xff",
        b"k8s\x00" + b"\xff" * 20,
        envelope("v1", "Pod", b""),
        envelope("v1", "Secret", b"\x0a\x7f"),
        envelope("v1", "Secret", field(1, 5)),
        envelope("v1", "Secret", field(3, b"\xff")),
        envelope("v1", "Secret", field(5, "text")),
    ],
)
def test_what_cannot_be_read(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        protobuf.decode(data)


@given(st.binary(max_size=200), st.sampled_from(["Secret", "Event", "Namespace", "DeleteOptions"]))
def test_nothing_else_is_ever_raised(raw: bytes, kind: str) -> None:
    for data in (raw, b"k8s\x00" + raw, envelope("v1", kind, raw)):
        try:
            assert isinstance(protobuf.decode(data), dict)
        except InvalidRequest:
            continue
