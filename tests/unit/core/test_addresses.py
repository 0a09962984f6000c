"""Where a ModelServer may be."""

from __future__ import annotations

import ipaddress

import pytest

from inferno.core.addresses import is_forbidden, is_forbidden_peer, problem_with


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "127.0.0.1",
        "::1",
        "10.0.0.7",
        "fd12::1",
        "vllm.models.svc",
        "a_b.example.",
        "gpu1",
    ],
)
def test_places_that_servers_are_at(address: str) -> None:
    assert problem_with(address) == ""


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "metadata.google.internal",
        "Metadata.Google.Internal.",
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "2852039166",
        "0xA9FEA9FE",
        "0251.0376.0251.0376",
        "169.254.43518",
        "1.2.3.4.5",
        "http://host",
        "host:80",
        "host/path",
        "user@host",
        "a..b",
        "-a",
        "a b",
        "a\n",
        "ünïcode",
        "[::1]",
        "",
        ".",
        "a" * 64,
    ],
)
def test_places_that_they_are_not_at(address: str) -> None:
    assert problem_with(address) != ""


def test_what_a_name_resolved_to_is_looked_at_as_well() -> None:
    assert is_forbidden(ipaddress.ip_address("169.254.169.254"))
    assert not is_forbidden(ipaddress.ip_address("127.0.0.1"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.0.0.7", ""])
def test_peers_that_may_be_spoken_to(host: str) -> None:
    assert not is_forbidden_peer(host)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1%eth0", "/run/socket"]
)
def test_peers_that_may_not(host: str) -> None:
    assert is_forbidden_peer(host)
