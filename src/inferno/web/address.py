"""Where a request comes from, behind proxies that are trusted and no others."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.types import Scope

from inferno.core.errors import ConfigurationError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
UNKNOWN = "unknown"


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return the networks that a setting names (`10.0.0.0/8`, `127.0.0.1`).

    Raises:
        ConfigurationError: one is no network.
    """
    try:
        return tuple(ipaddress.ip_network(text.strip()) for text in texts)
    except ValueError as error:
        raise ConfigurationError(f"trusted_proxies: {error}") from None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """Return the address of whoever sent a request.

    `X-Forwarded-For` is believed only as far as it was written by trusted proxies: from the right,
    the first address that is not one of theirs. Everything further left is the sender's claim. A
    proxy may add to the sender's line or write one of its own behind it; both count.
    """
    client = scope.get("client")
    address = str(client[0]) if client else UNKNOWN
    if not trusted or not is_within(address, trusted):
        return address
    lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    for claimed in reversed(b",".join(lines).decode("latin-1").split(",")):
        parsed = _parsed(claimed)
        if parsed is None:
            return address
        address = str(parsed)
        if not is_within(address, trusted):
            return address
    return address


def limit_subject(address: str) -> str:
    """Return what requests without credentials count against.

    One customer has a whole /64 of IPv6 addresses; they count as one.
    """
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return f"address:{ipaddress.IPv6Network((int(parsed), 64), strict=False)}"
    return f"address:{address if parsed is None else parsed}"


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address; one of IPv4 as such, also where an IPv6 socket has wrapped it."""
    try:
        parsed = ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def is_within(address: str, trusted: Sequence[Network]) -> bool:
    """Return whether an address is in one of some networks."""
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in trusted)
