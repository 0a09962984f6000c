"""`POST /v1/completions`: OpenAI's legacy completions.

Every pair of a prompt and a choice is a call of its own, for the reasons given in `chat`. What
replicas leave out of the legacy API (`echo`, the old shape of `logprobs`) is done here.
"""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from inferno.core.errors import InvalidRequest, Unsupported
from inferno.gateway.forwarding import Call, Forwarder
from inferno.limits.tally import Tally
from inferno.server.chat import check_choices, check_logit_bias, check_stream_options
from inferno.server.errors import openai_envelope
from inferno.server.joining import join_completion
from inferno.server.operation import Services, Visited
from inferno.server.passthrough import passed_through
from inferno.server.relay import (
    DONE_EVENT,
    all_of,
    begin_events,
    event_stream,
    incomplete,
    interleaved,
    note_usage,
    payloads_of,
    repeated,
)
from inferno.server.sampling import SAMPLING, sampling_fields, seed_of
from inferno.server.serving import serving
from inferno.server.types import (
    CompletionRequest,
    ReplicaChoice,
    ReplicaCompletion,
    ReplicaLogprobs,
    TokenIds,
    Usage,
    fields_of,
)
from inferno.web.exchange import Exchange, decode_body
from inferno.web.sse import encode_event

PATH = b"/v1/completions"
INFILL_PATH = b"/infill"

_requests: msgspec.json.Decoder[CompletionRequest] = msgspec.json.Decoder(CompletionRequest)
_completions: msgspec.json.Decoder[ReplicaCompletion] = msgspec.json.Decoder(ReplicaCompletion)

REPLACED = frozenset(
    {
        "prompt",
        "suffix",
        "echo",
        "best_of",
        "n",
        "seed",
        "max_tokens",
        "stream",
        "stream_options",
        "logprobs",
        "user",
    }
)

Prompt = str | list[int]
Emit = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class Choice:
    """One text to complete: its place in the answer, its call, and what has come of it so far.

    Args:
        index: place in the answer.
        prompt_index: which prompt of the request it continues.
        call: the call for it.
        echo: text to put before the completion.
        logprobs: likeliest tokens to report per place; None for none.
    """

    index: int
    prompt_index: int
    call: Call
    echo: str
    logprobs: int | None
    usage: Usage = field(default_factory=Usage)
    offset: int = 0


async def completions(exchange: Visited, services: Services) -> None:
    """Serve one completion request, streamed or not."""
    body = await exchange.body()
    if await passed_through(exchange, services, body, PATH, "text_completion"):
        return
    request: CompletionRequest = decode_body(_requests, body)
    prompts = prompts_of(request.prompt)
    check(request, prompts)
    check_logit_bias(request, services)
    exchange.require_streaming(request.stream)
    exchange.require_grammar(request.grammar)
    choices = [
        _choice(request, prompt, services, exchange.request_id, prompt_index, i)
        for prompt_index, prompt in enumerate(prompts)
        for i in range(request.n or 1)
    ]
    head = {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": request.model,
    }
    calls = [choice.call for choice in choices]
    work = await serving(exchange, services, calls, "text_completion", streamed=request.stream)
    with work, exchange.client_present():
        if request.stream:
            async with event_stream(exchange, openai_envelope):
                with_usage = bool(request.stream_options and request.stream_options.include_usage)
                await repeated(
                    lambda: _stream(exchange, services.forwarder, choices, head, with_usage),
                    lambda: not exchange.started,
                )
        else:
            works = [_complete(services.forwarder, choice) for choice in choices]
            finished = await all_of(works)
            await exchange.respond_json({**head, "choices": finished, "usage": total(choices)})


def prompts_of(prompt: str | list[Any]) -> list[Prompt]:
    """Return the prompts of a request: a text, texts, token ids, or lists of token ids.

    Raises:
        InvalidRequest: anything else, or nothing at all.
    """
    if isinstance(prompt, str):
        return [prompt]
    if prompt and isinstance(prompt[0], int):
        return [_token_ids(prompt, "prompt")]
    if not prompt or len(prompt) > 2048:
        raise InvalidRequest("'prompt' must have between 1 and 2048 entries.", field="prompt")
    if all(isinstance(entry, str) for entry in prompt):
        return prompt
    return [_token_ids(entry, f"prompt[{i}]") for i, entry in enumerate(prompt)]


def _token_ids(value: Any, where: str) -> list[int]:
    try:
        return msgspec.convert(value, TokenIds)
    except msgspec.ValidationError:
        raise InvalidRequest(
            f"'{where}' must be a text or a list of token ids.", field=where
        ) from None


def check(request: CompletionRequest, prompts: list[Prompt]) -> None:
    """Refuse what cannot be honoured, by name.

    Raises:
        Unsupported: a parameter that no engine here honours.
        InvalidRequest: parameters that contradict each other.
    """
    check_stream_options(request)
    check_choices(len(prompts) * (request.n or 1), request)
    if request.best_of is not None and request.best_of != (request.n or 1):
        raise Unsupported("'best_of' other than 'n' is not supported.", field="best_of")
    if any(prompt == "" for prompt in prompts):
        raise InvalidRequest("'prompt' must not be empty.", field="prompt")
    tokens = any(isinstance(prompt, list) for prompt in prompts)
    if request.echo and tokens:
        raise Unsupported("'echo' of token ids is not supported; send text.", field="echo")
    if request.echo and request.logprobs is not None:
        raise Unsupported(
            "'echo' together with 'logprobs' is not supported: engines give no log probabilities "
            "of the prompt.",
            field="echo",
        )
    if request.suffix is not None and tokens:
        raise Unsupported("'suffix' after token ids is not supported; send text.", field="suffix")
    if request.suffix is not None and request.logprobs is not None:
        raise Unsupported("'suffix' together with 'logprobs' is not supported.", field="suffix")


def _choice(
    request: CompletionRequest,
    prompt: Prompt,
    services: Services,
    request_id: str,
    prompt_index: int,
    i: int,
) -> Choice:
    body = fields_of(request, REPLACED | SAMPLING)
    body.update(sampling_fields(request))
    body["max_tokens"] = request.max_tokens or services.default_max_tokens
    if request.seed is not None:
        body["seed"] = seed_of(request.seed, i)
    body |= {"stream": True, "return_progress": True}
    if request.logprobs is not None:
        body["logprobs"] = max(1, request.logprobs)
    path, needs = PATH, {}
    if request.suffix is None:
        body["prompt"] = prompt
    else:
        path, needs = INFILL_PATH, {"infill": "suffix"}
        body |= {"input_prefix": prompt, "input_suffix": request.suffix, "prompt": ""}
        body["n_predict"] = body.pop("max_tokens")
    encoded = msgspec.json.encode(body)
    tally = Tally.of(encoded, max_tokens=request.max_tokens or services.default_max_tokens)
    return Choice(
        index=prompt_index * (request.n or 1) + i,
        prompt_index=prompt_index,
        call=Call(request.model, path, encoded, request_id, needs, tally),
        echo=prompt if request.echo and isinstance(prompt, str) else "",
        logprobs=request.logprobs,
    )


async def _complete(forwarder: Forwarder, choice: Choice) -> dict[str, Any]:
    """Return one finished choice."""
    answer = await whole_completion(forwarder, choice.call)
    choice.usage = answer.usage or choice.usage
    note_usage(choice.call, choice.usage)
    return _shown(choice, answer.choices[0], choice.echo)


async def _stream(
    exchange: Exchange,
    forwarder: Forwarder,
    choices: list[Choice],
    head: dict[str, Any],
    with_usage: bool,
) -> None:
    """Stream all choices into one answer."""

    async def produce(choice: Choice, emit: Emit) -> None:
        echo = choice.echo
        async with aclosing(pieces(forwarder, choice.call)) as received:
            async for piece in received:
                if piece.usage is not None:
                    choice.usage = piece.usage
                    note_usage(choice.call, piece.usage)
                for part in piece.choices:
                    await emit(_shown(choice, part, echo))
                    echo = ""

    async def consume(shown: dict[str, Any]) -> None:
        await begin_events(exchange)
        await exchange.write(encode_event(msgspec.json.encode({**head, "choices": [shown]})))

    if len(choices) == 1:
        await produce(choices[0], consume)
    else:
        await interleaved([functools.partial(produce, choice) for choice in choices], consume)
    if with_usage:
        last = msgspec.json.encode({**head, "choices": [], "usage": total(choices)})
        await exchange.write(encode_event(last))
    exchange.whole = True
    await exchange.write(DONE_EVENT)


async def whole_completion(forwarder: Forwarder, call: Call) -> ReplicaCompletion:
    """Return a completion once it is whole; a replica that is lost over it is replaced once."""

    async def work() -> ReplicaCompletion:
        async with aclosing(pieces(forwarder, call)) as received:
            return await join_completion(received)

    return await repeated(work, lambda: True)


async def pieces(forwarder: Forwarder, call: Call) -> AsyncGenerator[ReplicaCompletion, None]:
    """Yield the pieces of a streamed completion.

    Raises:
        InferenceFailed: the replica reported an error or broke off before it was done.
    """
    finished = False
    async with forwarder.open(call) as answer:
        async for payloads in payloads_of(answer, says_done=call.path != INFILL_PATH):
            for payload in payloads:
                piece = decode_completion(payload)
                finished |= any(choice.finish_reason is not None for choice in piece.choices)
                yield piece
    if not finished:
        raise incomplete()


class _Infilled(msgspec.Struct):
    """llama.cpp's native answer, which `/infill` gives."""

    content: str
    stop: bool = True
    stop_type: str = "none"
    tokens_evaluated: int = 0
    tokens_predicted: int = 0


_infilled: msgspec.json.Decoder[_Infilled] = msgspec.json.Decoder(_Infilled)


def decode_completion(payload: bytes) -> ReplicaCompletion:
    """Decode a completion, or a piece of one, in OpenAI's shape or in llama.cpp's own."""
    answer = _completions.decode(payload)
    if answer.choices:
        return answer
    native = _infilled.decode(payload)
    if not native.stop:
        return ReplicaCompletion(choices=[ReplicaChoice(text=native.content)])
    reason = "length" if native.stop_type == "limit" else "stop"
    usage = Usage(
        prompt_tokens=native.tokens_evaluated,
        completion_tokens=native.tokens_predicted,
        total_tokens=native.tokens_evaluated + native.tokens_predicted,
    )
    choice = ReplicaChoice(text=native.content, finish_reason=reason)
    return ReplicaCompletion(choices=[choice], usage=usage)


def _shown(choice: Choice, part: ReplicaChoice, echo: str) -> dict[str, Any]:
    """Return a choice, or a piece of one, in OpenAI's legacy shape."""
    logprobs = None
    if choice.logprobs is not None and part.logprobs is not None:
        logprobs, choice.offset = legacy_logprobs(part.logprobs, choice.logprobs, choice.offset)
    return {
        "text": echo + part.text,
        "index": choice.index,
        "logprobs": logprobs,
        "finish_reason": part.finish_reason,
    }


def legacy_logprobs(
    given: ReplicaLogprobs, count: int, offset: int
) -> tuple[dict[str, Any] | None, int]:
    """Turn log probabilities into the legacy shape.

    Args:
        given: as the engine gives them.
        count: likeliest tokens to report per place.
        offset: characters of the completion before this piece.

    Returns:
        The legacy object, or None where the piece has no tokens, and the new offset.
    """
    if not given.content:
        return None, offset
    offsets = []
    for entry in given.content:
        offsets.append(offset)
        offset += len(entry.token)
    return {
        "tokens": [entry.token for entry in given.content],
        "token_logprobs": [entry.logprob for entry in given.content],
        "top_logprobs": [
            {top.token: top.logprob for top in entry.top_logprobs[:count]}
            for entry in given.content
        ]
        if count
        else None,
        "text_offset": offsets,
    }, offset


def total(choices: list[Choice]) -> Usage:
    """Return the usage of all choices; a prompt with several choices counts once."""
    prompts = {choice.prompt_index: choice.usage.prompt_tokens for choice in choices}
    prompt, generated = sum(prompts.values()), sum(c.usage.completion_tokens for c in choices)
    return Usage(prompt_tokens=prompt, completion_tokens=generated, total_tokens=prompt + generated)
