"""Making one answer of a streamed one.

Replicas are always asked to stream, whoever asks us: llama.cpp looks whether its client has left
each time that it has something to send, but only once a second where it has not, and not at all
while it sends to somebody else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from inferno.core.errors import InferenceFailed
from inferno.server.types import ReplicaChoice, ReplicaCompletion, ReplicaLogprobs


class ChatJoiner:
    """Collects the chunks of one chat choice."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._logprobs: list[Any] | None = None
        self._finish_reason: str | None = None

    def feed(self, chunk: dict[str, Any]) -> None:
        """Take the next chunk."""
        self._head = self._head or chunk
        choice = chunk["choices"][0]
        delta = choice["delta"]
        self._content.append(delta.get("content") or "")
        self._reasoning.append(delta.get("reasoning_content") or "")
        for piece in delta.get("tool_calls") or ():
            self._add_tool_call(piece)
        logprobs = (choice.get("logprobs") or {}).get("content")
        if logprobs is not None:
            self._logprobs = [*(self._logprobs or []), *logprobs]
        self._finish_reason = choice.get("finish_reason") or self._finish_reason

    def _add_tool_call(self, piece: dict[str, Any]) -> None:
        call = self._tool_calls.setdefault(
            piece["index"],
            {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
        )
        call["id"] = piece.get("id") or call["id"]
        function = piece.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""

    def answer(self) -> dict[str, Any]:
        """Return the answer, without its usage.

        Raises:
            InferenceFailed: nothing came.
        """
        if not self._head:
            raise InferenceFailed("The replica sent an empty answer.")
        calls = [self._tool_calls[index] for index in sorted(self._tool_calls)]
        text = "".join(self._content)
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        if reasoning := "".join(self._reasoning):
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        choice: dict[str, Any] = {
            "index": 0,
            "message": message,
            "finish_reason": self._finish_reason,
        }
        if self._logprobs is not None:
            choice["logprobs"] = {"content": self._logprobs}
        kept = ("id", "created", "model", "system_fingerprint")
        head = {name: self._head[name] for name in kept if name in self._head}
        return {**head, "object": "chat.completion", "choices": [choice]}


async def join_completion(pieces: AsyncIterator[ReplicaCompletion]) -> ReplicaCompletion:
    """Return the whole of a streamed text completion."""
    joined = ReplicaCompletion()
    choice = ReplicaChoice()
    texts: list[str] = []
    async for piece in pieces:
        joined.usage = piece.usage or joined.usage
        for part in piece.choices:
            texts.append(part.text)
            choice.finish_reason = part.finish_reason or choice.finish_reason
            if part.logprobs is not None and part.logprobs.content:
                known = choice.logprobs.content if choice.logprobs is not None else None
                choice.logprobs = ReplicaLogprobs(content=[*(known or []), *part.logprobs.content])
    choice.text = "".join(texts)
    joined.choices = [choice]
    return joined
