"""`POST /inference` and `POST /inference/stream`: seed 001's own inference calls."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import msgspec

from inferno.gateway.forwarding import Call, Forwarder
from inferno.limits.tally import Tally
from inferno.server.completions import PATH, pieces, whole_completion
from inferno.server.errors import native_envelope
from inferno.server.operation import Services, Visited
from inferno.server.relay import begin_events, event_stream, repeated
from inferno.server.sampling import sampling_fields, seed_of
from inferno.server.serving import serving
from inferno.server.types import InferenceRequest, Usage
from inferno.web.exchange import Exchange, decode_body
from inferno.web.sse import encode_event

_requests: msgspec.json.Decoder[InferenceRequest] = msgspec.json.Decoder(InferenceRequest)


async def inference(exchange: Visited, services: Services) -> None:
    """Answer in one piece, or as `/inference/stream` does where `stream` is true."""
    request: InferenceRequest = decode_body(_requests, await exchange.body())
    exchange.require_grammar(request.grammar)
    if request.stream:
        await _stream(exchange, services, request)
    else:
        await _answer(exchange, services, request)


async def inference_stream(exchange: Visited, services: Services) -> None:
    """Stream the answer, whatever `stream` says.

    Each event is one JSON object: `{"token", "index"}`, at last `{"done": true, …}`, or
    `{"error": …}`. There is never a `[DONE]`: clients of this API decode every event.
    """
    request: InferenceRequest = decode_body(_requests, await exchange.body())
    exchange.require_grammar(request.grammar)
    await _stream(exchange, services, request)


def call_for(request: InferenceRequest, services: Services, request_id: str) -> Call:
    """Return the call that answers a request."""
    body = {"model": request.model, "prompt": request.prompt, **sampling_fields(request)}
    body["max_tokens"] = request.max_tokens or services.default_max_tokens
    if request.seed is not None:
        body["seed"] = seed_of(request.seed, 0)
    body |= {"stream": True, "return_progress": True}
    encoded = msgspec.json.encode(body)
    tally = Tally.of(encoded, max_tokens=body["max_tokens"])
    return Call(request.model, PATH, encoded, request_id, tally=tally)


@dataclass(slots=True)
class Ending:
    """How a completion ended, filled in as it comes."""

    finish_reason: str = "stop"
    usage: Usage | None = None


async def tokens(forwarder: Forwarder, call: Call, ending: Ending) -> AsyncGenerator[str, None]:
    """Yield the texts of a streamed completion, and fill in how it ended.

    Raises:
        InferenceFailed: the replica reported an error or broke off before it was done.
    """
    async with contextlib.aclosing(pieces(forwarder, call)) as received:
        async for piece in received:
            for choice in piece.choices:
                if choice.text:
                    yield choice.text
                if choice.finish_reason is not None:
                    ending.finish_reason = choice.finish_reason
            ending.usage = piece.usage or ending.usage


async def _answer(exchange: Visited, services: Services, request: InferenceRequest) -> None:
    begun = time.perf_counter()
    call = call_for(request, services, exchange.request_id)
    work = await serving(exchange, services, [call], "text_completion")
    with work, exchange.client_present():
        answer = await whole_completion(services.forwarder, call)
        choice = answer.choices[0]
        shown = {"text": choice.text, "index": 0, "finish_reason": choice.finish_reason}
        await exchange.respond_json(
            {
                "id": f"inf_{secrets.token_hex(12)}",
                "model": request.model,
                "choices": [shown],
                "usage": answer.usage or Usage(),
                "created": int(time.time()),
                "processing_time_ms": round((time.perf_counter() - begun) * 1000),
            }
        )


async def _stream(exchange: Visited, services: Services, request: InferenceRequest) -> None:
    exchange.require_streaming(True)
    call = call_for(request, services, exchange.request_id)
    work = await serving(exchange, services, [call], "text_completion", streamed=True)
    with work, exchange.client_present():
        async with event_stream(exchange, native_envelope):
            await repeated(
                lambda: _send_tokens(exchange, services.forwarder, call),
                lambda: not exchange.started,
            )


async def _send_tokens(exchange: Visited, forwarder: Forwarder, call: Call) -> None:
    """Send the tokens of a completion as they come, and how it ended."""
    index = 0
    ending = Ending()
    async with contextlib.aclosing(tokens(forwarder, call, ending)) as texts:
        async for text in texts:
            await _send(exchange, {"token": text, "index": index})
            index += 1
    last: dict[str, Any] = {"done": True, "finish_reason": ending.finish_reason}
    if ending.usage is not None:
        last["usage"] = ending.usage
    exchange.whole = True
    await _send(exchange, last)


async def _send(exchange: Exchange, event: dict[str, Any]) -> None:
    await begin_events(exchange)
    await exchange.write(encode_event(msgspec.json.encode(event)))
