"""The two clients: alike, cheap to have, and careful with addresses and keys."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import inferno
from inferno import AsyncClient, Client
from inferno.client import access, batches, inference, models, openai, service, webhooks
from inferno.client.calls import Call, segment
from inferno.client.connection import Settings
from inferno.client.events import StreamCall
from inferno.server.operations import operations

URL = "http://127.0.0.1:1"


def methods_of(thing: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the public methods of a client and of its groups, by name."""
    for name in dir(thing):
        if name.startswith("_"):
            continue
        found = getattr(thing, name)
        if inspect.ismethod(found):
            yield f"{prefix}{name}", found
        elif type(found).__module__.startswith("inferno."):
            yield from methods_of(found, f"{prefix}{name}.")


def test_both_clients_can_do_the_same() -> None:
    blocking, awaited = dict(methods_of(Client(URL))), dict(methods_of(AsyncClient(URL)))
    assert blocking.keys() == awaited.keys()
    for name, method in blocking.items():
        ours, other = inspect.signature(method), inspect.signature(awaited[name])
        assert ours.parameters == other.parameters, name
        assert method.__doc__, name


ELSEWHERE = {
    "GET /": "for people",
    "GET /docs": "for people",
    "GET /audit/export": "a download; its events are `client.audit.events`",
}
"""Operations that the client has no call for, and why; OpenAI's own library has those under /v1."""


def built() -> Iterator[Call[Any]]:
    """Yield a call of each function that describes one, with made-up arguments."""
    for module in (access, batches, inference, models, openai, service, webhooks):
        for name, function in vars(module).items():
            if not inspect.isfunction(function) or function.__module__ != module.__name__:
                continue
            signature = inspect.signature(function)
            if name.startswith("_") or "Call" not in str(signature.return_annotation):
                continue
            needed = [
                parameter
                for parameter in signature.parameters.values()
                if parameter.default is parameter.empty and parameter.kind != parameter.VAR_KEYWORD
            ]
            optional = [
                parameter
                for parameter in signature.parameters.values()
                if parameter.kind == parameter.POSITIONAL_OR_KEYWORD and parameter not in needed
            ]
            for parameters in (needed, [*needed, *optional]):
                made: dict[str, Any] = {parameter.name: "{x}" for parameter in parameters}
                call = function(**{name: {} if name == "limits" else v for name, v in made.items()})
                yield call.call if isinstance(call, StreamCall) else call


def test_every_operation_can_be_called() -> None:
    called = {f"{call.method} {generic(call.path)}" for call in built()}
    served = {
        f"{one.method} {generic(one.path)}" for one in operations() if not is_openai(one.path)
    }
    assert served - called == set(ELSEWHERE)


def generic(path: str) -> str:
    parts = [("*" if "{" in part or "%7B" in part else part) for part in path.split("/")]
    return "/".join(parts)


def is_openai(path: str) -> bool:
    """Whether a path is OpenAI's alone, or another name of a native one."""
    return path.startswith("/v1/") and path not in ("/v1/chat/completions", "/v1/completions")


def test_importing_the_package_loads_no_client() -> None:
    """`inferno --help` imports it too."""
    check = (
        "import inferno, sys; "
        "assert not {'httpx2', 'websockets', 'msgspec', 'inferno.client'} & set(sys.modules); "
        "from inferno import Client, AsyncClient, verify_webhook; "
        "assert 'inferno.client' in sys.modules; "
        "assert not {'inferno.server', 'starlette', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_there_is_nothing_else_in_the_package() -> None:
    with pytest.raises(AttributeError):
        _ = inferno.Nothing


def test_the_environment_says_where_and_as_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INFERNO_URL", raising=False)
    monkeypatch.delenv("INFERNO_API_KEY", raising=False)
    settings = Settings.of(None, None, 1.0, None)
    assert (settings.url, settings.api_key) == ("http://localhost:8080", None)
    assert "authorization" not in settings.headers
    monkeypatch.setenv("INFERNO_URL", "https://platform.example/base/")
    monkeypatch.setenv("INFERNO_API_KEY", "inf_secret")
    settings = Settings.of(None, None, 1.0, None)
    assert settings.headers["authorization"] == "Bearer inf_secret"
    assert settings.socket_url == "wss://platform.example/base/ws"
    assert "inf_secret" not in repr(settings)
    settings = Settings.of("http://other:1", "mine", 1.0, None)
    assert (settings.url, settings.api_key) == ("http://other:1", "mine")


@pytest.mark.parametrize(
    "url",
    ["localhost:8080", "ftp://x", "http://", "http://user:pass@x", "http://x?y", "http://x#y"],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Client(url)


def test_names_stay_within_their_segment() -> None:
    assert segment("../admin?x#y/z") == "..%2Fadmin%3Fx%23y%2Fz"
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="names nothing"):
            segment(name)
