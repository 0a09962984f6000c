"""Requests for servers that others run: passed on as they came, and their answers likewise.

Of a request only what routing, limits and accounting need is read; the server that answers knows
best which fields it takes. What is changed: the name of the model, where a target has another one
than the client asked for, and a stream is asked for its usage, which is taken out again where the
client did not want it.
"""

from __future__ import annotations

import asyncio

import msgspec
from msgspec import UNSET, UnsetType

from inferno.core.errors import DeadlineExceeded, InfernoError, InvalidRequest
from inferno.core.inferences import Operation
from inferno.gateway.forwarding import Call, Opening, with_fields
from inferno.gateway.routing import Destination
from inferno.limits.tally import Tally
from inferno.server.errors import openai_envelope
from inferno.server.operation import Services, Visited
from inferno.server.relay import (
    EventReader,
    begin_events,
    event_stream,
    incomplete,
    read_answer,
    repeated,
)
from inferno.server.serving import Observed, destination_of, prompt_in, serving
from inferno.server.types import ChoiceCount, StreamOptions, TokenLimit
from inferno.web.exchange import SLICE, decode_body

USAGE_WANTED = b'{"stream_options":{"include_usage":true},'


class Head(msgspec.Struct, kw_only=True):
    """What is read of a request, whichever API of OpenAI's it belongs to."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | UnsetType | None = UNSET
    n: ChoiceCount | None = None
    best_of: ChoiceCount | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")

    @property
    def text(self) -> bytes:
        """The prompt as it is written."""
        return bytes(self.messages) or bytes(self.prompt)

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage of a stream."""
        options = self.stream_options
        return isinstance(options, StreamOptions) and bool(options.include_usage)


_heads: msgspec.json.Decoder[Head] = msgspec.json.Decoder(Head)


async def passed_through(
    exchange: Visited, services: Services, body: bytes, path: bytes, operation: Operation
) -> bool:
    """Serve a request, if its model is served by others alone.

    Returns:
        Whether it was served; else nothing has happened.
    """
    if not services.forwarder.routes.any_named:
        return False
    head = read_head(body)
    destination = destination_of(services, exchange.scope, exchange.visit, head.model, operation)
    if not destination.is_relayed:
        return False
    exchange.require_streaming(head.stream)
    call = call_for(head, body, path, destination, services, exchange.request_id)
    work = await serving(
        exchange, services, [call], operation, to=destination, streamed=head.stream
    )
    await Passing(call, head, work).go_through(exchange, services)
    return True


def read_head(body: bytes) -> Head:
    """Return what is read of a request.

    Raises:
        InvalidRequest: it cannot be read, or what is not read of it is no text.
    """
    head: Head = decode_body(_heads, body)
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            raise InvalidRequest("The request body is not valid UTF-8.") from None
    return head


class Passing:
    """A request that is passed on, and its answer.

    Args:
        call: what is passed on.
        head: what was read of it.
        work: whose observers are told how it went.
        opening: the call on its way; None where it has to be sent.
        events: what has come of its answer, where that is a stream.
        failure: why no more of its answer will come.
    """

    __slots__ = ("_call", "_events", "_failure", "_head", "_opening", "_work")

    def __init__(
        self,
        call: Call,
        head: Head,
        work: Observed,
        *,
        opening: Opening | None = None,
        events: PassedEvents | None = None,
        failure: InfernoError | None = None,
    ) -> None:
        self._call = call
        self._head = head
        self._work = work
        self._opening = opening
        self._events = events
        self._failure = failure

    async def go_through(self, exchange: Visited, services: Services) -> None:
        """Send the call, or go on with it, and pass its answer on."""
        with self._work, exchange.client_present():
            if self._head.stream:
                async with event_stream(exchange, openai_envelope):
                    await repeated(
                        lambda: self._stream(exchange, services), lambda: not exchange.started
                    )
            else:
                answer = await repeated(lambda: self._read(services), lambda: not exchange.started)
                await self._respond(exchange, services, as_asked(answer, self._call))

    async def _respond(self, exchange: Visited, services: Services, answer: bytes) -> None:
        """Send a whole answer; one that is large is not kept for a client that does not read."""
        if len(answer) <= SLICE:
            await exchange.respond(200, answer)
            return
        seconds = services.forwarder.timeouts.request
        try:
            async with asyncio.timeout(seconds):
                await exchange.respond(200, answer)
        except TimeoutError:
            raise DeadlineExceeded(f"The answer was not taken in {seconds:g} seconds.") from None

    def _open(self, services: Services) -> Opening:
        """Return the call on its way, or one that is to be sent, for an answer from the start."""
        if self._failure is not None:
            raise self._failure
        opening, self._opening = self._opening, None
        if opening is None:
            self._events = None
            opening = services.forwarder.open(self._call)
        return opening

    async def _read(self, services: Services) -> bytes:
        return await read_answer(self._call, self._open(services))

    async def _stream(self, exchange: Visited, services: Services) -> None:
        async with self._open(services) as answer:
            events = self._events or PassedEvents(self._call, self._head)
            async for piece in answer:
                if passed := events.feed(piece):
                    exchange.whole = events.done
                    if not exchange.started:
                        await begin_events(exchange)
                    await exchange.write(passed)
            if not events.done:
                raise incomplete()


class PassedEvents:
    """The events of a server's stream, as they are passed on.

    Args:
        call: that they answer.
        head: what was read of the request.

    Attributes:
        done: whether the last one was there.
    """

    __slots__ = ("_call", "_hides_usage", "_is_renamed", "_reader", "done")

    def __init__(self, call: Call, head: Head) -> None:
        self._call = call
        self._hides_usage = not head.wants_usage
        self._is_renamed = call.destination is None or call.destination.target != call.model
        self._reader = EventReader(call)
        self.done = False

    def feed(self, piece: bytes) -> bytes:
        """Return what the client is sent of the events that are complete now.

        Raises:
            InferenceFailed: the server reported an error.
        """
        events = self._reader.feed(piece)
        if len(events) == 1 and b'"usage"' not in events[0]:
            passed = events[0]  # as nearly all are
        else:
            if self._hides_usage:
                events = [event for event in events if not _is_usage(event)]
            if not events:
                return b""
            passed = b"".join(events)
        self.done = events[-1].startswith(DONE)
        return as_asked(passed, self._call) if self._is_renamed else passed


def call_for(
    head: Head,
    body: bytes,
    path: bytes,
    destination: Destination,
    services: Services,
    request_id: str,
) -> Call:
    """Return what is passed on of a request."""
    if destination.route.line.reads_prompts:
        destination.prompt = head.text or prompt_in(body)
    if body.count(b'"model"') != 1 or b"\\u00" in body:
        body = with_fields(body, {})  # servers differ in which of several they take
    if head.stream and not head.wants_usage:
        if head.stream_options is UNSET:
            body = USAGE_WANTED + body.lstrip()[1:]
        else:
            body = with_fields(body, {"stream_options": {"include_usage": True}})
    generated = head.max_completion_tokens or head.max_tokens or services.default_max_tokens
    tally = Tally.of(body, max_tokens=generated * max(head.n or 1, head.best_of or 1))
    return Call(
        head.model,
        path,
        body,
        request_id,
        tally=tally,
        destination=destination,
        streamed=bool(head.stream),
    )


DONE = b"data: [DONE]"


def _is_usage(event: bytes) -> bool:
    """Return whether an event carries the usage and no choice, however it is spaced."""
    return b'"usage"' in event and (b'"choices":[]' in event or b'"choices": []' in event)


def as_asked(payload: bytes, call: Call) -> bytes:
    """Return an answer, or a piece of one, with the model's name that the client knows.

    Quotes within texts are escaped in JSON, so no text can look like the field.
    """
    destination = call.destination
    if destination is None or destination.target == call.model:
        return payload
    theirs, ours = (msgspec.json.encode(name) for name in (destination.target, call.model))
    payload = payload.replace(b'"model":' + theirs, b'"model":' + ours)
    return payload.replace(b'"model": ' + theirs, b'"model":' + ours)
