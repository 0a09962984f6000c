"""What webhooks are told of inferences and models, and what survives `kill -9`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest

from tests.acceptance.access import NO_MODEL, make_key, make_user
from tests.acceptance.platform import MODEL, Platform, wait_until
from tests.acceptance.receiver import Received, Receiver, answer
from tests.acceptance.webhooks import OPEN, delivery, send_test, settled, subscribe, tried


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a model that tells of what it does."""
    data = tmp_path_factory.mktemp("telling") / "data"
    with Platform(data, environment=OPEN) as running:
        yield running


def infer(platform: Platform, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "prompt": "2+2=", "max_tokens": 4, **fields}
    with platform.http() as client:
        return client.post("/inference", json=body)


def start_again(platform: Platform) -> None:
    """Start a platform that was killed, or kill it first."""
    platform.kill()
    (platform.data_dir / "run.json").unlink()
    platform.start()


def content_of(requests: list[Received], webhook: dict[str, Any]) -> list[dict[str, Any]]:
    return [request.verified(webhook["signing_key"]) for request in requests]


def test_inferences_are_told_of(telling: Platform) -> None:
    make_user(telling, "stranger", tenant="elsewhere")
    key = make_key(telling, "stranger").secret
    events = ["inference.complete", "inference.failed"]
    with Receiver() as receiver, Receiver() as other:
        webhook = subscribe(telling, receiver.url(), events=events)
        elsewhere = subscribe(telling, other.url(), key=key, events=events)
        answered = infer(telling).raise_for_status()
        refused = infer(telling, prompt="2+2=" * 5000)
        assert refused.status_code == 400
        told = {c["event"]: c["data"] for c in content_of(receiver.wait(2), webhook)}
        # Streamed ones too, and those of the OpenAI API.
        with telling.openai() as client:
            list(
                client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True
                )
            )
        streamed = content_of(receiver.wait(3), webhook)[2]["data"]
        send_test(telling, {"id": webhook["id"]})
        receiver.wait(4)
        # Nothing of it is told to another tenant.
        assert other.received == []
    complete = told["inference.complete"]
    assert complete["request_id"] == answered.headers["x-request-id"]
    assert complete["model"] == MODEL
    assert complete["tokens_generated"] == answered.json()["usage"]["completion_tokens"]
    assert complete["duration_ms"] >= 0
    assert streamed["stream"] is True
    assert streamed["operation"] == "chat"
    assert told["inference.failed"]["error"] == "CONTEXT_LENGTH_EXCEEDED"
    assert "2+2" not in str(told)
    with telling.http() as client:
        client.delete(f"/webhooks/{webhook['id']}")
    with httpx.Client(base_url=telling.url, headers={"Authorization": f"Bearer {key}"}) as client:
        client.delete(f"/webhooks/{elsewhere['id']}").raise_for_status()


def test_models_are_told_of_once(telling: Platform) -> None:
    events = ["model.loaded", "model.unloaded"]
    with Receiver() as receiver, telling.http() as client:
        client.post(f"/models/{MODEL}/unload").raise_for_status()
        wait_until(lambda: not telling.models()[MODEL]["loaded"], 30, "it was not unloaded")
        webhook = subscribe(telling, receiver.url(), events=events)
        loaded = client.post(f"/models/{MODEL}/load").raise_for_status().json()
        receiver.wait(1)
        client.post(f"/models/{MODEL}/load").raise_for_status()
        client.post(f"/models/{MODEL}/unload").raise_for_status()
        told = content_of(receiver.wait(2), webhook)
        client.delete(f"/webhooks/{webhook['id']}").raise_for_status()
    by_name = {one["event"]: one["data"] for one in told}
    assert by_name["model.loaded"]["model"] == MODEL
    assert by_name["model.loaded"]["load_time_ms"] == loaded["load_time_ms"]
    assert by_name["model.loaded"]["memory_usage_bytes"] > 0
    assert by_name["model.unloaded"] == {"model": MODEL}


def test_a_start_tells_nothing_again(start: Callable[..., Platform]) -> None:
    """What was told before is not repeated; what changed in between is told."""
    platform = start(environment=OPEN)
    events = ["model.loaded", "model.unloaded"]
    with Receiver() as receiver:
        webhook = subscribe(platform, receiver.url(), events=events)
        infer(platform).raise_for_status()
        settled(platform, receiver.wait(1)[0].id, "delivered")
        start_again(platform)
        infer(platform).raise_for_status()
        # It was loaded, then it was not, then it was again; nothing twice.
        names = [one["event"] for one in content_of(receiver.wait(3), webhook)]
        marker = send_test(platform, webhook)
        settled(platform, marker, "delivered")
        assert sorted(names) == ["model.loaded", "model.loaded", "model.unloaded"]
        assert len(receiver.received) == 4


def test_a_delivery_survives_a_death_in_the_middle(start: Callable[..., Platform]) -> None:
    """The receiver has it, the platform dies before it knows: it comes again, with the same id."""
    platform = start(environment={**NO_MODEL, **OPEN})

    def kill(_: BaseHTTPRequestHandler, __: Received) -> None:
        platform.kill()

    with Receiver(kill) as receiver:
        webhook = subscribe(platform, receiver.url())
        id_ = send_test(platform, webhook)
        receiver.wait(1)
        wait_until(lambda: platform.process and platform.process.poll() is not None, 20, "alive")
        receiver.respond = answer(200)
        start_again(platform)
        requests = receiver.wait(2)
        shown = settled(platform, id_, "delivered")
    assert [request.id for request in requests] == [id_, id_]
    assert requests[0].body == requests[1].body
    assert shown["attempts"] == 1  # the one that was noted


def test_what_waits_survives_a_restart(start: Callable[..., Platform]) -> None:
    platform = start(environment={**NO_MODEL, **OPEN})
    with Receiver(answer(503, retry_after="5")) as receiver:
        webhook = subscribe(platform, receiver.url())
        id_ = send_test(platform, webhook)
        tried(platform, id_)
        assert platform.stop() == 0
        receiver.respond = answer(200)
        platform.start()
        settled(platform, id_, "delivered")
        shown = delivery(platform, id_)
    assert [one["status_code"] for one in shown["attempt_log"]] == [503, 200]


def test_a_slow_receiver_delays_neither_inference_nor_the_end(telling: Platform) -> None:
    with Receiver(lambda *_: wait_until(lambda: False, 5, "slow")) as receiver:
        webhook = subscribe(telling, receiver.url(), events=["inference.complete"])
        for _ in range(6):
            infer(telling).raise_for_status()
        receiver.wait(1)
        infer(telling).raise_for_status()
        with telling.http() as client:
            client.delete(f"/webhooks/{webhook['id']}").raise_for_status()


def test_whoever_is_disabled_hears_no_more(telling: Platform) -> None:
    user = make_user(telling, "leaver")
    key = make_key(telling, "leaver").secret
    with Receiver() as receiver, Receiver() as mine, telling.http() as admin:
        subscribe(telling, receiver.url(), key=key, events=["inference.complete"])
        webhook = subscribe(telling, mine.url(), events=["inference.complete"])
        infer(telling).raise_for_status()
        receiver.wait(1)
        admin.patch(f"/auth/users/{user['id']}", json={"disabled": True}).raise_for_status()
        infer(telling).raise_for_status()
        mine.wait(2)
        assert len(receiver.received) == 1
        admin.delete(f"/webhooks/{webhook['id']}").raise_for_status()
