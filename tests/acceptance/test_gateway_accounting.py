"""What requests to servers of others are charged, whatever client and server say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.access import NO_MODEL
from tests.acceptance.model_servers import Cluster, ModelServer, model_servers
from tests.acceptance.platform import Platform

MESSAGES: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform without models of its own."""
    environment = {**NO_MODEL, "INFERNO_PROBE_INTERVAL": "0.5"}
    with Platform(tmp_path_factory.mktemp("front") / "data", environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def server(front: Platform) -> Iterator[ModelServer]:
    """A server of others, under the name `theirs`."""
    with model_servers(ModelServer("theirs")) as (server,):
        cluster = Cluster(front)
        cluster.pool("theirs", server)
        cluster.model("theirs", "theirs", targets={"base": 1})
        yield server


def ask(front: Platform, **more: Any) -> httpx.Response:
    body = {"model": "theirs", "messages": MESSAGES, **more}
    with front.http() as client:
        return client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize("count", [-100_000, 0, 10**12])
def test_a_number_of_choices_is_bounded(front: Platform, server: ModelServer, count: int) -> None:
    before = len(server.requests)
    answer = ask(front, n=count, max_tokens=100)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == "n"
    assert len(server.requests) == before


@pytest.mark.parametrize("options", [None, {"include_usage": False}, {}])
def test_no_client_can_keep_a_stream_from_being_counted(
    front: Platform, server: ModelServer, options: Any
) -> None:
    answer = ask(front, stream=True, stream_options=options)
    assert answer.status_code == 200
    assert server.requests[-1]["stream_options"] == {"include_usage": True}
    assert '"usage":{' not in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("usage", [{"total_tokens": -(10**9)}, {"total_tokens": 10**30}, "much", 7])
@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_is_nonsense_harms_nobody(
    front: Platform, server: ModelServer, usage: Any, stream: bool
) -> None:
    server.usage = usage
    answer = ask(front, stream=stream)
    assert answer.status_code == 200, answer.text
    assert "error" not in answer.text
    with front.http() as client:
        page = client.get("/metrics").text
    assert " -" not in page.replace("e-", "")
    assert ask(front).status_code == 200
