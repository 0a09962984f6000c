"""Where deliveries may go: which addresses are asked by us, on behalf of whoever named them.

Whoever names an address makes this machine send requests, and this machine can reach what the
caller cannot. So only addresses of the public internet are open, unless the operator opens more.
`check_url` refuses early what can be told from the text; the defence is `Guard.permits`, asked for
every address that a name resolves to when a delivery is about to connect to exactly that address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, urlsplit

from inferno.core.errors import ConfigurationError, InvalidRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL = 2048
WELL_KNOWN_PORTS = 1024
WEB_PORTS = frozenset({80, 443})

_TEXT = re.compile(r"[!-~]+")
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""NAT64 (RFC 6052): it leads to the IPv4 address in its last four bytes."""

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_CLOSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        # Azure: a public address that every virtual machine there reaches, and nobody else.
        "168.63.129.16/32",
        # Special purposes (RFC 6890 and later) that not every version of Python knows.
        "192.0.0.0/24",
        "192.88.99.0/24",
        "2001::/23",
        "3fff::/20",
        # 6to4 (RFC 7526 has ended it): an IPv4 address in disguise.
        "2002::/16",
    )
)


@dataclass(frozen=True, slots=True)
class Target:
    """What an address says, taken apart.

    Args:
        scheme: `http` or `https`.
        host: lower-case name, or an IP address without brackets.
        port: given, or the scheme's own.
        resource: path and query, as they are sent.
    """

    scheme: str
    host: str
    port: int
    resource: str

    @property
    def authority(self) -> str:
        """What `Host` says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port: what is down when a receiver is down."""
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides where deliveries may go.

    Args:
        networks: opened by the operator, beside the public internet.
        hosts: names whose addresses are open, whatever they are; `*.example.com` for all below.
        setting: with which the operator opens more.
    """

    networks: tuple[Network, ...] = ()
    hosts: tuple[str, ...] = ()
    setting: str = "webhook_allow"

    @classmethod
    def of(cls, allowed: Sequence[str], *, setting: str = "webhook_allow") -> Self:
        """Return the guard that a setting describes.

        Raises:
            ConfigurationError: an entry is neither a network nor a host name.
        """
        networks: list[Network] = []
        hosts: list[str] = []
        for entry in allowed:
            text = entry.strip().lower().rstrip(".")
            try:
                networks.append(ipaddress.ip_network(text.strip("[]")))
                continue
            except ValueError as error:
                if not _HOST_NAME.fullmatch(text.removeprefix("*.")) or _is_numeric(text):
                    raise ConfigurationError(f"{setting}: '{entry}': {error}") from None
            hosts.append(text)
        return cls(tuple(networks), tuple(hosts), setting)

    def permits(self, host: str, address: Address) -> bool:
        """Return whether a delivery to a host may connect to an address."""
        return (
            self.knows(host)
            or any(address in network for network in self.networks)
            or is_public(_meant(address))
        )

    def knows(self, host: str) -> bool:
        """Return whether the operator opened a host by name."""
        return any(
            host == entry or (entry.startswith("*.") and host.endswith(entry[1:]))
            for entry in self.hosts
        )

    def check_url(self, url: str, *, field: str = "webhook_url") -> Target:
        """Return an address taken apart; see the function of that name."""
        return check_url(url, self, field=field)


STRICT = Guard()
"""Nothing but the public internet."""


def check_url(url: str, guard: Guard = STRICT, *, field: str = "webhook_url") -> Target:
    """Refuse an address that deliveries can never go to.

    Args:
        url: the address.
        guard: what the operator opened.
        field: what errors call it.

    Returns:
        The address taken apart.

    Raises:
        InvalidRequest: names the field and what would be right.
    """
    target = _target(_split(url, field), field)
    address = literal(target.host)
    if address is not None and not guard.permits(target.host, address):
        raise InvalidRequest(
            f"'{field}' leads to {address}, an address that is not public. The operator can open "
            f"it with the setting '{guard.setting}'.",
            field=field,
        )
    if address is None and _is_local_name(target.host) and not _may_be_local(guard, target.host):
        raise InvalidRequest(
            f"'{field}' leads to this machine. The operator can open it with the setting "
            f"'{guard.setting}'.",
            field=field,
        )
    opened = guard.knows(target.host) or (address is not None and not is_public(address))
    if target.port < WELL_KNOWN_PORTS and target.port not in WEB_PORTS and not opened:
        raise InvalidRequest(
            f"'{field}' has port {target.port}, which belongs to something else than a web "
            f"server; use 80, 443 or one from {WELL_KNOWN_PORTS} on.",
            field=field,
        )
    return target


def _split(url: str, field: str) -> SplitResult:
    if len(url) > MAX_URL:
        raise InvalidRequest(f"'{field}' is longer than {MAX_URL} characters.", field=field)
    # Control characters, blanks and backslashes are read differently by different parsers.
    if not _TEXT.fullmatch(url) or "\\" in url:
        raise InvalidRequest(
            f"'{field}' must be an absolute http or https URL in ASCII: names in punycode, "
            "everything else percent-encoded.",
            field=field,
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidRequest(f"'{field}' is not a URL: {error}.", field=field) from None
    return parts


def _target(parts: SplitResult, field: str) -> Target:
    if parts.scheme not in ("http", "https"):
        raise InvalidRequest(f"'{field}' must begin with https:// or http://.", field=field)
    if "@" in parts.netloc:
        raise InvalidRequest(f"'{field}' must not hold a user name or password.", field=field)
    if "#" in parts.geturl():
        raise InvalidRequest(f"'{field}' must not have a fragment ('#…').", field=field)
    host = (parts.hostname or "").rstrip(".")
    if literal(host) is None and (not _HOST_NAME.fullmatch(host) or len(host) > 253):
        raise InvalidRequest(f"'{field}' names no host.", field=field)
    port = parts.port if parts.port is not None else {"http": 80, "https": 443}[parts.scheme]
    if port == 0:
        raise InvalidRequest(f"'{field}' has port 0, which nobody can listen on.", field=field)
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, resource)


def literal(host: str) -> Address | None:
    """Return the IP address that a host is written as, or None where it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Return whether an address is one of the public internet's."""
    return (
        address.is_global
        and not address.is_multicast
        and (address.version == 4 or address in _GLOBAL_UNICAST)
        and not any(address in network for network in _CLOSED)
    )


def _meant(address: Address) -> Address:
    """Return the address that is reached: for IPv4 in the clothes of IPv6, that."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def _is_local_name(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def _may_be_local(guard: Guard, host: str) -> bool:
    """Whether this machine itself was opened, by name or by address."""
    loopback = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))
    return any(guard.permits(host, address) for address in loopback)


def _is_numeric(text: str) -> bool:
    """Whether a text can only have been meant as an address."""
    return bool(re.fullmatch(r"[0-9./]+", text))
