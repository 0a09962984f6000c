"""Limits over HTTP: requests, tokens, places, addresses; in memory and in Redis."""

from __future__ import annotations

import asyncio
import math
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.access import (
    NO_MODEL,
    Key,
    as_caller,
    bearer,
    make_caller,
    make_key,
    make_user,
)
from tests.acceptance.platform import MODEL, Platform, wait_until

HEADERS = [
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-reset-after",
]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    environment = {**NO_MODEL, "INFERNO_TRUSTED_PROXIES": "127.0.0.1"}
    with Platform(tmp_path_factory.mktemp("limits") / "data", environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def generating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("tokens") / "data") as running:
        yield running


def from_address(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


def check_headers(answer: httpx.Response, *, remaining: int, limit: int = 60) -> None:
    values = {name: answer.headers[name] for name in HEADERS}
    assert all(value.isascii() and value.isdecimal() for value in values.values()), values
    assert int(values["x-ratelimit-limit"]) == limit
    assert int(values["x-ratelimit-remaining"]) == remaining
    after = int(values["x-ratelimit-reset-after"])
    assert 0 < after <= 60
    # It was true when it was said; a busy machine reads it later.
    assert time.time() + after - 60 < int(values["x-ratelimit-reset"]) <= time.time() + after + 1


async def ask_at_once(url: str, count: int, **headers: str) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(timeout=120, limits=limits, headers=headers) as client:
        return await asyncio.gather(*(client.get(url) for _ in range(count)))


def test_every_answer_says_how_the_caller_stands(doors: Platform) -> None:
    key = make_caller(doors, "standing")
    with as_caller(doors, key.secret) as client:
        answers = [
            client.get("/auth/me"),
            client.post("/inference", content=b"{"),
            client.get("/nothing"),
            client.get("/auth/users"),
            client.head("/models"),
        ]
    assert [answer.status_code for answer in answers] == [200, 400, 404, 403, 200]
    for used, answer in enumerate(answers, start=1):
        check_headers(answer, remaining=60 - used)
    with as_caller(doors, key.secret, management=True) as client:
        check_headers(client.get("/nothing"), remaining=54)


async def test_exactly_sixty_requests_a_minute_pass(doors: Platform) -> None:
    make_user(doors, "sixty")
    key = make_key(doors, "sixty", limits={"concurrent_requests": -1})
    begun = time.time()
    answers = await ask_at_once(f"{doors.url}/models", 200, **bearer(key.secret))
    passed = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(passed), len(refused)) == (60, 140)
    remaining = sorted(int(answer.headers["x-ratelimit-remaining"]) for answer in passed)
    assert remaining == list(range(60))
    for answer in refused:
        check_headers(answer, remaining=0)
        error = answer.json()["error"]
        seconds = error["retry_after"]
        assert error["code"] == "RATE_LIMIT_EXCEEDED"
        assert error["message"] == f"Rate limit exceeded. Please retry after {seconds} seconds."
        assert answer.headers["retry-after"] == str(seconds)
        assert error["details"]["limit"] == "requests_per_minute"
        assert 60 - math.ceil(time.time() - begun) <= seconds <= 60
    with doors.http() as admin:
        used = admin.get("/auth/api-keys").json()
        assert used
        admin.delete("/auth/rate-limits/usage/sixty").raise_for_status()
    with as_caller(doors, key.secret) as client:
        used = client.get("/auth/me").json()["used"]
    assert used["requests_per_minute"] == 1
    assert used["concurrent_requests"] == 1


def test_openais_clients_are_told_in_their_words(doors: Platform) -> None:
    make_user(doors, "openai")
    key = make_key(doors, "openai", limits={"requests_per_minute": 1})
    with as_caller(doors, key.secret) as client:
        client.get("/v1/models").raise_for_status()
        answer = client.get("/v1/models")
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert int(answer.headers["retry-after"]) > 0


def test_the_hour_is_limited_too(doors: Platform) -> None:
    make_user(doors, "hourly")
    limits = {"requests_per_minute": -1, "requests_per_hour": 2}
    key = make_key(doors, "hourly", limits=limits)
    with as_caller(doors, key.secret) as client:
        answers = [client.get("/models") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["x-ratelimit-limit"] == "2"
    assert int(answers[2].headers["retry-after"]) > 3500


def test_a_refused_request_consumes_nothing(doors: Platform) -> None:
    make_user(doors, "patient")
    key = make_key(doors, "patient", limits={"requests_per_minute": 3, "requests_per_hour": 100})
    with as_caller(doors, key.secret) as client:
        statuses = [client.get("/models").status_code for _ in range(20)]
    assert statuses == [200] * 3 + [429] * 17
    raised = {"limits": {"requests_per_minute": 5}}
    with doors.http() as admin:
        admin.patch(f"/auth/api-keys/{key.id}", json=raised).raise_for_status()
    with as_caller(doors, key.secret) as client:
        used = client.get("/auth/me").json()["used"]
    assert (used["requests_per_minute"], used["requests_per_hour"]) == (4, 4)


def test_the_admin_has_no_limit_unless_one_is_set(start: Callable[..., Platform]) -> None:
    platform = start(environment=NO_MODEL)
    with platform.http() as admin:
        answers = [admin.get("/models") for _ in range(100)]
        assert {answer.status_code for answer in answers} == {200}
        assert not set(HEADERS) & set(answers[0].headers)
        path = "/auth/rate-limits/role/admin"
        admin.put(path, json={"requests_per_minute": 2}).raise_for_status()
        assert [admin.get("/models").status_code for _ in range(3)] == [200, 200, 429]


def test_without_authentication_nothing_is_limited(start: Callable[..., Platform]) -> None:
    platform = start("--no-auth", environment=NO_MODEL)
    with httpx.Client(base_url=platform.url) as client:
        answers = [client.get("/models") for _ in range(80)]
    assert {answer.status_code for answer in answers} == {200}
    assert not set(HEADERS) & set(answers[0].headers)


@pytest.mark.parametrize("scope", ["key", "user", "role", "tenant"])
def test_limits_apply_at_once_wherever_they_are_set(doors: Platform, scope: str) -> None:
    name = f"by-{scope}"
    make_user(doors, name, tenant=name, role="service" if scope == "role" else "user")
    key = make_key(doors, name)
    path, method, wrap = {
        "key": (f"/auth/api-keys/{key.id}", "PATCH", True),
        "user": (f"/auth/users/{name}", "PATCH", True),
        "role": ("/auth/rate-limits/role/service", "PUT", False),
        "tenant": (f"/auth/rate-limits/tenant/{name}", "PUT", False),
    }[scope]
    with doors.http() as admin, as_caller(doors, key.secret) as client:
        assert client.get("/auth/me").headers["x-ratelimit-limit"] == "60"
        for limit in (7, 3):
            limits: Any = {"requests_per_minute": limit}
            body = {"limits": limits} if wrap else limits
            admin.request(method, path, json=body).raise_for_status()
            assert client.get("/auth/me").headers["x-ratelimit-limit"] == str(limit)
        admin.request(method, path, json={"limits": {}} if wrap else {}).raise_for_status()
        assert client.get("/auth/me").status_code == 200


def test_the_narrowest_limit_counts(doors: Platform) -> None:
    make_user(doors, "narrow", tenant="many")
    key = make_key(doors, "narrow", limits={"requests_per_minute": 9})
    with doors.http() as admin, as_caller(doors, key.secret) as client:
        for scope, limit in (("tenant/many", 5), ("role/user", 6)):
            body = {"requests_per_minute": limit}
            admin.put(f"/auth/rate-limits/{scope}", json=body).raise_for_status()
        admin.patch("/auth/users/narrow", json={"limits": {"requests_per_minute": 8}})
        assert client.get("/auth/me").headers["x-ratelimit-limit"] == "9"
        admin.patch(f"/auth/api-keys/{key.id}", json={"limits": {}})
        assert client.get("/auth/me").headers["x-ratelimit-limit"] == "8"
        admin.patch("/auth/users/narrow", json={"limits": {}})
        assert client.get("/auth/me").headers["x-ratelimit-limit"] == "6"
        admin.put("/auth/rate-limits/role/user", json={}).raise_for_status()
        assert client.get("/auth/me").headers["x-ratelimit-limit"] == "5"


class TestStrangers:
    def test_are_limited_by_their_address(self, doors: Platform) -> None:
        url = f"{doors.url}/models"
        with httpx.Client(headers=from_address("203.0.113.1")) as client:
            statuses = [client.get(url).status_code for _ in range(62)]
            assert statuses == [401] * 60 + [429] * 2
            last = client.get(url)
            check_headers(last, remaining=0)
            assert last.json()["error"]["code"] == "RATE_LIMIT_EXCEEDED"
            key = make_caller(doors, "neighbour")
            right = client.get(url, headers=bearer(key.secret))
            assert right.status_code == 200, "whoever is known is not a stranger"
        with httpx.Client(headers=from_address("203.0.113.2")) as client:
            assert client.get(url).status_code == 401

    def test_cannot_claim_another_address(self, doors: Platform) -> None:
        url = f"{doors.url}/models"
        with httpx.Client() as client:
            for i in range(70):
                claimed = f"198.51.100.{i}, 203.0.113.9"
                answer = client.get(url, headers=from_address(claimed))
            assert answer.status_code == 429
            lines = [("X-Forwarded-For", "198.51.100.200"), ("X-Forwarded-For", "203.0.113.9")]
            assert client.get(url, headers=lines).status_code == 429, "a proxy's own line counts"

    def test_share_their_network_where_it_is_ipv6(self, doors: Platform) -> None:
        url = f"{doors.url}/models"
        with httpx.Client() as client:
            for i in range(61):
                answer = client.get(url, headers=from_address(f"2001:db8:1:2::{i:x}"))
            assert answer.status_code == 429
            other = client.get(url, headers=from_address("2001:db8:1:3::1"))
            assert other.status_code == 401

    def test_are_believed_nothing_without_a_trusted_proxy(
        self, start: Callable[..., Platform]
    ) -> None:
        platform = start(environment=NO_MODEL)
        with httpx.Client() as client:
            statuses = [
                client.get(
                    f"{platform.url}/models", headers=from_address(f"198.51.100.{i}")
                ).status_code
                for i in range(62)
            ]
        assert statuses == [401] * 60 + [429] * 2
        with httpx.Client(headers=from_address("192.0.2.1")) as client:
            assert client.get(f"{platform.management_url}/nothing").status_code == 429

    def test_do_not_use_up_the_health_check(self, doors: Platform) -> None:
        with httpx.Client(headers=from_address("203.0.113.77")) as client:
            statuses = {client.get(f"{doors.url}/health").status_code for _ in range(80)}
        assert statuses == {200}


def used(platform: Platform, key: Key) -> dict[str, int]:
    with as_caller(platform, key.secret) as client:
        return dict(client.get("/auth/me").json()["used"])


def until_alone(platform: Platform, key: Key) -> dict[str, int]:
    """Wait until no request of the key's runs but the one that asks, and return what is used."""
    wait_until(lambda: used(platform, key)["concurrent_requests"] == 1, 20, "a place is not back")
    return used(platform, key)


FREE = {"requests_per_minute": -1, "requests_per_hour": -1}


def token_key(platform: Platform, name: str, tokens: int, **limits: int) -> Key:
    make_user(platform, name)
    return make_key(platform, name, limits={**FREE, "tokens_per_minute": tokens, **limits})


class TestTokens:
    def test_are_settled_to_the_engines_count(self, generating: Platform) -> None:
        key = token_key(generating, "settled", 5000)
        body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 8}
        total = 0
        with as_caller(generating, key.secret) as client:
            for stream in (False, True):
                options = {"stream": stream, "stream_options": {"include_usage": True}}
                body_sent = {**body, **(options if stream else {})}
                answer = client.post("/v1/completions", json=body_sent)
                assert answer.status_code == 200, answer.text
                if not stream:
                    total += answer.json()["usage"]["total_tokens"]
            total *= 2
        assert until_alone(generating, key)["tokens_per_minute"] == pytest.approx(total, abs=8)

    def test_that_do_not_fit_are_refused_and_nothing_is_used(self, generating: Platform) -> None:
        key = token_key(generating, "unfit", 200)
        fits = {"model": MODEL, "prompt": "Hi", "max_tokens": 120, "ignore_eos": True}
        with as_caller(generating, key.secret) as client:
            client.post("/inference", json=fits).raise_for_status()
            before = used(generating, key)
            answer = client.post("/inference", json=fits)
            assert answer.status_code == 429
            assert answer.json()["error"]["details"]["limit"] == "tokens_per_minute"
            assert 0 < int(answer.headers["retry-after"]) <= 60
            assert used(generating, key) == before
            small = client.post("/inference", json={**fits, "max_tokens": 4})
            assert small.status_code == 200

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"model": MODEL, "prompt": 1}, 400),
            ({"model": "nobody", "prompt": "Hi"}, 404),
            ({"model": MODEL, "prompt": "long " * 20_000}, 400),
        ],
        ids=["malformed", "unknown model", "too long"],
    )
    def test_of_a_failed_request_are_none(
        self, generating: Platform, body: dict[str, Any], status: int
    ) -> None:
        key = token_key(generating, f"failed-{status}-{len(str(body))}", 100_000)
        with as_caller(generating, key.secret) as client:
            assert client.post("/inference", json=body).status_code == status
        assert until_alone(generating, key)["tokens_per_minute"] == 0

    def test_of_a_client_that_leaves_are_those_it_was_sent(self, generating: Platform) -> None:
        key = token_key(generating, "leaver", 100_000)
        reserved = 1500
        body = {
            "model": MODEL,
            "prompt": "Once upon a time",
            "max_tokens": reserved,
            "stream": True,
            "ignore_eos": True,
        }
        with as_caller(generating, key.secret) as client:
            with client.stream("POST", "/v1/completions", json=body) as answer:
                assert answer.status_code == 200
                lines = answer.iter_lines()
                for _ in range(12):
                    next(lines)
            counted = until_alone(generating, key)["tokens_per_minute"]
        assert 0 < counted < reserved


@asynccontextmanager
async def streams(platform: Platform, key: Key, count: int) -> AsyncIterator[list[int]]:
    """Hold so many endless streams open."""
    body = {"model": MODEL, "prompt": "Hi", "max_tokens": 1800, "stream": True, "ignore_eos": True}
    async with httpx.AsyncClient(
        base_url=platform.url, headers=bearer(key.secret), timeout=120
    ) as client:
        requests = [
            await client.send(
                client.build_request("POST", "/inference/stream", json=body), stream=True
            )
            for _ in range(count)
        ]
        try:
            yield [request.status_code for request in requests]
        finally:
            for request in requests:
                await request.aclose()


class TestPlaces:
    async def test_come_back_when_clients_leave(self, generating: Platform) -> None:
        key = token_key(generating, "places", -1, concurrent_requests=2)
        for _ in range(2):
            async with streams(generating, key, 2) as statuses:
                assert statuses == [200, 200]
                with as_caller(generating, key.secret) as client:
                    refused = client.get("/models")
                assert refused.status_code == 429
                assert refused.json()["error"]["details"]["limit"] == "concurrent_requests"
                assert int(refused.headers["retry-after"]) >= 1

            def is_free() -> bool:
                with as_caller(generating, key.secret) as client:
                    return client.get("/models").status_code == 200

            wait_until(is_free, 20, "the places did not come back")
        assert until_alone(generating, key)["concurrent_requests"] == 1

    def test_come_back_when_requests_fail(self, generating: Platform) -> None:
        key = token_key(generating, "failing", -1, concurrent_requests=2)
        with as_caller(generating, key.secret) as client:
            for path in ("/inference", "/nothing", "/auth/users", "/v1/completions") * 3:
                assert client.post(path, content=b"{").status_code in (400, 403, 404, 405)
        assert used(generating, key)["concurrent_requests"] == 1

    def test_come_back_when_a_client_leaves_its_body_unsent(self, generating: Platform) -> None:
        key = token_key(generating, "unsent", -1, concurrent_requests=1)
        head = f"POST /inference HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key.secret}\r\n"
        address = httpx.URL(generating.url)
        for _ in range(3):
            with socket.create_connection((address.host, address.port or 80)) as connection:
                connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
                time.sleep(0.1)

        def is_free() -> bool:
            with as_caller(generating, key.secret) as client:
                return client.get("/models").status_code == 200

        wait_until(is_free, 20, "the place did not come back")

    def test_come_back_when_the_replica_dies(self, start: Callable[..., Platform]) -> None:
        platform = start()
        key = token_key(platform, "crash", -1, concurrent_requests=1)
        body = {"model": MODEL, "prompt": "Hi", "max_tokens": 1800, "ignore_eos": True}
        with as_caller(platform, key.secret) as client:
            client.post("/inference", json={**body, "max_tokens": 1}).raise_for_status()
            with client.stream("POST", "/inference/stream", json=body) as answer:
                assert answer.status_code == 200
                for child in platform.replicas():
                    child.kill()
                list(answer.iter_lines())
        assert until_alone(platform, key)["concurrent_requests"] == 1


REDIS = shutil.which("redis-server")


class Redis:
    """A Redis server of the test's own, on a socket in the file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "r.sock"
        self.url = f"unix://{self.path}"

    def start(self) -> None:
        assert REDIS is not None
        command = [REDIS, "--port", "0", "--unixsocket", str(self.path), "--save", ""]
        self._process = subprocess.Popen(
            [*command, "--dir", str(self._folder)], stdout=subprocess.DEVNULL
        )
        wait_until(self.path.exists, 20, "Redis did not start")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(20)
        self.path.unlink(missing_ok=True)


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    if REDIS is None:
        pytest.fail("redis-server is not installed: apt-get install redis-server")
    server = Redis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


class TestRedis:
    async def test_processes_share_one_limit(
        self, start: Callable[..., Platform], redis: Redis, tmp_path: Path
    ) -> None:
        first = start(data="one", environment=NO_MODEL)
        make_user(first, "shared")
        limits = {"concurrent_requests": -1}
        key = make_key(first, "shared", limits=limits)
        first.stop()
        # The second process knows the same users: it begins with a copy of their data.
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        environment = {**NO_MODEL, "INFERNO_REDIS_URL": redis.url}
        both = [start(data=name, environment=environment) for name in ("one", "two")]
        answers = await asyncio.gather(
            *(ask_at_once(f"{one.url}/models", 60, **bearer(key.secret)) for one in both)
        )
        statuses = [answer.status_code for answered in answers for answer in answered]
        assert (statuses.count(200), statuses.count(429)) == (60, 60)
        (one_more,) = await ask_at_once(f"{both[0].url}/models", 1, **bearer(key.secret))
        check_headers(one_more, remaining=0)
        with both[0].http() as admin:
            admin.delete("/auth/rate-limits/usage/shared").raise_for_status()
        assert used(both[1], key)["requests_per_minute"] == 1

    @pytest.mark.parametrize(("failure", "status"), [("open", 200), ("closed", 503)])
    def test_what_happens_without_it_is_a_setting(
        self, start: Callable[..., Platform], redis: Redis, failure: str, status: int
    ) -> None:
        environment = {"INFERNO_REDIS_URL": redis.url, "INFERNO_REDIS_FAILURE": failure}
        platform = start(environment=NO_MODEL | environment)
        key = make_caller(platform, "caller")
        with as_caller(platform, key.secret) as client:
            assert client.get("/models").status_code == 200
            redis.stop()
            away = client.get("/models")
            assert away.status_code == status, away.text
            if status == 503:
                assert int(away.headers["retry-after"]) >= 1
                assert str(redis.path) not in away.text
            assert client.get("/health").status_code == 200
            redis.start()
            wait_until(
                lambda: "x-ratelimit-limit" in client.get("/models").headers,
                30,
                "Redis is not used again",
            )
