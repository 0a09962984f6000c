"""Names to addresses, without anybody having to wait for a name server that does not answer."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable

from inferno.webhooks.guard import Address, literal

Resolve = Callable[[str], Awaitable[list[Address]]]


async def resolve(host: str) -> list[Address]:
    """Return the addresses of a host, the system's preferred ones first.

    Each look-up has a thread of its own: in a shared pool, a few names whose servers do not
    answer would keep everybody else's waiting. Whoever is cancelled leaves the thread to its end.

    Raises:
        OSError: there are none.
    """
    address = literal(host)
    if address is not None:
        return [address]
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Address]] = loop.create_future()

    def settle(addresses: list[Address], error: OSError | None) -> None:
        if found.done():
            return
        if error is not None:
            found.set_exception(error)
        else:
            found.set_result(addresses)

    def look_up() -> None:
        addresses: list[Address] = []
        failure: OSError | None = None
        try:
            for *_, sockaddr in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
                addresses.append(ipaddress.ip_address(sockaddr[0]))
        except (OSError, ValueError) as error:
            failure = OSError(str(error))
        try:
            loop.call_soon_threadsafe(settle, addresses, failure)
        except RuntimeError:  # the loop is gone, and with it whoever asked
            return

    threading.Thread(target=look_up, name="webhook-resolve", daemon=True).start()
    return list(dict.fromkeys(await found))
