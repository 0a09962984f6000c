"""Model servers that die, hang, answer garbage or are full, under load: what clients see of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from inferno.engines.bundled import model_path
from tests.acceptance.access import NO_MODEL, UNLIMITED
from tests.acceptance.model_servers import Cluster, Fault, ModelServer, model_servers, within
from tests.acceptance.platform import Platform, wait_until

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
DOCUMENTED = {200, 429, 500, 503, 504}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform without models of its own."""
    environment = {
        **NO_MODEL,
        **UNLIMITED,
        "INFERNO_PROBE_INTERVAL": "0.5",
        "INFERNO_STREAM_IDLE_TIMEOUT": "2",
        "INFERNO_REQUEST_TIMEOUT": "6",
        "INFERNO_QUEUE_TIMEOUT": "5",
        "INFERNO_MAX_QUEUE": "6",
    }
    folder = tmp_path_factory.mktemp("front") / "data"
    with Platform(folder, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(front: Platform) -> Cluster:
    return Cluster(front)


def ask(front: Platform, model: str, **headers: str) -> httpx.Response:
    body = {"model": model, "messages": MESSAGES}
    with front.http() as client:
        return client.post("/v1/chat/completions", json=body, headers=headers)


async def many(front: Platform, model: str, count: int, **more: Any) -> list[httpx.Response]:
    """Ask so many times at once."""
    body = {"model": model, "messages": MESSAGES, **more}
    async with front.async_http(limits=httpx.Limits(max_connections=None)) as client:
        asking = [client.post("/v1/chat/completions", json=body) for _ in range(count)]
        return list(await asyncio.gather(*asking))


def test_a_replica_that_fell_silent_is_suspected(front: Platform, cluster: Cluster) -> None:
    """The runtime is told; here the replica goes on, so that it finds it at work."""
    model = {"storageUri": model_path().as_uri()}
    cluster.create("InferenceService", "quiet", {"predictor": {"replicas": 1, "model": model}})
    with front.http() as client:
        client.post("/inference", json={"model": "quiet", "prompt": "Hello", "max_tokens": 1})
        (replica,) = front.replicas()
        body = {"model": "quiet", "prompt": "Hello", "max_tokens": 1900, "stream": True}
        body["ignore_eos"] = True
        with client.stream("POST", "/inference", json=body) as answer:
            replica.suspend()
            try:
                assert any("fell silent" in line for line in answer.iter_lines())
            finally:
                replica.resume()
    wait_until(lambda: "replica_works" in front.log_text(), 20, "nobody looked at it")
    assert "replica_silent" in front.log_text()
    cluster.delete("InferenceService", "quiet")


@pytest.mark.parametrize("fault", ["garbage", "reset", "busy", "close"])
def test_one_bad_server_of_two_is_nobodys_problem(
    front: Platform, cluster: Cluster, fault: Fault
) -> None:
    bad, good = ModelServer(f"bad-{fault.split()[0]}", fault=fault), ModelServer(f"good-{fault}")
    with model_servers(bad, good):
        cluster.pool(fault, bad, good)
        cluster.model(fault, fault, targets={"base": 1})
        statuses = Counter(ask(front, fault).status_code for _ in range(12))
        if fault == "garbage":  # it may have worked on the request: only a lost one is sent again
            assert statuses[200] >= 9, statuses
            assert set(statuses) <= DOCUMENTED
        else:
            assert statuses == {200: 12}
        assert bad.requests, "it was never tried"
        if fault != "close":
            assert len(bad.requests) < len(good.requests)


def test_a_request_that_comes_back_goes_elsewhere(front: Platform, cluster: Cluster) -> None:
    """A platform among its own servers, as a registry may well list it."""
    cluster.create("Secret", "own", stringData={"key": front.api_key})
    itself = {
        "address": "127.0.0.1",
        "port": urlsplit(front.url).port,
        "apiKeySecretRef": {"name": "own", "key": "key"},
        "metrics": "none",
        "models": ["ring"],
    }
    with model_servers(ModelServer("real", models=["ring"])) as (real,):
        cluster.pool("ring", real)
        cluster.model("ring", "ring", targets={"ring": 1})
        cluster.create("ModelServer", "itself", itself, metadata={"labels": {"pool": "ring"}})
        within(lambda: cluster.condition("ModelServer", "itself", "Ready")[0] == "True")
        assert Counter(ask(front, "ring").status_code for _ in range(8)) == {200: 8}
        cluster.delete("ModelServer", "real")
        within(lambda: ask(front, "ring").status_code != 200)
        assert ask(front, "ring").status_code in DOCUMENTED
    cluster.delete("ModelServer", "itself")


def test_a_request_that_was_here_before_is_refused(front: Platform, cluster: Cluster) -> None:
    with model_servers(ModelServer("mark")) as (server,):
        cluster.pool("marked", server)
        cluster.model("marked", "marked", targets={"base": 1})
        assert ask(front, "marked", via="1.0 fred, 1.1 p.example.com").status_code == 200
        via = server.headers[-1]["via"]
        assert via.startswith("1.0 fred, 1.1 p.example.com, 1.1 inferno-")
        refused = ask(front, "marked", via=via)
        assert refused.status_code == 508
        assert refused.json()["error"]["code"] == "loop_detected"


def test_a_server_that_dies_under_load_is_left_and_found_again(
    front: Platform, cluster: Cluster
) -> None:
    mortal, other = ModelServer("mortal", seconds=0.05), ModelServer("other", seconds=0.05)
    with model_servers(mortal, other):
        cluster.pool("mortal", mortal, other)
        cluster.model("mortal", "mortal", targets={"base": 1})

        async def scenario() -> list[httpx.Response]:
            first = asyncio.ensure_future(many(front, "mortal", 40))
            await asyncio.sleep(0.05)
            mortal.stop()
            answers = await first
            for _ in range(5):
                answers += await many(front, "mortal", 4)
            return answers

        statuses = Counter(answer.status_code for answer in asyncio.run(scenario()))
        assert statuses == {200: 60}
        within(lambda: cluster.condition("ModelServer", "mortal", "Ready")[0] == "False")
        before = len(mortal.requests)
        assert {ask(front, "mortal").status_code for _ in range(5)} == {200}
        assert len(mortal.requests) == before


def test_nothing_there_is_said_at_once(front: Platform, cluster: Cluster) -> None:
    with model_servers(ModelServer("gone")) as (server,):
        cluster.pool("gone", server)
        cluster.model("gone", "gone", targets={"base": 1})
        server.stop()
        within(lambda: cluster.condition("ModelServer", "gone", "Ready")[0] == "False")
        answer = ask(front, "gone")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert (
            "No endpoint of pool 'default/gone' that has model 'base' is ready"
            in answer.json()["error"]["message"]
        )


def test_a_server_that_never_answers_costs_the_client_its_time_and_no_more(
    front: Platform, cluster: Cluster
) -> None:
    with model_servers(ModelServer("silent", fault="hang")) as (server,):
        cluster.pool("silent", server)
        cluster.model("silent", "silent", targets={"base": 1})
        answer = ask(front, "silent")
        assert answer.status_code == 504
        within(lambda: server.abandoned == 1)


@pytest.mark.parametrize("fault", ["break off", "stutter", "silence"])
def test_a_stream_that_is_not_whole_ends_in_an_error(
    front: Platform, cluster: Cluster, fault: Fault
) -> None:
    name = fault.replace(" ", "-")
    with model_servers(ModelServer(name, fault=fault)) as (server,):
        cluster.pool(name, server)
        cluster.model(name, name, targets={"base": 1})
        body = {"model": name, "messages": MESSAGES, "stream": True}
        with front.http() as client:
            answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200
        events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        assert json.loads(events[0])["choices"][0]["delta"]["content"] == name
        assert "error" in json.loads(events[-1])
        assert "[DONE]" not in events


def test_a_client_that_leaves_is_noticed_by_the_server(front: Platform, cluster: Cluster) -> None:
    with model_servers(ModelServer("left", fault="silence")) as (server,):
        cluster.pool("left", server)
        cluster.model("left", "left", targets={"base": 1})
        body = {"model": "left", "messages": MESSAGES, "stream": True}
        with front.http() as client, client.stream("POST", "/v1/chat/completions", json=body) as s:
            next(s.iter_lines())
        within(lambda: server.abandoned == 1)


def test_what_matters_least_is_refused_first_and_quickly(front: Platform, cluster: Cluster) -> None:
    server = ModelServer("pressed", owner="llamacpp", slots=2, seconds=0.4)
    with model_servers(server):
        cluster.pool("pressed", server)
        for name, criticality in (
            ("vital", "Critical"), ("usual", "Default"), ("spare", "Sheddable")
        ):  # fmt: skip
            cluster.model(name, "pressed", targets={"base": 1}, criticality=criticality)
        within(lambda: ask(front, "spare").status_code == 200)

        async def scenario() -> dict[str, list[httpx.Response]]:
            usual = asyncio.ensure_future(many(front, "usual", 8))
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            spare = await many(front, "spare", 6)
            quick = time.monotonic() - begun
            vital = await many(front, "vital", 4)
            assert quick < 2
            return {"usual": await usual, "spare": spare, "vital": vital}

        answers = asyncio.run(scenario())
        assert {answer.status_code for answer in answers["vital"]} == {200}
        assert {answer.status_code for answer in answers["spare"]} == {429}
        for answer in answers["spare"]:
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["error"]["code"] == "request_shed"
        statuses = Counter(answer.status_code for answer in answers["usual"])
        assert set(statuses) <= {200, 429}
        assert statuses[200] >= 4, statuses


def test_a_full_line_is_refused(front: Platform, cluster: Cluster) -> None:
    server = ModelServer("full", owner="llamacpp", slots=1, seconds=0.3)
    with model_servers(server):
        cluster.pool("full", server)
        cluster.model("full", "full", targets={"base": 1})
        within(lambda: ask(front, "full").status_code == 200)
        statuses = Counter(a.status_code for a in asyncio.run(many(front, "full", 14)))
        assert statuses[200] == 8, statuses
        assert statuses[503] == 6, statuses


def test_a_hedge_asks_another_server_and_hangs_up_on_the_slower_one(
    start: Callable[..., Platform],
) -> None:
    environment = {
        **NO_MODEL,
        **UNLIMITED,
        "INFERNO_HEDGE_AFTER": "0.1",
        "INFERNO_PICKER": "session",
    }
    platform = start(environment=environment)
    stuck, quick = ModelServer("stuck", fault="hang"), ModelServer("quick")
    with model_servers(stuck, quick):
        cluster = Cluster(platform)
        cluster.pool("hedged", stuck, quick)
        cluster.model("hedged", "hedged", targets={"base": 1})
        for number in range(8):
            answer = ask(platform, "hedged", **{"X-Session-ID": f"session {number}"})
            assert answer.status_code == 200
            assert answer.headers["x-gateway-destination-endpoint-served"] == quick.address
        assert stuck.requests, "nothing was asked of it"
        within(lambda: stuck.abandoned == len(stuck.requests))
