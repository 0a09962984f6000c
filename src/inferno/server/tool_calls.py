"""Forced tool calls: `tool_choice` "required", or one that names a function.

Engines let a model write as it likes before the call that it has to make, and a small one never
gets there. So the model is held to a JSON schema, `{"name": …, "arguments": …}`, which leaves it
no way round, and what it writes is shown as the tool call that it is.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

import msgspec

from inferno.server.types import Tool

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')


def schema_of(tools: list[Tool]) -> dict[str, Any]:
    """Return the JSON schema of a call of one of the tools."""
    return {"anyOf": [_call_schema(tool, f"#/anyOf/{i}") for i, tool in enumerate(tools)]}


def _call_schema(tool: Tool, place: str) -> dict[str, Any]:
    parameters: Any = tool.function.parameters
    if parameters is msgspec.UNSET:
        parameters = {"type": "object"}
    return {
        "type": "object",
        "properties": {
            "name": {"const": tool.function.name},
            "arguments": _moved(parameters, f"{place}/properties/arguments"),
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str) -> Any:
    """Return a schema with its references to itself adapted to its new place in another one."""
    if isinstance(schema, list):
        return [_moved(entry, place) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, place) for key, value in schema.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = place + reference[1:]
    return moved


class CallReader:
    """Reads the text of a forced call as it comes and says what it adds to the tool call."""

    def __init__(self) -> None:
        self._head = ""
        self._depth = 0
        self._ended = False
        self._in_string = False
        self._escaped = False

    def feed(self, text: str) -> dict[str, Any] | None:
        """Take the next piece; return what it adds to the tool call, None where that is nothing."""
        if self._ended:
            return None
        if self._depth:
            arguments = self._arguments(text)
            return {"index": 0, "function": {"arguments": arguments}} if arguments else None
        self._head += text
        head = _HEAD.match(self._head)
        if head is None:
            return None
        self._depth = 1
        return {
            "index": 0,
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {
                "name": msgspec.json.decode(head[1]),
                "arguments": self._arguments(self._head[head.end() :]),
            },
        }

    def _arguments(self, text: str) -> str:
        """Return the part of a piece that comes before the brace that ends the call."""
        for place, character in enumerate(text):
            if self._in_string:
                self._in_string = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    self._ended = True
                    return text[:place].rstrip()
        return text


def show_answer(answer: dict[str, Any]) -> None:
    """Turn the text of a whole answer into its tool call."""
    choice = answer["choices"][0]
    message = choice["message"]
    call = CallReader().feed(message["content"] or "")
    message["content"] = None
    if call is not None:
        del call["index"]
        message["tool_calls"] = [call]
    _show_reason(choice)


def show_chunk(choice: dict[str, Any], reader: CallReader) -> bool:
    """Turn the text of a streamed choice's next piece into that of its tool call.

    Returns:
        Whether there is anything to show.
    """
    delta = choice["delta"]
    call = reader.feed(delta.pop("content", None) or "")
    if delta.get("role"):
        delta["content"] = None
    if call is not None:
        delta["tool_calls"] = [call]
    _show_reason(choice)
    return bool(delta) or choice["finish_reason"] is not None


def _show_reason(choice: dict[str, Any]) -> None:
    if choice["finish_reason"] == "stop":
        choice["finish_reason"] = "tool_calls"
