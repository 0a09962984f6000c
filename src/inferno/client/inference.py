"""Completions and embeddings of the native API (seed 001)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Unpack

import msgspec

from inferno.client.calls import Call, post, reader
from inferno.client.events import StreamCall, event


class Sampling(TypedDict, total=False):
    """How tokens are chosen; what is not given, the platform's defaults decide."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    typical_p: float
    repeat_penalty: float
    repeat_last_n: int
    presence_penalty: float
    frequency_penalty: float
    seed: int
    stop: str | list[str]
    ignore_eos: bool
    grammar: str


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the engine counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One completion."""

    text: str
    index: int = 0
    finish_reason: str | None = None


class Inference(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    model: str
    choices: list[Choice]
    usage: Usage
    created: int
    processing_time_ms: int

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.choices[0].text


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a streamed answer; printed, it is its text."""

    token: str
    index: int

    def __str__(self) -> str:
        return self.token


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What a streamed answer came to.

    Args:
        text: all of it.
        finish_reason: `stop`, `length`; `cancelled` on a WebSocket.
        usage: None where the platform did not say.
        request_id: under which the platform's log has it; WebSocket only.
        processing_time_ms: likewise.
    """

    text: str
    finish_reason: str
    usage: Usage | None = None
    request_id: str | None = None
    processing_time_ms: int | None = None


class _Event(msgspec.Struct):
    """An event of `/inference/stream`."""

    token: str | None = None
    index: int = 0
    done: bool = False
    finish_reason: str = "stop"
    usage: Usage | None = None


_read_event = reader(_Event)


class Tokens:
    """Reads the events of `/inference/stream`."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.result: Completion | None = None

    def read(self, data: str) -> Token | None:
        """Take an event; return the token in it, if it is one."""
        found = event(data, _read_event)
        if found.token is not None:
            self._texts.append(found.token)
            return Token(token=found.token, index=found.index)
        if found.done:
            text = "".join(self._texts)
            self.result = Completion(
                text=text, finish_reason=found.finish_reason, usage=found.usage
            )
        return None


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """The embedding of one text: numbers, or their base64 where that was asked for."""

    embedding: list[float] | str
    index: int = 0


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """Embeddings in the order of the texts."""

    data: list[Embedding]
    model: str = ""
    usage: Usage = Usage()

    @property
    def vectors(self) -> list[list[float]]:
        """The numbers alone."""
        return [one.embedding for one in self.data if isinstance(one.embedding, list)]


_read_inference = reader(Inference)
_read_embeddings = reader(Embeddings)


def inference(*, model: str, prompt: str, **sampling: Unpack[Sampling]) -> Call[Inference]:
    """Complete a prompt; the answer comes in one piece.

    Args:
        model: its id.
        prompt: to complete.
        sampling: how tokens are chosen; see `Sampling`.

    Raises:
        ClientError: any of the tree.
    """
    body = {"model": model, "prompt": prompt, **sampling}
    return post("/inference", _read_inference, body, repeatable=True)


def stream(
    *, model: str, prompt: str, **sampling: Unpack[Sampling]
) -> StreamCall[Token, Completion]:
    """Complete a prompt, token by token.

    Args:
        model: its id.
        prompt: to complete.
        sampling: how tokens are chosen; see `Sampling`.

    Returns:
        A stream of tokens, to be used in a `with`; leaving it early ends the work.
    """
    body = {"model": model, "prompt": prompt, **sampling, "stream": True}
    return StreamCall(call=post("/inference/stream", bytes, body, repeatable=True), reader=Tokens)


def embeddings(
    *,
    model: str,
    input: str | Sequence[Any],  # noqa: A002 - its name in the API
    encoding_format: Literal["float", "base64"] = "float",
) -> Call[Embeddings]:
    """Embed a text, texts, or lists of token ids.

    Args:
        model: its id.
        input: what to embed.
        encoding_format: `base64` is the numbers as 32-bit floats, little-endian.
    """
    body = {"model": model, "input": input, "encoding_format": encoding_format}
    return post("/embeddings", _read_embeddings, body, repeatable=True)
