"""The smallest HTTP request that a health check needs, without a client library."""

from __future__ import annotations

import asyncio


async def status(host: str, port: int, path: str, *, key: str = "", within: float) -> int:
    """Return the status code of a GET, or 0 when no answer came within that many seconds."""
    try:
        async with asyncio.timeout(within):
            return await _ask(host, port, path, key)
    except (OSError, ValueError, IndexError):  # TimeoutError is an OSError
        return 0


async def _ask(host: str, port: int, path: str, key: str) -> int:
    """Send the request on a fresh connection and read the status line."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        opened = f"Authorization: Bearer {key}\r\n" if key else ""
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{opened}Connection: close\r\n\r\n"
        writer.write(head.encode())
        line = await reader.readline()
        return int(line.split()[1])
    finally:
        writer.transport.abort()
