"""What of the settings is announced, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inferno.assembly.announcing import check, profile, public_url
from inferno.core.errors import ConfigurationError
from inferno.settings import Settings

NEAR, FAR = "http://127.0.0.1:8085", "https://registry.example.com"


def settings(**given: Any) -> Settings:
    return Settings(data_dir=Path("/data"), **{"register": FAR, **given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"register": "registry.example"}, "register: a registry has a URL like"),
        ({"register": "ftp://registry.example"}, "a registry has a URL like"),
        ({"register": "//u:p@registry.example"}, "a registry has a URL like"),
        ({"register": "https://u:p@registry.example"}, "INFERNO_REGISTER_TOKEN"),
        ({"register": "https://registry.example/?a=b"}, "no user, query or fragment"),
        ({"public_url": "east"}, "public_url: 'inference_server_public_url' must be a URL"),
        ({"public_url": "https://u:p@east.example"}, "public_url: "),
        ({"register_name": "a\nb"}, "register_name: "),
        ({"register_tags": ["a" * 256]}, "register_tags: "),
        ({"register_metadata": {"$a": 1}}, "register_metadata: "),
        ({"register_metadata": {"a": "x" * 70_000}}, "larger than"),
        ({"register_token_file": Path("/nowhere/token")}, "register_token_file: No such file"),
    ],
)
def test_what_no_registry_would_take_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(settings(**given))
    assert message in caught.value.message
    assert "u:p" not in caught.value.message


def test_a_platform_that_is_not_announced_needs_nothing() -> None:
    check(Settings(data_dir=Path("/data"), public_url="whatever"))


@pytest.mark.parametrize(
    ("given", "url", "expected"),
    [
        ({}, "http://127.0.0.1:8080", ""),
        ({"register": NEAR}, "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ({"register": "http://[::1]:8085"}, "http://[::1]:8080", "http://[::1]:8080"),
        ({}, "http://0.0.0.0:8080", ""),
        ({"register": NEAR}, "http://[::]:8080", ""),
        ({}, "https://10.0.0.7:8080", "https://10.0.0.7:8080"),
        ({"public_url": "https://a.example/"}, "http://0.0.0.0:8080", "https://a.example"),
    ],
)
def test_only_an_address_that_others_can_reach_is_announced(
    given: dict[str, Any], url: str, expected: str
) -> None:
    assert public_url(settings(**given), url) == expected


def test_a_name_tells_platforms_on_one_machine_apart() -> None:
    one, other = (profile(settings(), f"http://127.0.0.1:{port}").name for port in (1, 2))
    assert one != other
    assert profile(settings(register_name="east"), "http://127.0.0.1:1").name == "east"
