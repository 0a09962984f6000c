"""Health tells the truth: at the start, in a drain, without a database."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.clients import Connection, events_of
from tests.acceptance.platform import MODEL, Platform, wait_until
from tests.acceptance.random_models import slow_model
from tests.postgres_server import PostgresServer

PREFIXES = ["", "/v1"]
TOKENS = 300


def ready(url: str) -> tuple[int, dict[str, Any]]:
    response = httpx.get(f"{url}/health/ready", timeout=30)
    return response.status_code, response.json()


def wait_until_ready(platform: Platform) -> None:
    url = platform.url
    wait_until(lambda: ready(url)[0] == 200, 60, "the platform is not ready", platform.log_text)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_nobody_has_to_say_who_it_is(platform: Platform, prefix: str) -> None:
    wait_until_ready(platform)
    url = f"{platform.url}{prefix}/health"
    assert set(httpx.get(url).json()) == {"status", "version", "uptime_seconds", "models_loaded"}
    assert httpx.get(f"{url}/live").json() == {"status": "alive"}
    response = httpx.get(f"{url}/ready")
    checks = {"database": "ok", "models": "ok", "requests": "ok"}
    assert response.json() == {"status": "ready", "checks": checks}
    assert response.headers["cache-control"] == "no-store"


def test_models_of_the_start_are_waited_for(tmp_path: Path) -> None:
    """A pinned model is there before the platform says that it is ready."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "slow.gguf").write_bytes(slow_model())
    config = tmp_path / "config.toml"
    config.write_text('bundled_model = false\n[models."slow"]\npinned = true\n')
    data = tmp_path / "data"
    with Platform(data, "--models-dir", str(models), "--config", str(config)) as platform:
        url, seen = platform.url, set[str]()

        def is_ready() -> bool:
            status, body = ready(url)
            seen.add(body["checks"]["models"])
            return status == 200

        wait_until(is_ready, 60, "the platform is not ready", platform.log_text)
        assert platform.models()["slow"]["loaded"]
        assert seen <= {"loading", "ok"}
        with platform.http() as client:
            client.post("/models/slow/unload").raise_for_status()
        assert ready(url)[0] == 200  # requests would load it


def test_a_broken_model_does_not_keep_the_others_from_being_served(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    config = tmp_path / "config.toml"
    config.write_text('[models."broken"]\npinned = true\n')
    arguments = ["--models-dir", str(models), "--config", str(config)]
    with Platform(tmp_path / "data", *arguments) as platform:
        wait_until_ready(platform)
        assert platform.models()["broken"]["status"] == "failed"


class KeptAlive:
    """A connection on which one request follows another, as those of health checks do."""

    def __init__(self, platform: Platform) -> None:
        place = urlsplit(platform.url)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        self._headers = {"Authorization": f"Bearer {platform.api_key}"}

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        content = None if body is None else json.dumps(body)
        method = "GET" if body is None else "POST"
        self._connection.request(method, path, content, self._headers)
        with self._connection.getresponse() as response:
            return response.status, json.loads(response.read())

    def close(self) -> None:
        self._connection.close()


def test_draining(start: Callable[..., Platform], tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "slow.gguf").write_bytes(slow_model())
    platform = start("--models-dir", str(models), environment={"INFERNO_GRACE_PERIOD": "60"})
    wait_until_ready(platform)
    watcher = KeptAlive(platform)
    assert watcher.ask("/health/ready")[0] == 200
    body = {"model": "slow", "prompt": "Hi", "max_tokens": TOKENS, "ignore_eos": True}
    stream = Connection(platform, "/inference/stream", body)
    stream.read_until(b"data: {")
    assert platform.process is not None
    platform.process.terminate()
    wait_until(lambda: watcher.ask("/health/ready")[0] == 503, 10, "it does not say that it drains")
    status, found = watcher.ask("/health/ready")
    assert (status, found["status"], found["checks"]["requests"]) == (503, "not_ready", "draining")
    assert watcher.ask("/health/live") == (200, {"status": "alive"})
    assert watcher.ask("/health")[1]["status"] == "degraded"
    refused, error = watcher.ask("/inference", {"model": MODEL, "prompt": "Hi"})
    assert refused == 503
    assert "shutting down" in error["error"]["message"]
    assert events_of(stream.read_all())[-1]["usage"]["completion_tokens"] == TOKENS
    assert platform.process.wait(60) == 0  # whoever watches does not hold it up
    assert "Traceback" not in platform.log_text()
    watcher.close()
    stream.leave()


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


class TestPostgres:
    """The whole platform over Postgres, which goes away and comes back."""

    def test_a_database_that_is_lost(
        self, start: Callable[..., Platform], postgres: PostgresServer
    ) -> None:
        platform = start(environment={"INFERNO_DATABASE_URL": postgres.url})
        url, client = platform.url, platform.http()
        wait_until_ready(platform)
        question = {"model": MODEL, "prompt": "Hello", "max_tokens": 4}
        made = client.post("/auth/api-keys", json={"name": "one"}).raise_for_status().json()
        assert client.post("/inference", json=question).status_code == 200

        postgres.stop()
        wait_until(lambda: ready(url)[0] == 503, 10, "it does not say that its database is lost")
        assert ready(url)[1]["checks"] == {"database": "lost", "models": "ok", "requests": "ok"}
        assert httpx.get(f"{url}/health").json()["status"] == "degraded"
        assert httpx.get(f"{url}/health/live").status_code == 200
        # What is served does not depend on it, for keys that are known.
        mine = {"Authorization": f"Bearer {made['api_key']}"}
        assert client.post("/inference", json=question, headers=mine).status_code == 200
        refused = client.post("/auth/api-keys", json={"name": "two"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert str(postgres.folder) not in refused.text

        postgres.start()
        wait_until_ready(platform)
        names = {key["name"] for key in client.get("/auth/api-keys").json()["api_keys"]}
        assert names == {"first key", "one"}
        another = client.post("/auth/api-keys", json={"name": "three"}).raise_for_status().json()
        theirs = {"Authorization": f"Bearer {another['api_key']}"}
        assert client.post("/inference", json=question, headers=theirs).status_code == 200
        client.post(f"/models/{MODEL}/unload").raise_for_status()
        client.post(f"/models/{MODEL}/load").raise_for_status()
        assert client.get("/audit/verify").json()["intact"]
        client.close()
        assert platform.stop() == 0

    def test_a_database_that_hangs(
        self, start: Callable[..., Platform], postgres: PostgresServer
    ) -> None:
        platform = start(environment={"INFERNO_DATABASE_URL": postgres.url}, data="hanging")
        url, client = platform.url, httpx.Client(base_url=platform.url)
        wait_until_ready(platform)
        postgres.freeze()
        try:
            wait_until(lambda: ready(url)[0] == 503, 30, "it does not say that its database hangs")
            question = {"model": MODEL, "prompt": "Hello", "max_tokens": 4}
            assert httpx.get(f"{url}/health/live").status_code == 200
            assert client.get("/health").json()["status"] == "degraded"
            assert httpx.post(f"{url}/inference", json=question).status_code == 401
        finally:
            postgres.thaw()
        wait_until_ready(platform)
        client.close()
        assert platform.stop() == 0

    def test_a_database_that_is_lost_at_the_end(
        self, start: Callable[..., Platform], postgres: PostgresServer
    ) -> None:
        platform = start(environment={"INFERNO_DATABASE_URL": postgres.url}, data="last")
        wait_until_ready(platform)
        postgres.stop()
        try:
            assert platform.stop() == 0
        finally:
            postgres.start()
