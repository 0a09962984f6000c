"""Counting tokens by what servers that others run say of them."""

from __future__ import annotations

import msgspec
import pytest

from inferno.core.errors import InferenceFailed, InvalidRequest
from inferno.gateway.forwarding import Call
from inferno.server.passthrough import Head
from inferno.server.relay import count, usage_of
from inferno.web.exchange import decode_body

_heads = msgspec.json.Decoder(Head)


def counted(payload: bytes) -> Call:
    call = Call("m", b"/", b"{}", "r")
    call.tally.begun = True
    call.tally.prompt_estimate = 5
    call.tally.pieces = 3
    count(call, payload)
    return call


def test_usage_that_can_be_believed() -> None:
    usage = b'{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5,"more":null}'
    assert counted(b'{"usage":%b}' % usage).tally.used == 5


@pytest.mark.parametrize(
    "usage",
    [
        b'{"total_tokens":-1000000}',
        b'{"total_tokens":1' + b"0" * 30 + b"}",
        b'{"completion_tokens":-5,"prompt_tokens":5,"total_tokens":0}',
        b'{"total_tokens":"many"}',
        b'{"total_tokens":1.5}',
        b'"none"',
        b"[1]",
    ],
)
def test_usage_that_cannot_be_believed_leaves_the_estimate(usage: bytes) -> None:
    call = counted(b'{"usage":%b}' % usage)
    assert call.tally.exact is None
    assert call.tally.used == 8
    assert usage_of(b'{"usage":%b}' % usage).usage is None


def test_parts_count_where_the_sum_is_missing() -> None:
    assert counted(b'{"usage":{"prompt_tokens":2,"completion_tokens":3}}').tally.used == 5


def test_an_answer_that_is_no_json() -> None:
    for answer in (b"<html>", b"{", b'{"usage":'):
        with pytest.raises(InferenceFailed, match="JSON"):
            counted(answer)


@pytest.mark.parametrize("field", ["n", "best_of"])
@pytest.mark.parametrize("value", [b"-1000", b"0", b"1000000"])
def test_a_number_of_choices_that_would_give_tokens_back(field: str, value: bytes) -> None:
    body = b'{"model":"m","%b":%b}' % (field.encode(), value)
    with pytest.raises(InvalidRequest) as caught:
        decode_body(_heads, body)
    assert caught.value.details["field"] == field
