"""A conversation with a model over `POST /v1/chat/completions`, streamed."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from inferno.cli.client import Client


@dataclass(frozen=True, slots=True)
class Sampling:
    """What every request of a conversation asks for; None leaves it to the server."""

    model: str
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None


@dataclass(slots=True)
class Answer:
    """What the model said so far.

    Args:
        content: the text.
        finish_reason: why it ended (`stop`, `length`, …); None when it was interrupted.
        usage: token counts of the engine.
    """

    content: str = ""
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)

    def add(self, chunk: Any) -> str:
        """Take in one chunk of the stream and return the text that it adds."""
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            text: str = (choice.get("delta") or {}).get("content") or ""
            self.content += text
            return text
        return ""


class Conversation:
    """Asks with all that was said before."""

    def __init__(self, client: Client, sampling: Sampling) -> None:
        self._client = client
        self._sampling = sampling
        self._said: list[dict[str, str]] = []
        self.answer = Answer()

    def clear(self) -> None:
        """Forget what was said."""
        self._said.clear()

    def ask(self, prompt: str) -> Generator[str, None, None]:
        """Yield the answer's text as it comes; `answer` holds all of it.

        Closing the iterator stops the model. What it said until then stays part of the
        conversation; a question that got no answer does not.
        """
        self.answer = Answer()
        question = {"role": "user", "content": prompt}
        try:
            with self._client.events("/v1/chat/completions", self._request(question)) as chunks:
                for chunk in chunks:
                    if text := self.answer.add(chunk):
                        yield text
        finally:
            if self.answer.content:
                reply = {"role": "assistant", "content": self.answer.content}
                self._said += [question, reply]

    def _request(self, question: dict[str, str]) -> dict[str, Any]:
        chosen = self._sampling
        system = [{"role": "system", "content": chosen.system}] if chosen.system else []
        request: dict[str, Any] = {
            "model": chosen.model,
            "messages": [*system, *self._said, question],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if chosen.max_tokens is not None:
            request["max_tokens"] = chosen.max_tokens
        if chosen.temperature is not None:
            request["temperature"] = chosen.temperature
        return request
