"""A client that leaves stops the work in the replica, whatever it was waiting for.

Seen at the replica: its slots are idle and nothing waits in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.acceptance.clients import STREAM, Connection, connections
from tests.acceptance.platform import Platform, wait_until
from tests.acceptance.random_models import slow_model
from tests.acceptance.replicas import STOP_SECONDS, replica, wait_until_idle, wait_until_open

SLOTS = 2
CAPACITY = 2 * SLOTS
"""Requests that the replica is given at once; more wait in the platform."""

LONG = {"model": "slow", "max_tokens": 7000, "ignore_eos": True, "temperature": 0}
"""Takes many times longer than a replica gets to notice that its client left."""

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
DIALECTS = [
    pytest.param("/v1/chat/completions", CHAT, id="chat"),
    pytest.param("/v1/completions", {"prompt": "Hello"}, id="completions"),
    pytest.param("/inference", {"prompt": "Hello"}, id="native"),
]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a slow model of two slots, loaded."""
    data = tmp_path_factory.mktemp("cancellation") / "data"
    (data / "models").mkdir(parents=True)
    (data / "models" / "slow.gguf").write_bytes(slow_model())
    settings = {"INFERNO_BUNDLED_MODEL": "false", "INFERNO_PARALLEL": str(SLOTS)}
    with Platform(data, environment=settings) as platform, platform.http() as client:
        options = {"context_size": 8192, "batch_size": 64}
        client.post("/models/slow/load", json=options).raise_for_status()
        yield platform


@pytest.fixture(autouse=True)
def leaves_nothing_behind(slow: Platform) -> Iterator[None]:
    """After every test the model answers as before, on the same replica."""
    yield
    wait_until_idle(slow, "slow")
    for _ in range(CAPACITY + 1):  # a place that was not given back would be missing here
        assert ask(slow) == 3
    assert replica(slow, "slow").restarts == 0


def ask(platform: Platform) -> int:
    """Ask for three tokens and return how many came."""
    body = {"model": "slow", "prompt": "Hello", "max_tokens": 3, "ignore_eos": True}
    with platform.http() as client:
        answer = client.post("/inference", json=body).raise_for_status().json()
    return int(answer["usage"]["completion_tokens"])


@pytest.mark.parametrize(("path", "body"), DIALECTS)
def test_client_that_leaves_mid_stream(slow: Platform, path: str, body: dict[str, Any]) -> None:
    with connections(slow, path, [{**LONG, **body, "stream": True}]) as (client,):
        client.read_until(b"data: {", times=3)
        assert replica(slow, "slow").processing() == 1
        client.leave()
        wait_until_idle(slow, "slow")


@pytest.mark.parametrize(("path", "body"), DIALECTS)
def test_client_that_leaves_without_streaming(
    slow: Platform, path: str, body: dict[str, Any]
) -> None:
    with connections(slow, path, [{**LONG, **body}]) as (client,):
        wait_until_open(slow, "slow", 1)
        client.leave()
        wait_until_idle(slow, "slow")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_client_that_leaves_before_the_first_token(slow: Platform, stream: bool) -> None:
    body = {**LONG, "prompt": long_prompt(stream), "max_tokens": 1, "stream": stream}
    with connections(slow, "/inference", [body]) as (client,):
        wait_until_open(slow, "slow", 1)
        client.leave()
        wait_until_idle(slow, "slow")
    assert client.received == b""


@pytest.mark.parametrize("phase", ["prompt", "generation"])
def test_client_that_leaves_while_the_replica_streams_to_another(
    slow: Platform, phase: str
) -> None:
    body = {**LONG, "prompt": long_prompt("beside") if phase == "prompt" else "Hello"}
    neighbour = {**LONG, "prompt": "Bye", "stream": True}
    with connections(slow, "/inference", [neighbour, body]) as (other, client):
        other.read_until(b"data: {")
        wait_until_open(slow, "slow", 2)
        client.leave()
        process = psutil.Process(replica(slow, "slow").pid)
        pause_until_closed(process)
        wait_until_open(slow, "slow", 1)
        other.read_until(b"data: {", times=other.received.count(b"data: {") + 20)


def long_prompt(beginning: object) -> str:
    """A prompt of its own, so that nothing of it is known already, of some 6,000 tokens."""
    return f"{beginning} " + "hi there " * 2000


def pause_until_closed(process: psutil.Process) -> None:
    """Wait until no connection of a process is one that the other side has left."""
    wait_until(
        lambda: psutil.CONN_CLOSE_WAIT not in {c.status for c in process.net_connections("tcp4")},
        STOP_SECONDS,
        "the replica did not notice that its client left",
    )


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_clients_that_leave_while_they_wait_for_a_slot(slow: Platform, stream: bool) -> None:
    """Two are generated for, two wait in the replica, two wait in the platform."""
    body = {**LONG, "prompt": "Hello", "stream": stream}
    with connections(slow, "/inference", [body] * CAPACITY) as given:
        wait_until_open(slow, "slow", CAPACITY)
        with connections(slow, "/inference", [body] * 2) as waiting:
            for client in waiting:
                client.leave()
        for client in given[SLOTS:]:
            client.leave()
        for client in given[:SLOTS]:
            client.leave()
        wait_until_idle(slow, "slow")


def test_place_of_a_client_that_left_the_line_goes_to_the_next(slow: Platform) -> None:
    long = {**LONG, "prompt": "Hello", "stream": True}
    with connections(slow, "/inference", [long] * CAPACITY) as given:
        wait_until_open(slow, "slow", CAPACITY)
        short = {**long, "max_tokens": 2}
        with connections(slow, "/inference", [long, short]) as (impatient, patient):
            impatient.leave()
            for client in given:
                client.leave()
            patient.read_until(b'"done":true')


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_client_that_leaves_several_choices(slow: Platform, stream: bool) -> None:
    body = {**LONG, "prompt": ["Hello", "Bye"], "n": 4, "stream": stream}
    with connections(slow, "/v1/completions", [body]) as (client,):
        wait_until_open(slow, "slow", CAPACITY)  # of eight; four wait in the platform
        if stream:
            client.read_until(b"data: {")
        client.leave()
        wait_until_idle(slow, "slow")


def test_client_that_leaves_chat_choices(slow: Platform) -> None:
    body = {**LONG, **CHAT, "n": 4, "stream": True}
    with connections(slow, "/v1/chat/completions", [body]) as (client,):
        client.read_until(b"data: {")
        wait_until_open(slow, "slow", CAPACITY)
        client.leave()
        wait_until_idle(slow, "slow")


def test_sdk_closes_a_stream(slow: Platform) -> None:
    with slow.openai() as client:
        stream = client.chat.completions.create(
            model="slow",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            max_tokens=7000,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        stream.close()
    wait_until_idle(slow, "slow")


def test_client_that_sends_half_a_request(slow: Platform) -> None:
    client = Connection(slow, "/inference", {**LONG, **STREAM, "prompt": "Hello"})
    client.leave()
    wait_until_idle(slow, "slow")
