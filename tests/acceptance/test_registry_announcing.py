"""Platforms that announce themselves in another one's registry, and what happens to both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import structlog

from inferno.registry.announcing import Announcer, Pace
from inferno.registry.entries import Document
from inferno.registry.remote import RemoteRegistry
from tests.acceptance.access import NO_MODEL, UNLIMITED, as_caller, make_caller
from tests.acceptance.platform import MODEL, Platform, free_port, wait_until
from tests.acceptance.watchers import Watchers

ID, NAME, URL = "inference_server_id", "inference_server_name", "inference_server_public_url"
FACTS = "inference_server_metadata"
PACE = Pace(look=0.02, first=0.02, longest=0.1, refused=0.05, withdraw=5)
SECONDS = 20.0


def entries(platform: Platform) -> list[dict[str, Any]]:
    """Return what a platform's registry has."""
    with as_caller(platform, platform.api_key, management=True) as client:
        return list(client.post("/inference_servers", json={}).raise_for_status().json()["data"])


class Announced:
    """An announcer of this process, and what it announces."""

    def __init__(self, registry: RemoteRegistry, id_: str, **fields: Any) -> None:
        self.entry: Document = {"ttl_seconds": 60, FACTS: {}, NAME: "", URL: "", **fields}
        self.announcer = Announcer(registry, id_, self._describe, ttl=0.15, pace=PACE)

    async def _describe(self) -> Document:
        return dict(self.entry)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what the announcer does beside us."""
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - the registry is elsewhere
            await asyncio.sleep(0.02)


def events(logs: list[Any]) -> list[str]:
    """Return what was logged, by name."""
    return [log["event"] for log in logs]


@asynccontextmanager
async def calling(platform: Platform, token: str) -> AsyncIterator[RemoteRegistry]:
    """Give a registry as the holder of a token calls it."""
    remote = RemoteRegistry(platform.management_url, lambda: token)
    try:
        yield remote
    finally:
        await remote.close()


def one(platform: Platform, id_: str) -> dict[str, Any]:
    """Return an entry, or nothing where there is none."""
    return next((entry for entry in entries(platform) if entry[ID] == id_), {})


async def test_an_entry_is_kept_true_comes_back_and_is_withdrawn(directory: Platform) -> None:
    async with calling(directory, directory.api_key) as remote:
        announced = Announced(remote, "kept")
        async with announced.announcer.announcing():
            await until(lambda: one(directory, "kept"))
            announced.entry |= {FACTS: {"models": [{"id": "new"}]}}
            await until(lambda: one(directory, "kept")[FACTS] == {"models": [{"id": "new"}]})
            before = one(directory, "kept")["expires_at"]
            await until(lambda: one(directory, "kept")["expires_at"] > before)
            await remote.delete("kept")
            await until(lambda: one(directory, "kept"))
    assert one(directory, "kept") == {}


async def test_a_restart_finds_its_entry(directory: Platform) -> None:
    async with calling(directory, directory.api_key) as remote:
        await remote.create({ID: "again", NAME: "again", "ttl_seconds": 60, FACTS: {"old": True}})
        announced = Announced(remote, "again", **{NAME: "again", FACTS: {"old": False}})
        async with announced.announcer.announcing():
            await until(lambda: one(directory, "again")[FACTS] == {"old": False})
            assert len([entry for entry in entries(directory) if entry[NAME] == "again"]) == 1
    assert one(directory, "again") == {}


async def test_a_name_that_is_anothers_is_told_once_and_waited_for(directory: Platform) -> None:
    other, mine = (make_caller(directory, name).secret for name in ("other", "mine"))
    async with calling(directory, other) as theirs, calling(directory, mine) as remote:
        await theirs.create({ID: "theirs", NAME: "east"})
        with structlog.testing.capture_logs() as logs:
            async with Announced(remote, "ours", **{NAME: "east"}).announcer.announcing():
                await until(lambda: "registry_refuses" in events(logs))
                await asyncio.sleep(0.2)
                assert one(directory, "ours") == {}
                await theirs.delete("theirs")
                await until(lambda: one(directory, "ours"))
    (told,) = [log for log in logs if log["event"] == "registry_refuses"]
    assert told["hint"] == "choose another register_name; it is tried again"
    assert NAME in told["reason"]


async def test_an_entry_of_somebody_else_is_never_touched(directory: Platform) -> None:
    other, mine = (make_caller(directory, name).secret for name in ("owner", "taker"))
    async with calling(directory, other) as theirs, calling(directory, mine) as remote:
        await theirs.create({ID: "same-id", NAME: "same-id"})
        with structlog.testing.capture_logs() as logs:
            async with Announced(remote, "same-id", **{NAME: "mine"}).announcer.announcing():
                await until(lambda: "registry_refuses" in events(logs))
        assert one(directory, "same-id")[NAME] == "same-id"
        await theirs.delete("same-id")


async def test_a_registry_that_is_away_is_told_once_and_once_again(directory: Platform) -> None:
    async with calling(directory, directory.api_key) as remote:
        present, absent = remote.url, "http://127.0.0.1:1"
        remote.url = absent
        with structlog.testing.capture_logs() as logs:
            async with Announced(remote, "flaky").announcer.announcing():
                await until(lambda: logs)
                await asyncio.sleep(0.2)  # it tries again, and says nothing
                remote.url = present
                await until(lambda: "registry_announced" in events(logs))
                remote.url = absent
                await until(lambda: events(logs).count("registry_lost") == 2)
                await asyncio.sleep(0.2)
                remote.url = present
                await until(lambda: "registry_regained" in events(logs))
    assert events(logs) == [
        "registry_lost",
        "registry_announced",
        "registry_lost",
        "registry_regained",
        "registry_entry_withdrawn",
    ]


def test_a_platform_from_its_first_start_to_its_end(
    start: Callable[..., Platform], tmp_path: Path
) -> None:
    port = ("--management-port", str(free_port()))
    registry = start(*port, environment={**NO_MODEL, **UNLIMITED}, data="registry")
    token = tmp_path / "token"
    token.write_text(f"{registry.api_key}\n")
    settings = {
        **UNLIMITED,
        "INFERNO_REGISTER_TOKEN_FILE": str(token),
        "INFERNO_REGISTER_NAME": "east",
        "INFERNO_REGISTER_TTL": "5",
        "INFERNO_REGISTER_METADATA": '{"region": "us-east-1"}',
    }
    where = ("--register", registry.management_url)
    with Watchers(registry) as watchers:
        announcer = start(*where, environment=settings, data="announcer")
        watchers.wait_for(lambda change, facts: change == "ADDED")
        (entry,) = entries(registry)
        assert entry[NAME] == "east"
        assert entry[URL] == announcer.url
        assert entry["inference_server_urls"]["openai"] == f"{announcer.url}/v1"
        assert httpx.get(f"{entry[URL]}/health", timeout=60).status_code == 200
        assert entry[FACTS]["region"] == "us-east-1"
        assert [model["id"] for model in entry[FACTS]["models"]] == [MODEL]
        assert str(tmp_path) not in str(entry)

        def is_told(loaded: bool) -> bool:
            return bool(entries(registry)[0][FACTS]["models"][0]["loaded"] is loaded)

        wait_until(lambda: is_told(True), SECONDS, "loading is not told", announcer.log_text)

        # What was told outlives the registry's platform, and is brought up to date again.
        registry.kill()
        (registry.data_dir / "run.json").unlink()
        registry.start()
        assert [one[ID] for one in entries(registry)] == [entry[ID]]
        with announcer.http() as client:
            client.post(f"/models/{MODEL}/unload").raise_for_status()
        watchers.wait_for(
            lambda change, facts: change == "MODIFIED" and not facts["models"][0]["loaded"]
        )
        assert is_told(False)

        # Nobody withdraws what was killed: it expires.
        announcer.kill()
        wait_until(lambda: entries(registry)[0]["state"] == "expired", SECONDS, "it did not expire")

        # Without its folder it is a new platform; what it was does not stand in its way.
        reborn = start(*where, environment=settings, data="reborn")
        watchers.wait_for(lambda change, facts: change == "DELETED")
        wait_until(
            lambda: [one["state"] for one in entries(registry)] == ["active"],
            SECONDS,
            "it did not come back",
            reborn.log_text,
        )
        assert entries(registry)[0][ID] != entry[ID]
        assert reborn.stop() == 0
        assert entries(registry) == []
        code, complaints = watchers.interrupted()
        assert code == 130
        assert "trying again" in complaints
        assert "watching again" in complaints
        assert "Traceback" not in complaints


def test_a_platform_announces_itself_to_itself(start: Callable[..., Platform]) -> None:
    port = str(free_port())
    key = "a-key-that-is-long-enough-for-anybody"
    platform = start(
        *("--management-port", port, "--register", f"http://127.0.0.1:{port}"),
        environment={**NO_MODEL, "INFERNO_API_KEY": key, "INFERNO_REGISTER_TOKEN": key},
    )
    with as_caller(platform, key, management=True) as client:

        def is_announced() -> bool:
            return bool(client.post("/inference_servers", json={}).json()["data"])

        wait_until(is_announced, SECONDS, "it is not announced", platform.log_text)
    assert platform.stop() == 0
    assert "registry_entry_withdrawn" in platform.log_text()
    assert key not in platform.log_text()
