"""Parts of tokens: each value has one spelling."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferno.identity.compact import TokenRefused, decode_segment
from tests.unit.identity import forge


@given(st.binary(max_size=100))
def test_base64url_is_read_back(data: bytes) -> None:
    text = forge.segment(data)
    assert decode_segment(text.encode()) == data


@given(st.text(alphabet=forge.ALPHABET + "+/=\n\xe9", max_size=12).map(str.encode))
def test_base64url_has_one_spelling(text: bytes) -> None:
    try:
        data = decode_segment(text)
    except TokenRefused:
        return
    assert forge.segment(data).encode() == text
