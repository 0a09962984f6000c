"""Calls that will go say so in every answer: the table is wired through the whole platform."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from inferno import assembly
from inferno.data_dir import DataDir
from inferno.server import deprecations
from inferno.server.operations import operations
from inferno.settings import load
from inferno.web.deprecation import Deprecation
from inferno.web.listener import bind, url_of

GOING = Deprecation(since=date(2026, 1, 1), sunset=date(2026, 12, 31), guide="/docs")


@pytest.fixture
def deprecated(monkeypatch: pytest.MonkeyPatch) -> None:
    table: Any = deprecations.DEPRECATED
    monkeypatch.setitem(table, "/v1/completions", GOING)
    monkeypatch.setitem(table, "/models/{model_id}", GOING)
    monkeypatch.setitem(table, "/health/live", GOING)


@pytest.mark.usefixtures("deprecated")
async def test_answers_say_so(tmp_path: Path) -> None:
    settings = load({"data_dir": tmp_path / "data", "bundled_model": False}, environment={})
    with (
        DataDir(settings.data_dir) as data_dir,
        bind("127.0.0.1", 0) as inference,
        bind("127.0.0.1", 0) as management,
    ):
        sockets = assembly.Sockets(inference, management)
        async with assembly.platform(settings, data_dir, sockets, asyncio.Event()) as first:
            assert first is not None
            headers = {"Authorization": f"Bearer {first.api_key}"}
            async with httpx.AsyncClient(base_url=url_of(inference), headers=headers) as client:
                await check(client)


async def check(client: httpx.AsyncClient) -> None:
    expected = ("@1767225600", "Thu, 31 Dec 2026 00:00:00 GMT")
    link = '</docs>; rel="deprecation", </docs>; rel="sunset"'
    answers = [
        await client.get("/health/live"),
        await client.get("/models/nothing"),
        await client.post("/v1/completions", json={"model": "nothing", "prompt": "x"}),
        await client.post("/v1/completions", headers={"Authorization": "Bearer wrong"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 404, 401]
    for answer in answers:
        assert (answer.headers["deprecation"], answer.headers["sunset"]) == expected
        assert answer.headers["link"] == link
        assert answer.headers["api-version"] == "1.0"
    for path in ("/health", "/models", "/v1/models"):
        answer = await client.get(path)
        assert not {"deprecation", "sunset", "link"} & set(answer.headers)
        assert answer.headers["api-version"] == "1.0"
    paths = (await client.get("/openapi.json")).json()["paths"]
    marked = {path for path, one in paths.items() if any("deprecated" in o for o in one.values())}
    assert marked == {"/v1/completions", "/models/{model_id}", "/health/live"}


def test_a_table_that_names_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="/nowhere"):
        deprecations.with_deprecations(operations(), {"/nowhere": GOING})


def test_nothing_is_deprecated_yet() -> None:
    assert deprecations.DEPRECATED == {}
