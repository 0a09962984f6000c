"""Requests and answers of the inference API, as types.

Ranges are those that the engine can honour; msgspec refuses the rest and names the field.
Source: seed 001 for the native API, OpenAI's API reference for the compatible one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

ModelName = Annotated[str, Meta(min_length=1, max_length=253)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
TokenLimit = Annotated[int, Meta(ge=1, le=2_000_000)]
ChoiceCount = Annotated[int, Meta(ge=1, le=128)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
StopString = Annotated[str, Meta(min_length=1, max_length=1000)]
Stop = StopString | Annotated[list[StopString], Meta(max_length=16)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TokenIds = Annotated[list[TokenId], Meta(min_length=1)]
TokenKey = Annotated[str, Meta(pattern=r"^[0-9]{1,9}$")]
Texts = Annotated[list[str], Meta(min_length=1, max_length=2048)]
TokenIdLists = Annotated[list[TokenIds], Meta(min_length=1, max_length=2048)]


class Sampling(Struct, kw_only=True, omit_defaults=True):
    """How tokens are chosen; what is not given, the platform's default decides."""

    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    min_p: Probability | None = None
    typical_p: Probability | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    ignore_eos: bool | None = None
    grammar: Annotated[str, Meta(min_length=1, max_length=65_536)] | None = None


class InferenceRequest(Sampling, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`POST /inference` and `POST /inference/stream`."""

    model: ModelName
    prompt: Annotated[str, Meta(min_length=1)]
    max_tokens: TokenLimit | None = None
    stream: bool | None = None


class EmbeddingRequest(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`POST /embeddings` and `POST /v1/embeddings`."""

    model: ModelName
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


class LoadRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /models/{id}/load`; fields that are given override the model's present options."""

    gpu_layers: Annotated[int, Meta(ge=-1)] | None = None
    context_size: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    batch_size: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    parallel: Annotated[int, Meta(ge=1, le=1024)] | None = None
    threads: Annotated[int, Meta(ge=1, le=4096)] | None = None


class StreamOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class OpenAIRequest(Sampling, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What chat completions and legacy completions share.

    `user`, `metadata`, `store` and the like concern OpenAI's own bookkeeping and change no answer;
    they are accepted so that clients need not be changed.
    """

    model: ModelName
    max_tokens: TokenLimit | None = None
    n: ChoiceCount | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logit_bias: dict[TokenKey, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    user: str | None = None


class FunctionCall(Struct, kw_only=True, omit_defaults=True):
    """The function that a tool call names, with its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(Struct, kw_only=True):
    """A call that the model asked for. Engines need its type, so defaults are not left out."""

    function: FunctionCall
    id: str = ""
    type: Literal["function"] = "function"
    index: int | UnsetType = UNSET


class ContentPart(Struct, kw_only=True, omit_defaults=True):
    """A part of a message's content; only text is served."""

    type: str
    text: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET


Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Message(Struct, kw_only=True, omit_defaults=True):
    """One message of a conversation. Fields of assistants that clients send back are kept."""

    role: Role
    content: str | list[ContentPart] | None = None
    name: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType | None = UNSET
    tool_call_id: str | UnsetType = UNSET
    reasoning_content: str | UnsetType | None = UNSET


class Function(Struct, kw_only=True, omit_defaults=True):
    """A function that the model may call."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
    description: str = ""
    parameters: dict[str, Any] | UnsetType = UNSET
    strict: bool | UnsetType | None = UNSET


class Tool(Struct, kw_only=True):
    """A tool; only functions are known."""

    type: Literal["function"]
    function: Function


class NamedFunction(Struct, kw_only=True):
    """The function in a named `tool_choice`."""

    name: str


class NamedToolChoice(Struct, kw_only=True):
    """`tool_choice` that names the one function to call."""

    type: Literal["function"]
    function: NamedFunction


class JSONSchema(Struct, kw_only=True, omit_defaults=True):
    """The schema that an answer has to match."""

    name: str = ""
    description: str | None = None
    schema: dict[str, Any] = {}
    strict: bool | None = None


class ResponseFormat(Struct, kw_only=True, omit_defaults=True):
    """OpenAI's `response_format`; llama.cpp's `schema` beside `json_object` is taken too."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchema | UnsetType = UNSET
    schema: dict[str, Any] | UnsetType = UNSET


class ChatRequest(OpenAIRequest, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: TokenLimit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: list[str] | None = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    verbosity: str | None = None


class CompletionRequest(
    OpenAIRequest, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """`POST /v1/completions`."""

    prompt: str | list[Any]
    suffix: str | None = None
    echo: bool | None = None
    best_of: ChoiceCount | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


TokenCount = Annotated[int, Meta(ge=0, le=10**9)]
"""As an engine says it. Servers that others run may say anything; limits are settled with it."""


class Usage(Struct, kw_only=True):
    """Tokens as the engine counted them."""

    prompt_tokens: TokenCount = 0
    completion_tokens: TokenCount = 0
    total_tokens: TokenCount = 0


class TopLogprob(Struct, kw_only=True):
    """One of the likeliest tokens at a place."""

    token: str
    logprob: float


class TokenLogprob(Struct, kw_only=True):
    """A chosen token with its log probability, as the engine gives it."""

    token: str
    logprob: float
    top_logprobs: list[TopLogprob] = []


class ReplicaLogprobs(Struct, kw_only=True):
    """Log probabilities in the engine's answer."""

    content: list[TokenLogprob] | None = None


class ReplicaChoice(Struct, kw_only=True):
    """A choice in a replica's text completion."""

    text: str = ""
    index: int = 0
    finish_reason: str | None = None
    logprobs: ReplicaLogprobs | None = None


class ReplicaCompletion(Struct, kw_only=True):
    """A replica's text completion, or one piece of a streamed one."""

    choices: list[ReplicaChoice] = []
    usage: Usage | None = None


class UsageOnly(Struct, kw_only=True):
    """What accounting needs of any answer."""

    usage: Usage | None = None


class PromptDetails(Struct, kw_only=True):
    """What an engine says of a prompt's tokens."""

    cached_tokens: TokenCount = 0


class DetailedUsage(Usage, kw_only=True):
    """Usage with what only observers want."""

    prompt_tokens_details: PromptDetails | None = None


class CountedUsage(Struct, kw_only=True):
    """What observers need of any answer."""

    usage: DetailedUsage | None = None


def fields_of(request: Struct, exclude: frozenset[str]) -> dict[str, Any]:
    """Return the fields that were given (neither None nor unset), without the excluded."""
    return {
        name: value
        for name in request.__struct_fields__
        if name not in exclude
        and (value := getattr(request, name)) is not None
        and value is not UNSET
    }
