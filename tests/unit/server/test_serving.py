from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from inferno.server.serving import prompt_in

TEXTS = st.text() | st.sampled_from(['"messages":', '{"prompt":"x"}', '\\"messages\\":'])


@given(TEXTS, TEXTS)
def test_the_prompt_of_a_chat_is_found_whatever_its_texts_look_like(name: str, text: str) -> None:
    messages = [{"role": "user", "content": text}]
    body = msgspec.json.encode({"model": name, "messages": messages, "max_tokens": 5})
    assert prompt_in(body).startswith(b'"messages":' + msgspec.json.encode(messages))


@given(TEXTS, TEXTS)
def test_the_prompt_of_a_completion_is_found(name: str, text: str) -> None:
    body = msgspec.json.encode({"model": name, "prompt": text, "max_tokens": 5})
    assert prompt_in(body).startswith(b'"prompt":' + msgspec.json.encode(text))


def test_what_has_no_prompt_is_taken_whole() -> None:
    assert prompt_in(b'{"input":"x"}') == b'{"input":"x"}'
    assert prompt_in(b"") == b""
