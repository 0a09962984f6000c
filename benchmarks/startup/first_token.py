"""One streamed chat on a plain socket, up to its first token: a client that costs nothing."""

from __future__ import annotations

import json
import re
import socket

from inferno.gateway.upstream import Address

_CONTENT = re.compile(rb'"content": ?"[^"]')


def wait_for_first_token(address: Address, key: str, model: str) -> None:
    """Ask for a streamed answer and return when its first token is here.

    Raises:
        SystemExit: there was none; says what came instead.
    """
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    content = {"model": model, "messages": messages, "max_tokens": 8, "stream": True}
    body = json.dumps(content).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    received = b""
    with socket.create_connection((address.host, address.port), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        while not _CONTENT.search(received):
            data = connection.recv(65536)
            if not data:
                raise SystemExit(f"No token came:\n{received.decode('utf-8', 'replace')}")
            received += data
