from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from starlette.types import Message, Scope

from inferno.core.errors import InvalidRequest, PayloadTooLarge
from inferno.web.exchange import ClientDisconnected, Exchange, decode_body, invalid_request


class Part(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class Body(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    count: int | None = None
    parts: list[Part] = []
    bias: dict[str, int] = {}
    anything: Any = None


decoder = msgspec.json.Decoder(Body)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b'{"model": 1}', "model", "Expected 'str', got 'int'"),
        (b"{}", "model", "Missing required field 'model'"),
        (b'{"model": "a", "modle": 1}', "modle", "Unknown field 'modle'"),
        (b'{"model": "a", "count": 1.5}', "count", "got 'float'"),
        (b'{"model": null}', "model", "got null"),
        (b'{"model": "a", "parts": [{"text": "b"}, {"text": 2}]}', "parts[1].text", "got 'int'"),
        (b'{"model": "a", "parts": [{}]}', "parts[0].text", "Missing required field"),
        (b'{"model": "a", "parts": [{"text": "", "x": 1}]}', "parts[0].x", "Unknown field"),
        (b'{"model": "a", "bias": {"1": "x"}}', "bias[...]", "got 'str'"),
        (b'{"model": "a", "count": 1e999}', "count", "out of range"),
    ],
)
def test_an_error_names_the_field(body: bytes, field: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_body(decoder, body)
    assert refused.value.field == field
    assert words in refused.value.message
    assert field in refused.value.message
    assert refused.value.details["field"] == field


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"nul", "not valid JSON"),
        (b'{"model": "a"} x', "not valid JSON"),
        (b'{"model": NaN}', "not valid JSON"),
        (b'{"model": "\\ud800 "}', "not valid JSON"),
        (b'{"model": "\xff"}', "not valid UTF-8"),
        (b"[]", "Expected 'object', got 'array'"),
        (b'{"model": "a", "anything": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_object_is_refused_without_a_field(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_body(decoder, body)
    assert refused.value.field is None
    assert words in refused.value.message


def test_the_last_of_duplicate_keys_counts() -> None:
    assert decode_body(decoder, b'{"model": "a", "model": "b"}').model == "b"


def test_a_wrong_key_names_its_object() -> None:
    error = invalid_request("Expected `str` matching regex '^[0-9]+$' - at `key` in `$.bias`")
    assert error.field == "bias"
    assert error.message.startswith("Invalid value for 'bias'")


def test_a_field_name_cannot_pose_as_a_path() -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_body(decoder, b'{"model": "a", "parts": [{"text": "", " - at `$.model": 1}]}')
    assert refused.value.field is not None
    assert refused.value.field.startswith("parts[0]")


def exchange(
    messages: Iterable[Message], *, headers: Iterable[tuple[bytes, bytes]] = (), limit: int = 10
) -> tuple[Exchange, list[Message], list[Message]]:
    """Return an exchange, the messages it has not read yet, and those it has sent."""
    unread, sent = list(messages), list[Message]()

    async def receive() -> Message:
        return unread.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "headers": list(headers), "state": {"request_id": "req_1"}}
    return Exchange(scope, receive, send, max_body_bytes=limit), unread, sent


def piece(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_pieces_is_joined() -> None:
    given, unread, _ = exchange([piece(b"12345", more=True), piece(b"", more=True), piece(b"678")])
    assert await given.body() == b"12345678"
    assert unread == []


async def test_an_announced_size_over_the_limit_is_refused_unread() -> None:
    given, unread, _ = exchange([piece(b"x" * 11)], headers=[(b"content-length", b"11")])
    with pytest.raises(PayloadTooLarge) as refused:
        await given.body()
    assert refused.value.details == {"limit_bytes": 10}
    assert len(unread) == 1


@pytest.mark.parametrize("sizes", [[11], [5, 6, 1], [10, 1, 5]])
async def test_a_received_size_over_the_limit_is_refused_at_once(sizes: list[int]) -> None:
    pieces = [piece(b"x" * size, more=True) for size in sizes]
    given, unread, _ = exchange([*pieces[:-1], {**pieces[-1], "more_body": False}])
    with pytest.raises(PayloadTooLarge):
        await given.body()
    assert len(unread) == max(0, len(sizes) - 2)


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    given, _, _ = exchange([piece(b"x" * 10)], headers=[(b"content-length", b"10")])
    assert await given.body() == b"x" * 10


async def test_a_client_that_leaves_before_the_end_of_the_body_is_noticed() -> None:
    given, _, _ = exchange([piece(b"1", more=True), {"type": "http.disconnect"}])
    with pytest.raises(ClientDisconnected):
        await given.body()


async def test_a_json_response_says_its_length() -> None:
    given, _, sent = exchange([])
    await given.respond_json({"a": "é"}, status=201, headers=[(b"x-more", b"1")])
    assert given.started
    assert sent[0]["status"] == 201
    assert dict(sent[0]["headers"]) == {
        b"content-type": b"application/json",
        b"x-more": b"1",
        b"content-length": b"10",
    }
    assert sent[1]["body"] == '{"a":"é"}'.encode()


async def test_a_streamed_response_ends_with_an_empty_piece() -> None:
    given, _, sent = exchange([])
    await given.start(200, [])
    await given.write(b"1")
    await given.finish()
    assert [message.get("body") for message in sent] == [None, b"1", b""]
    assert [message.get("more_body", False) for message in sent] == [False, True, False]
