"""Settings of outside issuers: what is refused, and what they are read from."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from inferno.core.errors import ConfigurationError
from inferno.core.tenancy import Role
from inferno.identity.issuer_settings import IssuerSettings
from tests.unit.identity.world import NAME, URL, outside


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": ""},
        {"audience": ""},
        {"audience": ()},
        {"audience": ("a", "")},
        {"jwks_url": ...},
        {"public_key": "x"},
        {"jwks_url": "http://id.example.com/keys"},
        {"jwks_url": "http://127.0.0.1.example.com/keys"},
        {"jwks_url": "http://localhost@example.com/keys"},
        {"jwks_url": "https://user@example.com/keys"},
        {"jwks_url": "file:///etc/passwd"},
        {"jwks_url": "ftp://localhost/keys"},
        {"jwks_url": "https://"},
        {"jwks_url": "https://[::1"},
        {"algorithms": ()},
        {"algorithms": ("HS256",)},
        {"algorithms": ("RS256", "none")},
        {"default_role": Role.ADMIN},
        {"default_tenant": "../x"},
        {"tenants": ("a/b",)},
        {"leeway_seconds": -1},
        {"leeway_seconds": 301},
    ],
)
def test_settings_that_are_not_safe_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        outside(**changes)


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]:8000"])
def test_keys_on_this_machine_need_no_tls(host: str) -> None:
    assert outside(jwks_url=f"http://{host}/keys")


def test_settings_are_read_from_tables() -> None:
    table = {"issuer": NAME, "audience": ["a", "b"], "jwks_url": URL, "role_map": {"ops": "admin"}}
    read = msgspec.convert(table, IssuerSettings)
    assert read.audiences == ("a", "b")
    assert read.role_map == {"ops": Role.ADMIN}
    for unknown in ({"jwks_uri": URL}, {"role_map": {"ops": "root"}}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(table | unknown, IssuerSettings)


def test_settings_need_no_cryptography() -> None:
    code = "import sys, inferno.identity.issuer_settings; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
