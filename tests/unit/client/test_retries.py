"""What is sent again, and what never is."""

from __future__ import annotations

from typing import Any

import pytest

from inferno import AsyncClient, Client
from inferno.client import Retries
from inferno.client.batches import create_batch
from inferno.client.calls import Call, get, post
from inferno.client.errors import (
    ClientError,
    ConnectionFailed,
    InvalidCall,
    RateLimited,
    ServerBusy,
    UnexpectedAnswer,
)
from inferno.client.retries import Tries
from tests.unit.client.scripted import Reply, scripted

HEALTH = {"status": "healthy", "version": "1", "uptime_seconds": 1, "models_loaded": 0}
ANSWER = {
    "id": "inf_1",
    "model": "m",
    "choices": [{"text": "Hi", "index": 0, "finish_reason": "stop"}],
    "usage": {},
    "created": 1,
    "processing_time_ms": 1,
}
LIMITED = {"error": {"code": "RATE_LIMIT_EXCEEDED", "message": "Later.", "retry_after": 0}}
BUSY = Reply(503, {"error": {"code": "INFERENCE_FAILED", "message": "Full."}}, {"retry-after": "0"})
TOO_MANY = Reply(429, LIMITED, {"retry-after": "0"})
GONE = Reply(0)
QUESTION: dict[str, Any] = {"model": "m", "prompt": "Hello"}

READS = get("/x", bytes)
WORKS = post("/x", bytes, {}, repeatable=True)
CREATES = post("/x", bytes, {})


class Clock:
    """Seconds, as a test has them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pauses(
    call: Call[Any], error: ClientError, retries: Retries, *, chance: float = 0.0
) -> list[float]:
    """Return the pauses of a client to whom the same happens again and again."""
    clock, found = Clock(), list[float]()
    tries = Tries(retries, call, clock=clock, chance=lambda: chance)
    while (pause := tries.pause_after(error)) is not None:
        found.append(pause)
        clock.now += pause
    return found


def limited(seconds: float) -> RateLimited:
    return RateLimited("Later.", status=429, retry_after=seconds)


def test_pauses_are_those_that_are_asked_for_and_never_shorter() -> None:
    assert pauses(WORKS, limited(2), Retries(attempts=4)) == [2, 2, 2]
    assert pauses(WORKS, limited(2), Retries(attempts=2), chance=1.0) == [2.5]
    assert pauses(WORKS, limited(2), Retries(attempts=1)) == []


def test_the_deadline_counts_the_pause() -> None:
    assert pauses(WORKS, limited(2), Retries(attempts=100, deadline=5)) == [2, 2]


def test_too_long_a_pause_is_for_the_caller_to_decide_on() -> None:
    assert pauses(WORKS, limited(31), Retries(longest_pause=30)) == []


def test_own_pauses_grow() -> None:
    away = ConnectionFailed("no", sent=False)
    assert pauses(CREATES, away, Retries(attempts=5)) == [0.125, 0.25, 0.5, 1]
    assert pauses(CREATES, away, Retries(attempts=5), chance=1.0) == [0.25, 0.5, 1, 2]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionFailed("x", sent=False), {READS.method, "works", "creates"}),
        (ConnectionFailed("x", sent=True), {READS.method}),
        (limited(1), {READS.method, "works", "creates"}),
        (ServerBusy("x", status=503, retry_after=1), {READS.method, "works"}),
        (ServerBusy("x", status=503), set()),
        (InvalidCall("x", status=400, retry_after=1), set()),
        (UnexpectedAnswer("x"), set()),
    ],
)
def test_what_is_sent_again(error: ClientError, again: set[str]) -> None:
    calls = {"GET": READS, "works": WORKS, "creates": CREATES}
    retries = Retries(attempts=2)
    assert {name for name, call in calls.items() if pauses(call, error, retries)} == again


def test_batches_may_be_sent_again_for_they_say_which_they_are() -> None:
    first, second = create_batch(requests=["a"]), create_batch(requests=["a"])
    assert first.repeatable
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
    assert create_batch(requests=["a"], idempotency_key="k").headers["idempotency-key"] == "k"


@pytest.mark.parametrize("refusal", [TOO_MANY, BUSY])
def test_refused_calls_are_repeated(refusal: Reply) -> None:
    with scripted([refusal, refusal, Reply(200, ANSWER)]) as server, Client(server.url) as client:
        assert client.inference(**QUESTION).text == "Hi"
    assert len(server.requests) == 3
    assert len({body for *_, body in server.requests}) == 1


async def test_refused_calls_are_repeated_on_an_event_loop() -> None:
    with scripted([TOO_MANY, BUSY, Reply(200, ANSWER)]) as server:
        async with AsyncClient(server.url) as client:
            assert (await client.inference(**QUESTION)).text == "Hi"
    assert len(server.requests) == 3


def test_there_is_an_end() -> None:
    with (
        scripted([TOO_MANY]) as server,
        Client(server.url, retries=Retries(attempts=3)) as client,
        pytest.raises(RateLimited) as refused,
    ):
        client.inference(**QUESTION)
    assert refused.value.retry_after == 0
    assert len(server.requests) == 3


def test_lost_answers_are_asked_for_again_where_nothing_was_to_be_done() -> None:
    with scripted([GONE, Reply(200, HEALTH)]) as server, Client(server.url) as client:
        assert client.health().status == "healthy"
        assert server.paths == ["GET /health"] * 2


def test_lost_answers_to_work_are_not() -> None:
    with (
        scripted([GONE, Reply(200, ANSWER)]) as server,
        Client(server.url) as client,
        pytest.raises(ConnectionFailed) as failed,
    ):
        client.inference(**QUESTION)
    assert failed.value.sent
    assert len(server.requests) == 1


EVENTS = {"content-type": "text/event-stream"}
TOKEN = b'data: {"token": "Hi", "index": 0}\n\n'
FAILED = b'data: {"error": {"code": "INFERENCE_FAILED", "message": "Gone."}}\n\n'


@pytest.mark.parametrize(
    ("body", "announced"), [(TOKEN, len(TOKEN) + 50), (TOKEN, None), (TOKEN + FAILED, None)]
)
def test_nothing_is_repeated_once_an_answer_has_begun(body: bytes, announced: int | None) -> None:
    reply = Reply(200, body, EVENTS, announced=announced)
    with scripted([reply]) as server, Client(server.url) as client:
        stream = client.stream(**QUESTION)
        pieces = []
        with pytest.raises(ClientError), stream:
            pieces += [str(piece) for piece in stream]
        with pytest.raises(RuntimeError):
            _ = stream.result
        assert len(server.requests) == 1


async def test_streams_that_are_refused_are_asked_for_again() -> None:
    whole = TOKEN + b'data: {"done": true, "finish_reason": "stop"}\n\n'
    with scripted([TOO_MANY, Reply(200, whole, EVENTS)]) as server:
        with Client(server.url) as client:
            assert client.stream(**QUESTION).read().text == "Hi"
        async with AsyncClient(server.url) as other:
            assert (await other.stream(**QUESTION).read()).text == "Hi"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>hello</html>"),
        Reply(200, {"status": 5}),
        Reply(200, b"[" * 100_000),
        Reply(302, b"", {"location": "http://example.com/"}),
    ],
)
def test_answers_that_are_none(reply: Reply) -> None:
    with (
        scripted([reply]) as server,
        Client(server.url, api_key="secret") as client,
        pytest.raises(UnexpectedAnswer),
    ):
        client.health()
    assert len(server.requests) == 1  # nobody else is sent the key


def test_nobody_there() -> None:
    with scripted([BUSY]) as server:
        pass
    retries = Retries(attempts=2)
    with Client(server.url, retries=retries) as client, pytest.raises(ConnectionFailed) as failed:
        client.health()
    assert not failed.value.sent
