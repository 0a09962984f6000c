"""`POST /inference` and `POST /inference/stream`: seed 001's own inference calls."""

from __future__ import annotations

import secrets
import time
from typing import Any

import msgspec

from inferno.gateway.forwarding import Call
from inferno.limits.tally import Tally
from inferno.server.completions import PATH, decode_completion, pieces
from inferno.server.errors import native_envelope
from inferno.server.operation import Services, Visited
from inferno.server.relay import begin_events, event_stream, read_answer
from inferno.server.sampling import SAMPLING, sampling_fields, seed_of
from inferno.server.types import InferenceRequest, Usage, fields_of
from inferno.web.exchange import Exchange, decode_body
from inferno.web.sse import encode_event

_requests: msgspec.json.Decoder[InferenceRequest] = msgspec.json.Decoder(InferenceRequest)


async def inference(exchange: Visited, services: Services) -> None:
    """Answer in one piece, or as `/inference/stream` does where `stream` is true."""
    request: InferenceRequest = decode_body(_requests, await exchange.body())
    async with exchange.client_present():
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
    async with exchange.client_present():
        await _stream(exchange, services, request)


def call_for(
    request: InferenceRequest, services: Services, request_id: str, *, stream: bool
) -> Call:
    """Return the call that answers a request."""
    body = fields_of(request, SAMPLING | {"stream", "max_tokens"})
    body.update(sampling_fields(request))
    body["max_tokens"] = request.max_tokens or services.default_max_tokens
    if request.seed is not None:
        body["seed"] = seed_of(request.seed, 0)
    if stream:
        body["stream"] = True
    encoded = msgspec.json.encode(body)
    tally = Tally.of(encoded, max_tokens=body["max_tokens"])
    return Call(request.model, PATH, encoded, request_id, tally=tally)


async def _answer(exchange: Visited, services: Services, request: InferenceRequest) -> None:
    begun = time.perf_counter()
    call = call_for(request, services, exchange.request_id, stream=False)
    await exchange.reserve(services, [call])
    answer = decode_completion(await read_answer(services.forwarder, call))
    choice = answer.choices[0]
    await exchange.respond_json(
        {
            "id": f"inf_{secrets.token_hex(12)}",
            "model": request.model,
            "choices": [{"text": choice.text, "index": 0, "finish_reason": choice.finish_reason}],
            "usage": answer.usage or Usage(),
            "created": int(time.time()),
            "processing_time_ms": round((time.perf_counter() - begun) * 1000),
        }
    )


async def _stream(exchange: Visited, services: Services, request: InferenceRequest) -> None:
    exchange.require_streaming(True)
    call = call_for(request, services, exchange.request_id, stream=True)
    await exchange.reserve(services, [call])
    async with event_stream(exchange, native_envelope):
        index = 0
        last: dict[str, Any] = {"done": True, "finish_reason": "stop"}
        async for piece in pieces(services.forwarder, call):
            for choice in piece.choices:
                if choice.text:
                    await _send(exchange, {"token": choice.text, "index": index})
                    index += 1
                if choice.finish_reason is not None:
                    last["finish_reason"] = choice.finish_reason
            if piece.usage is not None:
                last["usage"] = piece.usage
        await _send(exchange, last)


async def _send(exchange: Exchange, event: dict[str, Any]) -> None:
    await begin_events(exchange)
    await exchange.write(encode_event(msgspec.json.encode(event)))
