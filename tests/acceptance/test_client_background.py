"""The client's calls for what happens in the background: batches, webhooks, metrics, traces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from inferno import AsyncClient, Client, verify_webhook
from inferno.client import NotThere, WebhookRefused
from inferno.client.batches import Batch
from tests.acceptance.platform import MODEL, Platform, wait_until


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    with Client(platform.url, api_key=platform.api_key) as client:
        yield client


class TestBatches:
    def test_from_beginning_to_end(self, client: Client) -> None:
        seen: list[Batch] = []
        requests: list[Any] = ["What is AI?", {"id": "mine", "prompt": "Hello", "max_tokens": 4}]
        made = client.batches.create(
            model=MODEL, requests=requests, max_tokens=8, metadata={"for": "tests"}
        )
        assert made.total_requests == 2
        batch = client.batches.wait(made.batch_id, progress=seen.append, poll_seconds=0.05)
        assert (batch.status, batch.completed, batch.failed) == ("completed", 2, 0)
        assert batch.metadata == {"for": "tests"}
        assert seen[-1] == batch
        assert len(set(map(repr, seen))) == len(seen)
        results = client.batches.results(made.batch_id)
        assert [result.id for result in results] == ["req1", "mine"]
        assert all(result.text for result in results)
        assert results[1].usage.completion_tokens <= 4
        assert client.batches.results(made.batch_id, after=0) == results[1:]
        assert made.batch_id in {one.batch_id for one in client.batches.list()}
        client.batches.delete(made.batch_id)
        with pytest.raises(NotThere):
            client.batches.get(made.batch_id)

    def test_the_same_batch_is_taken_once(self, client: Client) -> None:
        handed_in: dict[str, Any] = {"model": MODEL, "requests": ["Hi"], "max_tokens": 2}
        first = client.batches.create(**handed_in, idempotency_key="tests-1")
        assert client.batches.create(**handed_in, idempotency_key="tests-1") == first
        client.batches.wait(first.batch_id, poll_seconds=0.05)

    async def test_cancelling(self, platform: Platform) -> None:
        async with AsyncClient(platform.url, api_key=platform.api_key) as client:
            made = await client.batches.create(
                model=MODEL, requests=["Tell me a story"] * 400, max_tokens=400, ignore_eos=True
            )
            with pytest.raises(TimeoutError):
                await client.batches.wait(made.batch_id, poll_seconds=0.01, within=0.01)
            await client.batches.cancel(made.batch_id)
            ended = await client.batches.wait(made.batch_id, poll_seconds=0.05)
            assert ended.status == "cancelled"


Delivered = list[tuple[bytes, dict[str, str]]]


@contextmanager
def receiver() -> Iterator[tuple[str, Delivered]]:
    """Receive webhooks; gives the address and what has come."""
    delivered: Delivered = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            delivered.append((body, dict(self.headers)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", delivered
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("secret", [None, "webhook_secret_key"])
def test_webhooks(start: Callable[..., Platform], secret: str | None) -> None:
    platform = start(environment={"INFERNO_WEBHOOK_ALLOW": "127.0.0.0/8"})
    with (
        receiver() as (address, delivered),
        Client(platform.url, api_key=platform.api_key) as client,
    ):
        made = client.webhooks.create(address, events=["inference.complete"], secret=secret)
        assert secret in (None, made.secret)
        client.webhooks.test(made.id)
        client.inference(model=MODEL, prompt="Hello", max_tokens=4)
        wait_until(lambda: len(delivered) == 2, 30, "nothing was delivered", platform.log_text)
        for body, headers in delivered:
            event = verify_webhook(body, headers, made.secret)
            assert event.event in ("webhook.test", "inference.complete")
            assert verify_webhook(body, {}, made.secret) == event
            with pytest.raises(WebhookRefused):
                verify_webhook(body.replace(b'"event"', b'"Event"'), headers, made.secret)
        assert [one.id for one in client.webhooks.list()] == [made.id]
        assert not client.webhooks.change(made.id, enabled=False).enabled
        assert client.webhooks.get(made.id).enabled is False
        assert client.webhooks.rotate(made.id).secret != made.secret
        delivery = client.webhooks.deliveries(made.id, limit=1)[0]
        assert client.webhooks.delivery(delivery.id).payload["event"] == delivery.event
        assert client.webhooks.secret().secret
        client.webhooks.delete(made.id)
        assert client.webhooks.list() == []


def test_metrics(client: Client) -> None:
    client.inference(model=MODEL, prompt="Hello", max_tokens=2)
    assert f'inferno_inference_requests_total{{model="{MODEL}"}}' in client.metrics()
    client.custom_metric("custom_metric", 42.5, labels={"environment": "production"})
    assert 'custom_metric{environment="production"} 42.5' in client.metrics()


def test_traces(client: Client) -> None:
    client.inference(model=MODEL, prompt="Hello", max_tokens=2)
    assert f"inference.{MODEL}" in {trace.operation_name for trace in client.traces()}
