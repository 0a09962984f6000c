"""Messages in and out, as text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.core.errors import InferenceFailed, InvalidRequest, Overloaded, RateLimitExceeded
from inferno.server.inference import Ending
from inferno.server.types import Usage
from inferno.server.websocket_messages import (
    MAX_SHOWN,
    Auth,
    Cancel,
    Inference,
    Malformed,
    Ping,
    Pong,
    complete,
    decode,
    error_text,
    pong,
    token,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"auth","token":"k"}', Auth("k")),
        ('{"token":"k","type":"auth"}', Auth("k")),
        ('{"type":"cancel","id":"a"}', Cancel("a")),
        ('{"type":"ping"}', Ping()),
        ('{"type":"ping","id":1,"timestamp":null}', Ping(1, None)),
        ('{"type":"pong","any":"thing"}', Pong()),
        (
            '{"type":"inference","id":"a","model":"m","prompt":"p","stop":["x"],"stream":false}',
            Inference(id="a", model="m", prompt="p", stop=["x"], stream=False),
        ),
    ],
)
def test_messages_of_every_type(text: str, message: Any) -> None:
    assert decode(text) == message


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_anything_else_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        decode(text)


@given(
    st.dictionaries(
        st.sampled_from(["type", "id", "model", "prompt", "token", "max_tokens", "stream"]),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()),
    )
)
def test_malformed_messages_say_whose_they_are(content: dict[str, Any]) -> None:
    try:
        decode(json.dumps(content))
    except Malformed as malformed:
        fault = malformed
    else:
        return
    assert fault.id in (content.get("id"), None)
    json.loads(error_text(fault.error, fault.id))


def test_texts_that_go_out() -> None:
    assert json.loads(token("a", "x", 0)) == {"type": "token", "id": "a", "token": "x", "index": 0}
    assert json.loads(pong(Ping(id="z"))) == {"type": "pong", "id": "z"}
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    assert json.loads(complete("a", "m", Ending("stop", usage), text="x")) == {
        "type": "complete",
        "id": "a",
        "model": "m",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "text": "x",
    }


def test_errors_have_their_fields_at_the_top() -> None:
    assert json.loads(error_text(InvalidRequest("No.", field="id"), "a")) == {
        "type": "error",
        "code": "INVALID_REQUEST",
        "message": "No.",
        "details": {"field": "id"},
        "id": "a",
    }
    assert json.loads(error_text(InferenceFailed("No."), None, "req_1")) == {
        "type": "error",
        "code": "INFERENCE_FAILED",
        "message": "No.",
        "request_id": "req_1",
    }
    assert json.loads(error_text(RateLimitExceeded(retry_after=3)))["retry_after"] == 3
    assert json.loads(error_text(Overloaded("No.", retry_after=4)))["retry_after"] == 4
    assert len(json.loads(error_text(InvalidRequest("x" * 10_000)))["message"]) == MAX_SHOWN
