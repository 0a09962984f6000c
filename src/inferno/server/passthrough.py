"""Requests for servers that others run: passed on as they came, and their answers likewise.

Of a request only what routing, limits and accounting need is read; the server that answers knows
best which fields it takes. What is changed: the name of the model, where a target has another one
than the client asked for, and a stream is asked for its usage, which is taken out again where the
client did not want it.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from inferno.core.inferences import Operation
from inferno.gateway.forwarding import Call, with_fields
from inferno.gateway.routing import Destination
from inferno.limits.tally import Tally
from inferno.server.errors import openai_envelope
from inferno.server.operation import Services, Visited
from inferno.server.relay import (
    begin_events,
    event_stream,
    events_of,
    incomplete,
    read_answer,
    repeated,
)
from inferno.server.serving import destination_of, serving
from inferno.server.types import ChoiceCount, StreamOptions, TokenLimit
from inferno.web.exchange import decode_body

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
    head: Head = decode_body(_heads, body)
    destination = destination_of(services, exchange.scope, exchange.visit, head.model, operation)
    if not destination.is_relayed:
        return False
    exchange.require_streaming(head.stream)
    if destination.route.line.reads_prompts:
        destination.prompt = head.text
    call = _call(exchange, services, head, body, path, destination)
    work = await serving(
        exchange, services, [call], operation, to=destination, streamed=head.stream
    )
    with work, exchange.client_present():
        if head.stream:
            async with event_stream(exchange, openai_envelope):
                await repeated(
                    lambda: _stream(exchange, services, call, head), lambda: not exchange.started
                )
        else:
            answer = await repeated(
                lambda: read_answer(services.forwarder, call), lambda: not exchange.started
            )
            await exchange.respond(200, _as_asked(answer, call))
    return True


def _call(
    exchange: Visited,
    services: Services,
    head: Head,
    body: bytes,
    path: bytes,
    destination: Destination,
) -> Call:
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
        exchange.request_id,
        tally=tally,
        destination=destination,
        streamed=bool(head.stream),
    )


async def _stream(exchange: Visited, services: Services, call: Call, head: Head) -> None:
    async with services.forwarder.open(call) as answer:
        hides_usage = not head.wants_usage
        async for events in events_of(answer):
            if hides_usage:
                events = [event for event in events if not _is_usage(event)]
            if not events:
                continue
            exchange.whole = events[-1].startswith(DONE)
            if not exchange.started:
                await begin_events(exchange)
            await exchange.write(_as_asked(b"".join(events), call))
        if not exchange.whole:
            raise incomplete()


DONE = b"data: [DONE]"


def _is_usage(event: bytes) -> bool:
    """Return whether an event carries the usage and no choice, however it is spaced."""
    return b'"usage"' in event and (b'"choices":[]' in event or b'"choices": []' in event)


def _as_asked(payload: bytes, call: Call) -> bytes:
    """Return an answer, or a piece of one, with the model's name that the client knows.

    Quotes within texts are escaped in JSON, so no text can look like the field.
    """
    destination = call.destination
    if destination is None or destination.target == call.model:
        return payload
    theirs, ours = (msgspec.json.encode(name) for name in (destination.target, call.model))
    payload = payload.replace(b'"model":' + theirs, b'"model":' + ours)
    return payload.replace(b'"model": ' + theirs, b'"model":' + ours)
