"""A static model server that costs little: every chat gets the same answer.

Prints its port and serves until its input ends. A chat gets its answer at once: whole, or as a
stream of `SHORT` events where one is asked for. One whose `seed` is not 0 gets events at an even
pace, each with a write of its own: `seed` is their number times 1,000 and the pause between two in
milliseconds. Of its model and its load the server speaks as vLLM does; what else is read is `{}`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any

import uvloop

from benchmarks.startup.processes import pin

SHORT = 8

_USAGE = {"prompt_tokens": 200, "completion_tokens": SHORT, "total_tokens": 200 + SHORT}
_NAMES = {"id": "chatcmpl-0123456789abcdef0123456789abcdef", "created": 1, "model": "inferno-tiny"}


def _json(**fields: Any) -> bytes:
    return json.dumps({**_NAMES, **fields}, separators=(",", ":")).encode()


def _answer(body: bytes) -> bytes:
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return (head % len(body)).encode() + body


def _chunk(payload: bytes) -> bytes:
    event = b"data: %b\n\n" % payload
    return b"%x\r\n%b\r\n" % (len(event), event)


def _piece(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _chunk(_json(object="chat.completion.chunk", choices=[choice]))


_MESSAGE = {"role": "assistant", "content": " token" * SHORT}
_WHOLE = _answer(
    _json(
        object="chat.completion",
        choices=[{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
        usage=_USAGE,
    )
)
_NOTHING = _answer(b"{}")
_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_EVENT = _piece({"content": " token"})
_LAST = (
    _piece({}, "stop")
    + _chunk(_json(object="chat.completion.chunk", choices=[], usage=_USAGE))
    + _chunk(b"[DONE]")
    + b"0\r\n\r\n"
)
_SHORT_STREAM = _STREAM + SHORT * _EVENT + _LAST
_MODELS = _answer(
    json.dumps({"object": "list", "data": [{"id": "inferno-tiny", "owned_by": "vllm"}]}).encode()
)
_METRICS = _answer(
    b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
)
_PACE = re.compile(rb'"seed": ?([1-9][0-9]*)')
_STREAMED = re.compile(rb'"stream": ?true')


class Backend(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.loop = asyncio.get_running_loop()
        self.received = b""

    def data_received(self, data: bytes) -> None:
        """Answer when the request is whole."""
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end or len(body) < _content_length(head):
            return
        self.received = b""
        if head.startswith(b"POST"):
            self.answer(body)
        elif head.startswith(b"GET /v1/models "):
            self.transport.write(_MODELS)
        elif head.startswith(b"GET /metrics "):
            self.transport.write(_METRICS)
        else:
            self.transport.write(_NOTHING)

    def answer(self, body: bytes) -> None:
        """Answer a chat."""
        if (pace := _PACE.search(body)) is not None:
            events, milliseconds = divmod(int(pace[1]), 1000)
            self.transport.write(_STREAM)
            self.send_events(events, milliseconds / 1000)
        else:
            self.transport.write(_SHORT_STREAM if _STREAMED.search(body) else _WHOLE)

    def send_events(self, left: int, pause: float) -> None:
        """Send an event now and the next one after the pause."""
        if self.transport.is_closing():
            return
        if left:
            self.transport.write(_EVENT)
            self.loop.call_later(pause, self.send_events, left - 1, pause)
        else:
            self.transport.write(_LAST)


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length: ")
    return int(rest.partition(b"\r\n")[0]) if found else 0


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Backend, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    pin(1)
    uvloop.run(main())
