"""Whose request it is, where proxies stand in between."""

from __future__ import annotations

import pytest
from starlette.types import Scope

from inferno.core.errors import ConfigurationError
from inferno.web.address import client_address, limit_subject, networks

TRUSTED = networks(["10.0.0.0/8", "192.0.2.1", "2001:db8:ffff::/48"])


def request(client: str | None, *forwarded: str) -> Scope:
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    return {
        "type": "http",
        "client": (client, 1) if client is not None else None,
        "headers": [(b"host", b"x"), *headers],
    }


@pytest.mark.parametrize(
    ("client", "forwarded", "address"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.1.2.3", ["10.4.4.4, 10.5.5.5"], "10.4.4.4"),
        ("10.1.2.3", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["198.51.100.1", "10.9.9.9"], "198.51.100.1"),
        ("10.1.2.3", ["rubbish"], "10.1.2.3"),
        ("10.1.2.3", ["6.6.6.6, rubbish"], "10.1.2.3"),
        ("10.1.2.3", ["6.6.6.6,"], "10.1.2.3"),
        ("10.1.2.3", [""], "10.1.2.3"),
        ("10.1.2.3", ["é"], "10.1.2.3"),
        ("10.1.2.3", ["2001:db8::1"], "2001:db8::1"),
        ("10.1.2.3", ["[2001:db8::1]"], "2001:db8::1"),
        ("2001:db8:ffff::9", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6, ::ffff:198.51.100.1"], "198.51.100.1"),
        (None, ["198.51.100.1"], "unknown"),
    ],
)
def test_the_address_is_the_first_that_no_trusted_proxy_has(
    client: str | None, forwarded: list[str], address: str
) -> None:
    assert client_address(request(client, *forwarded), TRUSTED) == address


def test_nobody_is_believed_by_default() -> None:
    assert client_address(request("127.0.0.1", "198.51.100.1"), ()) == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "subject"),
    [
        ("203.0.113.5", "address:203.0.113.5"),
        ("::ffff:203.0.113.5", "address:203.0.113.5"),
        ("2001:db8:1:2:3::4", "address:2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "address:2001:db8:1:2::/64"),
        ("fe80::1%eth0", "address:fe80::/64"),
        ("::1", "address:::/64"),
        ("unknown", "address:unknown"),
    ],
)
def test_what_one_customer_has_counts_as_one(address: str, subject: str) -> None:
    assert limit_subject(address) == subject


@pytest.mark.parametrize("text", ["everybody", "10.0.0.1/8", "10.0.0.0/33", ""])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        networks([text])
