"""Where deliveries may go."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferno.core.errors import ConfigurationError, InvalidRequest
from inferno.webhooks.guard import STRICT, Guard, check_url


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "resource"),
    [
        ("https://example.com", "example.com", 443, "example.com", "/"),
        ("http://Example.COM./a?b=c", "example.com", 80, "example.com", "/a?b=c"),
        ("https://example.com:8443/%20", "example.com", 8443, "example.com:8443", "/%20"),
        ("https://example.com:443/", "example.com", 443, "example.com", "/"),
        ("http://8.8.8.8:443/", "8.8.8.8", 443, "8.8.8.8:443", "/"),
        ("https://[2606:4700::1111]/", "2606:4700::1111", 443, "[2606:4700::1111]", "/"),
        (
            "https://xn--bcher-kva.example/",
            "xn--bcher-kva.example",
            443,
            "xn--bcher-kva.example",
            "/",
        ),
    ],
)
def test_public_addresses_are_taken_apart(
    url: str, host: str, port: int, authority: str, resource: str
) -> None:
    target = check_url(url)
    assert (target.host, target.port) == (host, port)
    assert (target.authority, target.resource) == (authority, resource)


def test_errors_name_the_field_that_the_caller_knows() -> None:
    with pytest.raises(InvalidRequest, match="'callback'") as caught:
        check_url("http://10.0.0.1/", field="callback")
    assert caught.value.field == "callback"


@given(st.text(max_size=100))
def test_any_text_is_refused_or_taken_apart(text: str) -> None:
    for url in (text, f"http://{text}", f"https://example.com{text}", f"http://[{text}]/"):
        try:
            target = check_url(url)
        except InvalidRequest:
            continue
        assert target.host
        assert target.resource.startswith("/")
        assert not set(target.resource + target.authority) & set(" \r\n\t\\#@")


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.169.254", "100.100.100.200",
        "0.0.0.0", "255.255.255.255", "224.0.0.251", "192.0.0.192", "198.18.0.1", "240.0.0.1",
        "168.63.129.16", "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1",
        "fd00:ec2::254", "ff02::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::a00:1", "64:ff9b:1::1", "2002:a00:1::", "2001:db8::1",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe", "::127.0.0.1", "::10.0.0.1", "192.88.99.1",
        "2002:808:808::", "3fff::1", "5f00::1", "100::1", "4000::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_closed(text: str) -> None:
    assert not STRICT.permits("example.com", address(text))


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_open(text: str) -> None:
    assert STRICT.permits("example.com", address(text))


def test_networks_are_opened() -> None:
    guard = Guard.of(["10.0.0.0/8", "127.0.0.1", "fd00::/8"])
    for text in ("10.9.9.9", "127.0.0.1", "fd12::1"):
        assert guard.permits("anything", address(text))
    for text in ("127.0.0.2", "192.168.0.1", "::1", "::ffff:10.9.9.9"):
        assert not guard.permits("anything", address(text))
    guard.check_url("http://127.0.0.1:25/")
    guard.check_url("http://localhost/")
    assert guard.permits("example.com", address("8.8.8.8"))


def test_hosts_are_opened_by_name() -> None:
    guard = Guard.of(["Hooks.Internal.", "*.svc.cluster.local"])
    loopback = address("127.0.0.1")
    for host in ("hooks.internal", "a.svc.cluster.local", "a.b.svc.cluster.local"):
        assert guard.permits(host, loopback)
    for host in ("x.hooks.internal", "svc.cluster.local", "evilsvc.cluster.local", "127.0.0.1"):
        assert not guard.permits(host, loopback)


@pytest.mark.parametrize(
    "entry", ["10.0.0.1/8", "10.0.0", "*", "a*.example.com", "", "http://x/", "-"]
)
def test_what_opens_nothing_is_refused_at_the_start(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="webhook_allow"):
        Guard.of([entry])
