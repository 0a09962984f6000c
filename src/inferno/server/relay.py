"""Streams between a replica and a client: pieces in, events out, errors in their place."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from inferno.core.errors import InferenceFailed, InfernoError, ReplicaLost
from inferno.gateway.forwarding import Answer, Call, Opening
from inferno.gateway.replica_errors import replica_error
from inferno.server.types import CountedUsage, Usage, UsageOnly
from inferno.web.exchange import EVENT_STREAM, Exchange
from inferno.web.sse import EventSplitter, data_of, encode_event

T = TypeVar("T")
Envelope = Callable[[InfernoError, str], dict[str, Any]]

DONE = b"[DONE]"
DONE_EVENT = encode_event(DONE)

_usage: msgspec.json.Decoder[UsageOnly] = msgspec.json.Decoder(UsageOnly)
_counted: msgspec.json.Decoder[CountedUsage] = msgspec.json.Decoder(CountedUsage)
_MODEL_FIELD = re.compile(rb'"model": ?"(?:[^"\\]|\\.)*"')


async def events_of(answer: Answer) -> AsyncIterator[list[bytes]]:
    """Yield the events of a replica's stream, those that arrived together in one list.

    Raises:
        InferenceFailed: the replica reported an error, or its stream ended in an event.
    """
    reader = EventReader(answer.call)
    async for piece in answer:
        if events := reader.feed(piece):
            yield events


class EventReader:
    """Reads a replica's stream: cuts it into events, and takes down what they say of the call.

    Args:
        call: that the stream answers.
    """

    __slots__ = ("_call", "_splitter")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._splitter = EventSplitter()

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the events that are complete now, without those of the prompt's progress.

        Raises:
            InferenceFailed: the replica reported an error, or an event is too large.
        """
        call = self._call
        events = self._splitter.feed(piece)
        if len(events) != 1 or PROGRESS in events[0]:
            events = [event for event in events if not _is_progress(event, call)]
        for event in events:
            if event.startswith(ERRORS):
                _, _, payload = event.partition(b":")
                raise replica_error(200, payload.strip())
            if b'"usage":{' in event or b'"usage": {' in event:
                count(call, data_of(event))
        if events:
            if call.journey.first is None:
                call.journey.first = time.perf_counter()
            call.tally.pieces += len(events)
        return events


PROGRESS = b'"prompt_progress":{'
ERRORS = (b'data: {"error"', b"error:")


def _is_progress(event: bytes, call: Call) -> bool:
    """Return whether an event says how far the prompt is read; its length is taken down.

    Quotes in a text are escaped in JSON, so no text can look like one.
    """
    found = event.find(PROGRESS)
    if found < 0:
        return False
    total = re.compile(rb'"total":(\d{1,9})\b').search(event, found)
    if total is not None:
        call.tally.prompt_estimate = int(total[1])
    return True


async def payloads_of(answer: Answer, *, says_done: bool = True) -> AsyncIterator[list[bytes]]:
    """Yield the payloads of a replica's stream, in lists, and without `[DONE]`.

    Args:
        answer: the stream.
        says_done: it ends with `[DONE]`; otherwise whether it is whole is the caller's to see.

    Raises:
        InferenceFailed: the replica reported an error or broke off before it was done.
    """
    done = not says_done
    async for events in events_of(answer):
        payloads = [payload for event in events if (payload := data_of(event)) is not None]
        if DONE in payloads:
            done = True
            payloads = [payload for payload in payloads if payload != DONE]
        yield payloads
    if not done:
        raise incomplete()


def incomplete() -> InferenceFailed:
    """Say that a replica's stream ended too early."""
    return InferenceFailed("The replica's stream ended before it was complete.")


@asynccontextmanager
async def event_stream(exchange: Exchange, envelope: Envelope) -> AsyncIterator[None]:
    """Send an error of the enclosed block as an event if the response has begun, and end it.

    An error before the first byte is left to the door, which answers with its status.
    """
    try:
        yield
    except InfernoError as error:
        if not exchange.started:
            raise
        exchange.failure = error
        payload = msgspec.json.encode(envelope(error, exchange.request_id))
        await exchange.write(encode_event(payload))
    await exchange.finish()


async def begin_events(exchange: Exchange) -> None:
    """Send the head of an event stream, once."""
    if not exchange.started:
        await exchange.start(200, EVENT_STREAM)


def model_field(name: str) -> bytes:
    """Return the field of an answer that names a model."""
    return b'"model":' + msgspec.json.encode(name)


def model_field_in(payload: bytes) -> bytes | None:
    """Return the field that names the model: a replica's own, whatever the client calls it.

    Quotes within texts are escaped in JSON, so no text can look like the field.
    """
    found = _MODEL_FIELD.search(payload)
    return found[0] if found else None


async def read_answer(call: Call, opening: Opening) -> bytes:
    """Return the whole answer of a replica to a call. Raises InferenceFailed."""
    async with opening as answer:
        body = await answer.read()
    take_down(call, body)
    return body


def take_down(call: Call, body: bytes) -> None:
    """Take down what a whole answer says of its call. Raises InferenceFailed: it is no JSON."""
    call.journey.first = time.perf_counter()
    count(call, body)


def count(call: Call, payload: bytes | None) -> None:
    """Take down the engine's own count, where an answer or a piece of one has one to believe.

    What a server that others run calls usage may be anything; then the estimate holds.

    Raises:
        InferenceFailed: it is no JSON.
    """
    try:
        usage = _counted.decode(payload).usage if payload else None
    except msgspec.ValidationError:
        return
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InferenceFailed("The replica's answer is not valid JSON.") from None
    if usage is not None:
        note_usage(call, usage)
        if usage.prompt_tokens_details is not None:
            call.journey.cached_tokens = usage.prompt_tokens_details.cached_tokens


def note_usage(call: Call, usage: Usage) -> None:
    """Take down the engine's own count of a call's tokens."""
    parts = usage.prompt_tokens + usage.completion_tokens
    call.tally.exact = max(usage.total_tokens, parts)  # not all servers add up, or at all
    call.journey.prompt_tokens = usage.prompt_tokens
    call.journey.completion_tokens = usage.completion_tokens


async def repeated(work: Callable[[], Awaitable[T]], may_repeat: Callable[[], bool]) -> T:
    """Do work that a replica may be lost under, once more if nobody has seen any of it.

    Args:
        work: to do.
        may_repeat: whether the client has not been sent anything yet.

    Raises:
        ReplicaLost: it was lost twice, or too late.
    """
    try:
        return await work()
    except ReplicaLost:
        if not may_repeat():
            raise
    return await work()


def usage_of(payload: bytes) -> UsageOnly:
    """Return the usage in an answer or a piece of one, where there is any to believe."""
    try:
        return _usage.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UsageOnly()


async def all_of(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all at once and return the results in order; the first error cancels the rest.

    Raises:
        InfernoError: that first error, on its own.
    """
    if len(works) == 1:
        return [await works[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None
    return [task.result() for task in tasks]


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first single error in a group of them."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def interleaved(
    sources: Sequence[Callable[[Callable[[T], Awaitable[None]]], Coroutine[Any, Any, None]]],
    consume: Callable[[T], Awaitable[None]],
) -> None:
    """Run several producers at once and pass what they emit to one consumer.

    Args:
        sources: each is called with `emit`; one piece waits in line per source, so that a slow
            consumer holds all of them up.
        consume: called with one piece at a time.

    Raises:
        InfernoError: the first error of any source; the rest are cancelled.
    """
    queue: asyncio.Queue[T | None] = asyncio.Queue(maxsize=len(sources))

    async def run(source: Callable[..., Coroutine[Any, Any, None]]) -> None:
        await source(queue.put)
        await queue.put(None)

    try:
        async with asyncio.TaskGroup() as group:
            for source in sources:
                group.create_task(run(source))
            running = len(sources)
            while running:
                piece = await queue.get()
                if piece is None:
                    running -= 1
                else:
                    await consume(piece)
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None
