"""Addresses of servers that a user names: what they may look like and where they must not lead.

Whoever may create a `ModelServer` makes this platform open connections. Servers on loopback and in
private networks are what it is for; the addresses below belong to the machine's surroundings, above
all the metadata services that hand out a cloud machine's credentials. A name that passes here can
still resolve to one of them: whoever connects asks `is_forbidden_peer` of what it is connected to.
"""

from __future__ import annotations

import ipaddress
import re

_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_]{0,61}[A-Za-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")

FORBIDDEN = "must not be link-local, multicast or unspecified, nor a metadata service"

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA_SERVICES = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254"))
)
"""Metadata services outside the link-local networks: Alibaba, Oracle, Azure, Amazon."""

_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data"})

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_6TO4 = ipaddress.ip_network("2002::/16")


def problem_with(address: str) -> str:
    """Return what is wrong with a host name or IP address, or nothing."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return problem_with_name(address)
    if getattr(ip, "scope_id", None):
        return "must not have a zone"
    return FORBIDDEN if is_forbidden(ip) else ""


def problem_with_name(name: str) -> str:
    """Return what is wrong with a host name, or nothing."""
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        return "must be a host name or an IP address, without scheme, port or path"
    if _NUMBER.fullmatch(labels[-1]):
        # `0x7f.1`, `2130706433`: resolvers read these as addresses, each in its own way.
        return "must be a host name, or an IPv4 address of four decimal numbers"
    if name.removesuffix(".").lower() in _METADATA_NAMES:
        return FORBIDDEN
    return ""


def is_forbidden(ip: IPAddress) -> bool:
    """Return whether no model server can be at an address, however it is written."""
    inner = _within(ip)
    if inner is not None:
        return is_forbidden(inner)
    is_nowhere = ip.is_link_local or ip.is_multicast or ip.is_unspecified
    return is_nowhere or ip in _METADATA_SERVICES or str(ip) == "255.255.255.255"


def is_forbidden_peer(host: str) -> bool:
    """Return whether no model server can be at the other end of a connection.

    Args:
        host: its IP address, as a socket gives it; empty where the connection has ended.
    """
    try:
        return bool(host) and is_forbidden(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return True


def _within(ip: IPAddress) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in _6TO4:
        return ip.sixtofour
    return ip.ipv4_mapped
