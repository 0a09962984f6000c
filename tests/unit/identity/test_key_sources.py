"""Keys of an issuer over HTTP: rotation, outages, slowness and floods."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from inferno.core.errors import AuthenticationFailed
from inferno.core.tenancy import Principal
from inferno.identity.issuer_settings import IssuerSettings
from inferno.identity.issuers import OutsideIssuers
from inferno.identity.key_sources import (
    MAX_AGE_SECONDS,
    REFRESH_SECONDS,
    RETRY_SECONDS,
    fetch_over_http,
)
from tests.unit.identity import forge
from tests.unit.identity.forge import rs256

NOW = 1_800_000_000
NAME = "https://id.example.com/"


class KeyServer:
    """A JWKS endpoint that can be told to misbehave."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests: list[str] = []
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                server.asked.set()
                server.may_answer.wait(20)
                self.send_response(server.status if self.path != "/elsewhere" else 200)
                for name, value in server.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(server.body)))
                self.end_headers()
                self.wfile.write(server.body)

            def log_message(self, *_: Any) -> None:
                """Keep the output of the tests clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.may_answer.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.close()


class Platform:
    """What trusts the issuer at a key server, on a clock of its own."""

    def __init__(self, server: KeyServer, wait: float = 5.0) -> None:
        self.monotonic = 0.0
        self.issuers = OutsideIssuers(
            [IssuerSettings(issuer=NAME, audience="inferno", jwks_url=server.url)],
            clock=lambda: NOW,
            monotonic=lambda: self.monotonic,
            wait=wait,
        )

    async def accepts(self, token: str) -> bool:
        try:
            return isinstance(await self.issuers.verify(token), Principal)
        except AuthenticationFailed:
            return False

    async def refuses(self, token: str) -> bool:
        return not await self.accepts(token)


@pytest.fixture
def platform(server: KeyServer) -> Platform:
    return Platform(server)


def signed(key: rsa.RSAPrivateKey, key_id: str, subject: str = "s1") -> str:
    claims = {"iss": NAME, "aud": "inferno", "sub": subject, "tenant": "red", "exp": NOW + 60}
    return forge.token({"alg": "RS256", "kid": key_id}, claims, rs256(key))


def published(*keys: tuple[rsa.RSAPrivateKey, str]) -> bytes:
    return forge.key_set(*(forge.jwk(key, kid=key_id) for key, key_id in keys))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(2000):
        if await condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


async def test_a_new_key_is_noticed_when_a_token_names_it(
    server: KeyServer,
    platform: Platform,
    rsa_key: rsa.RSAPrivateKey,
    other_rsa_key: rsa.RSAPrivateKey,
) -> None:
    server.body = published((rsa_key, "old"))
    assert await platform.accepts(signed(rsa_key, "old"))
    server.body = published((rsa_key, "old"), (other_rsa_key, "new"))
    platform.monotonic += RETRY_SECONDS
    assert await platform.accepts(signed(other_rsa_key, "new"))
    assert await platform.accepts(signed(rsa_key, "old"))
    assert len(server.requests) == 2


async def test_a_removed_key_is_refused_after_the_refresh(
    server: KeyServer,
    platform: Platform,
    rsa_key: rsa.RSAPrivateKey,
    other_rsa_key: rsa.RSAPrivateKey,
) -> None:
    server.body = published((rsa_key, "old"))
    remembered = signed(rsa_key, "old")
    assert await platform.accepts(remembered)
    server.body = published((other_rsa_key, "new"))
    platform.monotonic += REFRESH_SECONDS - 1
    assert await platform.accepts(remembered)
    assert len(server.requests) == 1
    platform.monotonic += 1
    assert await platform.accepts(remembered)  # begins the refresh, does not wait for it
    await until(lambda: platform.refuses(remembered))
    assert len(server.requests) == 2
    assert not await platform.accepts(signed(rsa_key, "old", "another"))
    assert await platform.accepts(signed(other_rsa_key, "new"))


async def test_a_key_replaced_under_its_name_is_the_new_one(
    server: KeyServer,
    platform: Platform,
    rsa_key: rsa.RSAPrivateKey,
    other_rsa_key: rsa.RSAPrivateKey,
) -> None:
    server.body = published((rsa_key, "k"))
    token = signed(rsa_key, "k")
    assert await platform.accepts(token)
    server.body = published((other_rsa_key, "k"))
    platform.monotonic += RETRY_SECONDS
    assert not await platform.accepts(signed(rsa_key, "unknown"))  # begins a fetch
    assert not await platform.accepts(token)
    assert await platform.accepts(signed(other_rsa_key, "k"))


@pytest.mark.parametrize("failure", ["down", "error", "garbage", "no keys", "large"])
async def test_keys_at_hand_outlive_an_outage(
    server: KeyServer, platform: Platform, rsa_key: rsa.RSAPrivateKey, failure: str
) -> None:
    server.body = published((rsa_key, "k"))
    assert await platform.accepts(signed(rsa_key, "k"))
    if failure == "down":
        server.close()
    server.status = 500 if failure == "error" else 200
    server.body = {"garbage": b"<html>", "large": b" " * (1 << 21)}.get(failure, b'{"keys":[]}')
    for _ in range(5):
        platform.monotonic += REFRESH_SECONDS
        assert not await platform.accepts(signed(rsa_key, "unknown"))
        assert await platform.accepts(signed(rsa_key, "k"))
        assert await platform.accepts(signed(rsa_key, "k", "never seen"))
    platform.monotonic = MAX_AGE_SECONDS - 1
    assert await platform.accepts(signed(rsa_key, "k"))
    platform.monotonic = MAX_AGE_SECONDS
    assert not await platform.accepts(signed(rsa_key, "k"))


async def test_keys_are_trusted_again_after_the_outage(
    server: KeyServer, platform: Platform, rsa_key: rsa.RSAPrivateKey
) -> None:
    server.status = 503
    server.body = published((rsa_key, "k"))
    assert not await platform.accepts(signed(rsa_key, "k"))
    server.status = 200
    assert not await platform.accepts(signed(rsa_key, "k"))
    platform.monotonic += RETRY_SECONDS
    assert await platform.accepts(signed(rsa_key, "k"))
    platform.monotonic += 10 * MAX_AGE_SECONDS
    assert await platform.accepts(signed(rsa_key, "k"))


async def test_a_slow_server_holds_up_only_those_who_need_it_and_not_for_long(
    server: KeyServer, rsa_key: rsa.RSAPrivateKey
) -> None:
    platform = Platform(server, wait=0.3)
    server.body = published((rsa_key, "k"))
    assert await platform.accepts(signed(rsa_key, "k"))
    platform.monotonic += RETRY_SECONDS
    server.may_answer.clear()
    started = time.monotonic()
    unknown = asyncio.create_task(platform.accepts(signed(rsa_key, "unknown")))
    await asyncio.sleep(0)
    assert await platform.accepts(signed(rsa_key, "k", "another"))
    assert not unknown.done()
    assert not await unknown
    assert 0.25 < time.monotonic() - started < 3
    # Those who come later do not wait again for the fetch that is late.
    platform.monotonic += RETRY_SECONDS
    started = time.monotonic()
    assert not await platform.accepts(signed(rsa_key, "unknown"))
    assert time.monotonic() - started < 0.25
    assert len(server.requests) == 2


async def test_a_late_answer_is_used_all_the_same(
    server: KeyServer, rsa_key: rsa.RSAPrivateKey
) -> None:
    platform = Platform(server, wait=0.05)
    server.body = published((rsa_key, "k"))
    server.may_answer.clear()
    assert not await platform.accepts(signed(rsa_key, "k"))
    server.may_answer.set()
    await until(lambda: platform.accepts(signed(rsa_key, "k")))
    assert len(server.requests) == 1


async def test_a_flood_of_unknown_keys_is_one_fetch(
    server: KeyServer, platform: Platform, rsa_key: rsa.RSAPrivateKey
) -> None:
    server.body = published((rsa_key, "k"))
    tokens = [signed(rsa_key, f"unknown-{i}") for i in range(20)]
    answers = await asyncio.gather(*(platform.accepts(tokens[i % 20]) for i in range(1000)))
    assert not any(answers)
    assert len(server.requests) == 1
    answers = await asyncio.gather(*(platform.accepts(tokens[i % 20]) for i in range(1000)))
    assert not any(answers)
    assert len(server.requests) == 1
    platform.monotonic += RETRY_SECONDS
    await asyncio.gather(*(platform.accepts(tokens[i % 20]) for i in range(1000)))
    assert len(server.requests) == 2


async def test_right_tokens_that_come_first_all_wait_for_one_fetch(
    server: KeyServer, platform: Platform, rsa_key: rsa.RSAPrivateKey
) -> None:
    server.body = published((rsa_key, "k"))
    token = signed(rsa_key, "k")
    assert all(await asyncio.gather(*(platform.accepts(token) for _ in range(200))))
    assert len(server.requests) == 1


async def test_one_who_leaves_does_not_take_the_others_along(
    server: KeyServer, platform: Platform, rsa_key: rsa.RSAPrivateKey
) -> None:
    server.body = published((rsa_key, "k"))
    server.may_answer.clear()
    first, second = (asyncio.create_task(platform.accepts(signed(rsa_key, "k"))) for _ in range(2))
    await asyncio.to_thread(server.asked.wait)
    first.cancel()
    server.may_answer.set()
    assert await second
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_fetch_that_breaks_in_any_way_wakes_those_who_wait() -> None:
    def broken(_: str) -> bytes:
        raise KeyError("a fault")

    issuers = OutsideIssuers(
        [IssuerSettings(issuer=NAME, audience="inferno", jwks_url="https://x.example/keys")],
        broken,
        clock=lambda: NOW,
        wait=20,
    )
    claims = {"iss": NAME, "aud": "inferno", "sub": "s", "tenant": "red", "exp": NOW + 60}
    token = forge.token({"alg": "RS256"}, claims, forge.constant(b"x"))
    async with asyncio.timeout(5):
        with pytest.raises(AuthenticationFailed):
            await issuers.verify(token)


async def test_only_so_many_tokens_are_remembered(
    server: KeyServer, rsa_key: rsa.RSAPrivateKey
) -> None:
    server.body = published((rsa_key, "k"))
    issuers = OutsideIssuers(
        [IssuerSettings(issuer=NAME, audience="inferno", jwks_url=server.url)],
        clock=lambda: NOW,
        remember=3,
    )
    for i in range(10):
        assert await issuers.verify(signed(rsa_key, "k", f"s{i}"))
    assert issuers.remembered == 3


# --- over HTTP ----------------------------------------------------------------------------------


def test_what_is_there_is_fetched(server: KeyServer) -> None:
    server.body = b'{"keys":[]}' * 1000
    assert fetch_over_http(server.url) == server.body


def test_a_redirect_on_the_same_host_is_followed(server: KeyServer) -> None:
    server.status, server.headers, server.body = 302, {"Location": "/elsewhere"}, b"x"
    assert fetch_over_http(server.url) == b"x"
    assert server.requests == ["/keys", "/elsewhere"]


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:{port}/elsewhere",
        "http://127.0.0.2:{port}/elsewhere",
        "https://127.0.0.1:{port}/elsewhere",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "data:,x",
        "//127.0.0.3/elsewhere",
    ],
)
def test_redirects_elsewhere_are_not_followed(server: KeyServer, target: str) -> None:
    port = server.url.split(":")[2].split("/")[0]
    server.status, server.headers = 302, {"Location": target.format(port=port)}
    with pytest.raises(OSError, match=r"redirect|allowed"):
        fetch_over_http(server.url)
    assert server.requests == ["/keys"]


@pytest.mark.parametrize("status", [204, 400, 401, 404, 500])
def test_failures_are_failures(server: KeyServer, status: int) -> None:
    server.status = status
    if status == 204:
        assert fetch_over_http(server.url) == b""
    else:
        with pytest.raises(OSError, match=str(status)):
            fetch_over_http(server.url)


def test_too_much_is_refused(server: KeyServer) -> None:
    server.body = b" " * (1 << 20)
    assert len(fetch_over_http(server.url)) == 1 << 20
    server.body += b" "
    with pytest.raises(ValueError, match="1 MiB"):
        fetch_over_http(server.url)


@pytest.mark.parametrize("url", ["http://example.com/", "file:///etc/passwd", "data:,x", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        fetch_over_http(url)
