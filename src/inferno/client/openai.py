"""The OpenAI-compatible calls: chat and legacy completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import msgspec

from inferno.client.calls import Call, post, reader
from inferno.client.errors import UnexpectedAnswer
from inferno.client.events import StreamCall, event
from inferno.client.inference import Sampling, Usage

DONE = "[DONE]"


class OpenAIOptions(Sampling, total=False):
    """What both calls take besides."""

    n: int
    logit_bias: dict[str, float]
    user: str


class ChatOptions(OpenAIOptions, total=False):
    """What a chat takes besides its messages; what it means is in OpenAI's reference."""

    max_completion_tokens: int
    logprobs: bool
    top_logprobs: int
    response_format: Mapping[str, Any]
    tools: Sequence[Mapping[str, Any]]
    tool_choice: str | Mapping[str, Any]
    parallel_tool_calls: bool
    reasoning_effort: str
    chat_template_kwargs: Mapping[str, Any]
    metadata: Mapping[str, Any]


class CompletionOptions(OpenAIOptions, total=False):
    """What a legacy completion takes besides its prompt."""

    suffix: str
    echo: bool
    best_of: int
    logprobs: int


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """The function that a tool call names; its arguments are JSON text."""

    name: str = ""
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the model asks for."""

    function: Function
    id: str = ""
    type: str = "function"


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message; an answer's can be sent back as it is."""

    role: str
    content: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning_content: str | None = None


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    message: ChatMessage
    index: int = 0
    finish_reason: str | None = None
    logprobs: Any = None


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer to a conversation."""

    id: str
    model: str
    created: int
    choices: list[ChatChoice]
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.choices[0].message.content or ""


class FunctionDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a function's name or arguments."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a tool call."""

    index: int
    id: str | None = None
    function: FunctionDelta = FunctionDelta()


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a message."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of one answer."""

    delta: Delta
    index: int = 0
    finish_reason: str | None = None
    logprobs: Any = None


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a streamed chat; printed, it is its first choice's text."""

    id: str
    model: str
    created: int
    choices: list[ChunkChoice]
    usage: Usage | None = None

    def __str__(self) -> str:
        return (self.choices[0].delta.content or "") if self.choices else ""


class TextChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One completion, or a piece of it."""

    text: str
    index: int = 0
    finish_reason: str | None = None
    logprobs: Any = None


class TextCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to a legacy completion, or an event of a streamed one."""

    id: str
    model: str
    created: int
    choices: list[TextChoice]
    usage: Usage | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.choices[0].text if self.choices else ""


_read_chat = reader(Chat)
_read_chunk = reader(ChatChunk)
_read_text = reader(TextCompletion)


class _ChatParts:
    """What has come of one choice."""

    def __init__(self) -> None:
        self.role = "assistant"
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, dict[str, str]] = {}
        self.logprobs: list[Any] = []
        self.finish_reason: str | None = None

    def add(self, choice: ChunkChoice) -> None:
        """Take a piece."""
        delta = choice.delta
        self.role = delta.role or self.role
        self.content.append(delta.content or "")
        self.reasoning.append(delta.reasoning_content or "")
        for piece in delta.tool_calls or ():
            call = self.calls.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
            call["id"] = piece.id or call["id"]
            call["name"] += piece.function.name or ""
            call["arguments"] += piece.function.arguments or ""
        if isinstance(choice.logprobs, dict):
            self.logprobs += choice.logprobs.get("content") or ()
        self.finish_reason = choice.finish_reason or self.finish_reason

    def choice(self, index: int) -> ChatChoice:
        """Return what the pieces make."""
        calls = [
            ToolCall(id=c["id"], function=Function(name=c["name"], arguments=c["arguments"]))
            for _, c in sorted(self.calls.items())
        ]
        message = ChatMessage(
            role=self.role,
            content="".join(self.content) or (None if calls else ""),
            reasoning_content="".join(self.reasoning) or None,
            tool_calls=calls or None,
        )
        logprobs = {"content": self.logprobs} if self.logprobs else None
        return ChatChoice(
            index=index, message=message, finish_reason=self.finish_reason, logprobs=logprobs
        )


class ChatChunks:
    """Reads the events of a streamed chat."""

    def __init__(self) -> None:
        self._last: ChatChunk | None = None
        self._usage: Usage | None = None
        self._parts: dict[int, _ChatParts] = {}
        self.result: Chat | None = None

    def read(self, data: str) -> ChatChunk | None:
        """Take an event; return the chunk in it, if it is one."""
        if data == DONE:
            self.result = self._joined()
            return None
        self._last = chunk = event(data, _read_chunk)
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices:
            self._parts.setdefault(choice.index, _ChatParts()).add(choice)
        return chunk

    def _joined(self) -> Chat:
        if self._last is None:
            raise UnexpectedAnswer("The stream had no chunk in it.")
        return Chat(
            id=self._last.id,
            model=self._last.model,
            created=self._last.created,
            choices=[self._parts[index].choice(index) for index in sorted(self._parts)],
            usage=self._usage,
        )


class TextChunks:
    """Reads the events of a streamed legacy completion."""

    def __init__(self) -> None:
        self._last: TextCompletion | None = None
        self._usage: Usage | None = None
        self._texts: dict[int, list[str]] = {}
        self._reasons: dict[int, str | None] = {}
        self.result: TextCompletion | None = None

    def read(self, data: str) -> TextCompletion | None:
        """Take an event; return the piece in it, if it is one."""
        if data == DONE:
            self.result = self._joined()
            return None
        self._last = chunk = event(data, _read_text)
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices:
            self._texts.setdefault(choice.index, []).append(choice.text)
            known = self._reasons.get(choice.index)
            self._reasons[choice.index] = choice.finish_reason or known
        return chunk

    def _joined(self) -> TextCompletion:
        if self._last is None:
            raise UnexpectedAnswer("The stream had no piece in it.")
        choices = [
            TextChoice(text="".join(texts), index=index, finish_reason=self._reasons[index])
            for index, texts in sorted(self._texts.items())
        ]
        return msgspec.structs.replace(self._last, choices=choices, usage=self._usage)


Messages = Sequence[Mapping[str, Any] | ChatMessage]


class _StreamOptions(TypedDict):
    stream: bool
    stream_options: dict[str, bool]


_STREAMED: _StreamOptions = {"stream": True, "stream_options": {"include_usage": True}}


def chat(*, model: str, messages: Messages, **options: Unpack[ChatOptions]) -> Call[Chat]:
    """Answer a conversation.

    Args:
        model: its id.
        messages: as OpenAI's API has them; `ChatMessage`s of earlier answers too.
        options: see `ChatOptions`.
    """
    body = {"model": model, "messages": messages, **options}
    return post("/v1/chat/completions", _read_chat, body, repeatable=True)


def stream_chat(
    *, model: str, messages: Messages, **options: Unpack[ChatOptions]
) -> StreamCall[ChatChunk, Chat]:
    """Answer a conversation, piece by piece.

    Args:
        model: its id.
        messages: as OpenAI's API has them.
        options: see `ChatOptions`.

    Returns:
        A stream of chunks, to be used in a `with`; leaving it early ends the work.
    """
    body = {"model": model, "messages": messages, **options, **_STREAMED}
    call = post("/v1/chat/completions", bytes, body, repeatable=True)
    return StreamCall(call=call, reader=ChatChunks)


def completions(
    *, model: str, prompt: str | Sequence[Any], **options: Unpack[CompletionOptions]
) -> Call[TextCompletion]:
    """Complete a prompt, or several.

    Args:
        model: its id.
        prompt: a text, texts, or token ids.
        options: see `CompletionOptions`.
    """
    body = {"model": model, "prompt": prompt, **options}
    return post("/v1/completions", _read_text, body, repeatable=True)


def stream_completions(
    *, model: str, prompt: str | Sequence[Any], **options: Unpack[CompletionOptions]
) -> StreamCall[TextCompletion, TextCompletion]:
    """Complete a prompt, or several, piece by piece.

    Args:
        model: its id.
        prompt: a text, texts, or token ids.
        options: see `CompletionOptions`.
    """
    body = {"model": model, "prompt": prompt, **options, **_STREAMED}
    return StreamCall(call=post("/v1/completions", bytes, body, repeatable=True), reader=TextChunks)
