"""`POST /v1/chat/completions`: OpenAI's chat API over the replicas' own.

One choice is relayed as the replica wrote it. Several choices (`n`) are as many calls: engines
count the usage of one choice only, and a call is what admission and cancellation work on.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from inferno.core.errors import InvalidRequest, Unsupported
from inferno.gateway.forwarding import Call, Forwarder
from inferno.limits.tally import Tally
from inferno.server.errors import openai_envelope
from inferno.server.joining import ChatJoiner
from inferno.server.operation import Services, Visited
from inferno.server.passthrough import passed_through
from inferno.server.relay import (
    DONE_EVENT,
    all_of,
    begin_events,
    event_stream,
    events_of,
    interleaved,
    model_field,
    model_field_in,
    payloads_of,
    read_answer,
    repeated,
    usage_of,
)
from inferno.server.sampling import SAMPLING, sampling_fields, seed_of
from inferno.server.serving import serving
from inferno.server.tool_calls import CallReader, schema_of, show_answer, show_chunk
from inferno.server.types import (
    ChatRequest,
    ContentPart,
    Message,
    NamedToolChoice,
    OpenAIRequest,
    ResponseFormat,
    Tool,
    Usage,
    fields_of,
)
from inferno.web.exchange import Exchange, decode_body
from inferno.web.sse import encode_event

PATH = b"/v1/chat/completions"

_requests: msgspec.json.Decoder[ChatRequest] = msgspec.json.Decoder(ChatRequest)

_objects: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])

REFUSED = {
    "functions": "use 'tools'",
    "function_call": "use 'tool_choice'",
    "audio": "only text is served",
    "prediction": "predicted outputs are not served",
    "web_search_options": "web search is not served",
    "verbosity": "no engine here honours it",
}
"""Fields of OpenAI's API that no engine here can honour, and what to do instead."""

IGNORED = frozenset(
    {
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "user",
        "modalities",
    }
)
"""Fields that concern OpenAI's bookkeeping or name what is served anyway."""

REPLACED = frozenset(
    {
        "messages",
        "tools",
        "tool_choice",
        "max_completion_tokens",
        "max_tokens",
        "n",
        "seed",
        "stream",
        "stream_options",
        "response_format",
    }
)

Emit = Callable[[dict[str, Any]], Awaitable[None]]


async def chat_completions(exchange: Visited, services: Services) -> None:
    """Serve one chat request, streamed or not."""
    body = await exchange.body()
    if await passed_through(exchange, services, body, PATH, "chat"):
        return
    request: ChatRequest = decode_body(_requests, body)
    check(request)
    check_logit_bias(request, services)
    exchange.require_streaming(request.stream)
    exchange.require_grammar(request.grammar)
    calls = [call_for(request, services, exchange.request_id, i) for i in range(request.n or 1)]
    work = await serving(exchange, services, calls, "chat", streamed=request.stream)
    with work, exchange.client_present():
        if request.stream:
            async with event_stream(exchange, openai_envelope):
                await repeated(
                    lambda: _stream(exchange, services, calls, request),
                    lambda: not exchange.started,
                )
        else:
            works = [_answer(services.forwarder, call, request) for call in calls]
            await exchange.respond_json(merge(await all_of(works)))


async def _stream(
    exchange: Visited, services: Services, calls: list[Call], request: ChatRequest
) -> None:
    """Stream the answer: as the replica wrote it, where that is what was asked for."""
    if len(calls) == 1 and not is_reshaped(request):
        await _relay(exchange, services.forwarder, calls[0], _wants_usage(request))
    else:
        await _stream_choices(exchange, services, calls, request)


def check(request: ChatRequest) -> None:
    """Refuse what cannot be honoured, by name.

    Raises:
        Unsupported: a parameter that no engine here honours.
        InvalidRequest: parameters that contradict each other.
    """
    for name, instead in REFUSED.items():
        if getattr(request, name) is not None:
            raise Unsupported(f"'{name}' is not supported: {instead}.", field=name)
    if request.modalities is not None and request.modalities != ["text"]:
        raise Unsupported("'modalities' other than text are not served.", field="modalities")
    check_stream_options(request)
    check_choices(request.n or 1, request)
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true.", field="top_logprobs")
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise InvalidRequest(
            "Give 'max_completion_tokens' or 'max_tokens', not both.", field="max_tokens"
        )
    if request.tool_choice not in (None, "none", "auto") and not request.tools:
        raise InvalidRequest("'tool_choice' needs 'tools'.", field="tool_choice")
    formatted = request.response_format is not None and request.response_format.type != "text"
    with_tools = request.tools and request.tool_choice != "none"
    if request.grammar is not None and (with_tools or formatted):
        raise InvalidRequest(
            "'grammar' goes together with neither 'tools' nor 'response_format'.", field="grammar"
        )
    if with_tools and formatted:
        raise Unsupported(
            "'response_format' together with 'tools' is not supported: the model could answer "
            "in the format or call a tool, and engines let it do only the first.",
            field="response_format",
        )
    for i, message in enumerate(request.messages):
        _check_message(message, f"messages[{i}]")


def check_logit_bias(request: OpenAIRequest, services: Services) -> None:
    """Refuse biases of tokens that the model does not have; engines ignore them.

    Raises:
        InvalidRequest: names the token.
    """
    directory = services.directory
    base = directory.adapters.get(request.model, request.model)
    service = directory.services.get(request.model) or directory.services.get(base)
    if not request.logit_bias or service is None:
        return
    info = service.spec.predictor.model.info
    for token in request.logit_bias:
        if info.vocabulary_size and int(token) >= info.vocabulary_size:
            raise InvalidRequest(
                f"'logit_bias' names token {token}, but the model has {info.vocabulary_size}.",
                field="logit_bias",
            )


MAX_CHOICES = 128
"""Choices of one request, over all its prompts: each is a call of its own."""


def check_choices(choices: int, request: OpenAIRequest) -> None:
    """Refuse more choices than one request may have.

    Raises:
        InvalidRequest: names the field.
    """
    if choices > MAX_CHOICES:
        raise InvalidRequest(
            f"A request may have {MAX_CHOICES} choices ('n' for each prompt); this has {choices}.",
            field="n" if request.n and request.n > 1 else "prompt",
        )


def check_stream_options(request: Any) -> None:
    """Refuse `stream_options` without `stream`, as OpenAI does."""
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("'stream_options' needs 'stream': true.", field="stream_options")


def _check_message(message: Message, where: str) -> None:
    if message.content is None:
        if message.role != "assistant" or not message.tool_calls:
            raise InvalidRequest(f"'{where}.content' is missing.", field=f"{where}.content")
    elif isinstance(message.content, list):
        for j, part in enumerate(message.content):
            _check_part(part, f"{where}.content[{j}]")
    for j, call in enumerate(message.tool_calls or ()):
        _check_arguments(call.function.arguments, f"{where}.tool_calls[{j}].function.arguments")


def _check_part(part: ContentPart, where: str) -> None:
    if part.type == "refusal":
        return
    if part.type != "text":
        raise Unsupported(
            f"Content of type '{part.type}' is not supported; only text is served.",
            field=f"{where}.type",
        )
    if not isinstance(part.text, str):
        raise InvalidRequest(f"'{where}.text' is missing.", field=f"{where}.text")


def _check_arguments(arguments: str, where: str) -> None:
    """Refuse what chat templates, which show arguments as an object, could not show."""
    try:
        msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(f"'{where}' must be the text of a JSON object.", field=where) from None


def call_for(request: ChatRequest, services: Services, request_id: str, choice: int) -> Call:
    """Return the call for one choice of a request."""
    body = fields_of(request, REPLACED | IGNORED | SAMPLING)
    body.update(sampling_fields(request))
    body["messages"] = [_as_replicas_take(message) for message in request.messages]
    body["max_tokens"] = (
        request.max_completion_tokens or request.max_tokens or services.default_max_tokens
    )
    if _is_bare(request):
        body["top_logprobs"] = 1  # engines take 0 for no log probabilities at all
    if request.seed is not None:
        body["seed"] = seed_of(request.seed, choice)
    if not _is_whole(request):
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        body["return_progress"] = True
    if request.response_format is not None:
        body["response_format"] = _response_format(request.response_format)
    needs: dict[str, str] = {}
    if request.tools and request.tool_choice != "none":
        body["tools"] = _tools(request.tools, request.tool_choice)
        body["tool_choice"] = "auto"
        needs["tools"] = "tools"
    if is_forced(request):
        body["tool_choice"] = "none"
        schema = {"name": "call", "schema": schema_of(body["tools"])}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    encoded = msgspec.json.encode(body)
    tally = Tally.of(encoded, max_tokens=body["max_tokens"])
    return Call(request.model, PATH, encoded, request_id, needs, tally)


def _as_replicas_take(message: Message) -> Message:
    """Say `system` for `developer`: chat templates know only the older word."""
    if message.role == "developer":
        return msgspec.structs.replace(message, role="system")
    return message


def _is_whole(request: ChatRequest) -> bool:
    """Return whether the replica is asked not to stream: it cannot, with these two together."""
    return bool(request.logprobs and request.tools and not request.stream)


def is_forced(request: ChatRequest) -> bool:
    """Return whether the answer has to be a tool call."""
    return request.tool_choice not in (None, "none", "auto")


def _is_bare(request: ChatRequest) -> bool:
    """Return whether log probabilities are wanted without any alternatives."""
    return bool(request.logprobs and not request.top_logprobs)


def is_reshaped(request: ChatRequest) -> bool:
    """Return whether the answer is not what the replica wrote, byte by byte."""
    return is_forced(request) or _is_bare(request)


def _tools(tools: list[Tool], choice: Any) -> list[Tool]:
    """Return the tools to choose from; one that is named is the only one."""
    if not isinstance(choice, NamedToolChoice):
        return tools
    named = [tool for tool in tools if tool.function.name == choice.function.name]
    if not named:
        raise InvalidRequest(
            f"'tool_choice' names '{choice.function.name}', which is not among 'tools'.",
            field="tool_choice",
        )
    return named


def _response_format(wanted: ResponseFormat) -> ResponseFormat:
    if wanted.type == "json_schema" and wanted.json_schema is msgspec.UNSET:
        raise InvalidRequest(
            "'response_format.json_schema' is missing.", field="response_format.json_schema"
        )
    return wanted


def _wants_usage(request: ChatRequest) -> bool:
    return bool(request.stream_options and request.stream_options.include_usage)


async def _answer(forwarder: Forwarder, call: Call, request: ChatRequest) -> dict[str, Any]:
    """Return one choice's answer in the shape that was asked for."""
    answer = await repeated(lambda: _whole_answer(forwarder, call, request), lambda: True)
    answer["model"] = call.model  # the replica's own where it answers for an adapter
    if _is_bare(request):
        drop_alternatives(answer["choices"][0])
    if is_forced(request):
        show_answer(answer)
    return answer


async def _whole_answer(forwarder: Forwarder, call: Call, request: ChatRequest) -> dict[str, Any]:
    """Return one choice's answer as the replica gave it, at once or in pieces."""
    if _is_whole(request):
        answer: dict[str, Any] = msgspec.json.decode(await read_answer(call, forwarder.open(call)))
        return answer
    joiner = ChatJoiner()
    usages: list[Usage] = []
    async with aclosing(_chunks(forwarder, call, usages)) as chunks:
        async for together in chunks:
            for chunk in together:
                joiner.feed(chunk)
    return {**joiner.answer(), "usage": usages[0] if usages else Usage()}


def drop_alternatives(choice: dict[str, Any]) -> None:
    """Leave the chosen tokens' own log probabilities only; engines always give alternatives."""
    for entry in (choice.get("logprobs") or {}).get("content") or ():
        entry["top_logprobs"] = []


async def _relay(exchange: Exchange, forwarder: Forwarder, call: Call, with_usage: bool) -> None:
    """Pass one choice's events through as they come; the usage event only where asked for."""
    ours = model_field(call.model)
    async with forwarder.open(call) as answer:
        theirs = None
        async for events in events_of(answer):
            if theirs is None:
                # The role's piece: OpenAI's has an empty text where llama.cpp's has null.
                events[0] = events[0].replace(b'"content":null', b'"content":""', 1)
                theirs = model_field_in(events[0]) or ours
            if not with_usage:
                events = [event for event in events if not is_usage(event)]
            if events:
                await begin_events(exchange)
                exchange.whole = events[-1].startswith(DONE_EVENT)
                passed = b"".join(events)
                await exchange.write(passed if theirs == ours else passed.replace(theirs, ours))


def is_usage(event: bytes) -> bool:
    """Return whether an event is the one that carries the usage and no choice."""
    return b'"choices":[]' in event and b'"usage":{' in event


async def _stream_choices(
    exchange: Visited, services: Services, calls: list[Call], request: ChatRequest
) -> None:
    """Stream all choices into one answer, told apart by their index."""
    answer_id = f"chatcmpl-{secrets.token_hex(12)}"
    usages: list[Usage] = []

    async def produce(index: int, call: Call, emit: Emit) -> None:
        reader = CallReader() if is_forced(request) else None
        async with aclosing(_chunks(services.forwarder, call, usages)) as chunks:
            async for together in chunks:
                for chunk in together:
                    chunk |= {"id": answer_id, "model": call.model}
                    choice = chunk["choices"][0]
                    choice["index"] = index
                    if _is_bare(request):
                        drop_alternatives(choice)
                    if reader is None or show_chunk(choice, reader):
                        await emit(chunk)

    last: dict[str, Any] = {}

    async def consume(chunk: dict[str, Any]) -> None:
        last.update(chunk)
        await begin_events(exchange)
        await exchange.write(encode_event(msgspec.json.encode(chunk)))

    await interleaved(
        [functools.partial(produce, index, call) for index, call in enumerate(calls)], consume
    )
    if _wants_usage(request):
        await consume({**last, "choices": [], "usage": total(usages)})
    exchange.whole = True
    await exchange.write(DONE_EVENT)


async def _chunks(
    forwarder: Forwarder, call: Call, usages: list[Usage]
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield the chunks of one choice, in lists; its usage goes to `usages`."""
    async with forwarder.open(call) as answer:
        async for payloads in payloads_of(answer):
            chunks = []
            for payload in payloads:
                chunk = _objects.decode(payload)
                if chunk.get("choices"):
                    delta = chunk["choices"][0].setdefault("delta", {})
                    if delta.get("role") and delta.get("content", "") is None:
                        delta["content"] = ""
                    chunks.append(chunk)
                elif (usage := usage_of(payload).usage) is not None:
                    usages.append(usage)
            yield chunks


def total(usages: list[Usage]) -> Usage:
    """Return the usage of several choices of one prompt: the prompt counts once, as at OpenAI."""
    prompt = max((usage.prompt_tokens for usage in usages), default=0)
    generated = sum(usage.completion_tokens for usage in usages)
    return Usage(prompt_tokens=prompt, completion_tokens=generated, total_tokens=prompt + generated)


def merge(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one answer with the choices of several."""
    for index, answer in enumerate(answers):
        answer["choices"][0]["index"] = index
    if len(answers) == 1:
        return answers[0]
    usages = [msgspec.convert(answer["usage"], Usage, from_attributes=True) for answer in answers]
    choices = [answer["choices"][0] for answer in answers]
    return {**answers[0], "choices": choices, "usage": total(usages)}
