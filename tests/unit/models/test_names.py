from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.core.errors import InvalidRequest
from inferno.models.names import MAX_LENGTH, hashed_name, require_name, safe_name

DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Llama-2-7B.Q4_K_M.gguf", "llama-2-7b.q4-k-m"),
        ("TheBloke/Llama-2-7B-GGUF", "thebloke-llama-2-7b-gguf"),
        ("model.GGUF", "model"),
        ("a.gguf.gguf", "a"),
        ("../../etc/passwd", "etc-passwd"),
        ("/absolute", "absolute"),
        ("C:\\Windows\\x", "c-windows-x"),
        ("a\0b", "a-b"),
        ("ＬＬａｍａ", "llama"),
        ("café", "cafe"),
        ("CON", "model-con"),
        ("aux.q4.gguf", "model-aux.q4"),
        ("com¹", "model-com1"),
        ("com10", "com10"),
        ("-_.a._-", "a"),
        ("line\nbreak", "line-break"),
    ],
)
def test_names_are_made_safe(text: str, name: str) -> None:
    assert safe_name(text) == name


@pytest.mark.parametrize("text", ["", "..", ".gguf", "///", "\0", "日本", "gguf", "___"])
def test_nothing_left_is_an_error(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        safe_name(text)
    assert caught.value.field == "name"


def test_long_names_stay_different() -> None:
    first, second = safe_name("x" * 300 + "a"), safe_name("x" * 300 + "b")
    assert len(first) == MAX_LENGTH
    assert first != second


@given(st.text(max_size=400) | st.text("aB.-_/ gu\\f", max_size=400))
def test_every_name_is_safe_and_stable(text: str) -> None:
    try:
        name = safe_name(text)
    except InvalidRequest:
        return
    assert DNS_1123.fullmatch(name)
    assert len(name) <= MAX_LENGTH
    assert safe_name(name) == name
    assert safe_name(f"{name}.gguf") == name
    assert require_name(name) == name
    assert require_name(hashed_name(name, text)) != name


@pytest.mark.parametrize(
    "text", ["", "..", "a/b", "A", "a\n", " a", "a..b", "a.gguf", "nul", "a" * 201, "\ud800"]
)
def test_wrong_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        require_name(text, field="model")
    assert caught.value.field == "model"
    caught.value.message.encode()  # can be sent


def test_the_refusal_says_what_is_right() -> None:
    with pytest.raises(InvalidRequest, match=r"Did you mean 'llama-2-7b\.q4'\?"):
        require_name("Llama-2-7B.Q4.gguf")
