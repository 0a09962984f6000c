"""Webhooks end to end: a real receiver, verified with the Standard Webhooks library."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from tests.acceptance.access import NO_MODEL
from tests.acceptance.platform import Platform
from tests.acceptance.receiver import Receiver, answer
from tests.acceptance.webhooks import (
    MANY,
    OPEN,
    delivery,
    send_test,
    settled,
    subscribe,
    tried,
)


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform without a model, whose operator lets webhooks go to loopback."""
    data = tmp_path_factory.mktemp("hooked") / "data"
    with Platform(data, environment={**NO_MODEL, **OPEN, **MANY}) as running:
        yield running


@pytest.mark.parametrize("secret", ["webhook_secret_key", "ein Schlüssel", None])
def test_a_delivery_is_signed_in_both_ways(hooked: Platform, secret: str | None) -> None:
    with Receiver() as receiver:
        given = {} if secret is None else {"secret": secret}
        webhook = subscribe(hooked, receiver.url("/hook?a=b%20c"), **given)
        assert secret is None or webhook["secret"] == secret
        id_ = send_test(hooked, webhook)
        request = receiver.wait()[0]
    assert request.path == "/hook?a=b%20c"
    assert request.id == id_
    content = request.verified(webhook["signing_key"])
    assert list(content) == ["event", "timestamp", "data", "signature"]
    assert content["event"] == "webhook.test"
    assert content["data"]["webhook_id"] == webhook["id"]
    request.check_seed_signature(webhook["secret"])
    if secret is not None:  # the library takes the bytes of a free text as they are
        request.verified(secret.encode())
    shown = settled(hooked, id_, "delivered")
    assert shown["attempts"] == 1
    assert shown["attempt_log"][0]["status_code"] == 204
    assert shown["payload"]["data"] == content["data"]


def test_a_failure_is_tried_again_under_the_same_id(hooked: Platform) -> None:
    with Receiver(answer(500)) as receiver:
        webhook = subscribe(hooked, receiver.url())
        id_ = send_test(hooked, webhook)
        shown = tried(hooked, id_)
        assert shown["status"] == "pending"
        assert shown["last_error"] == "The receiver answered 500."
        receiver.respond = answer(200)
        first, second = receiver.wait(2)
        settled(hooked, id_, "delivered")
    assert first.id == second.id == id_
    assert first.body == second.body
    second.verified(webhook["signing_key"])


def test_retry_after_is_honoured(hooked: Platform) -> None:
    with Receiver(answer(503, retry_after="600")) as receiver:
        id_ = send_test(hooked, subscribe(hooked, receiver.url()))
        shown = tried(hooked, id_)
    waits = moment(shown["next_attempt_at"]) - moment(shown["attempt_log"][0]["at"])
    assert waits.total_seconds() >= 600


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_receiver_that_is_gone_is_told_no_more(hooked: Platform) -> None:
    with Receiver(answer(410)) as receiver:
        webhook = subscribe(hooked, receiver.url())
        id_ = send_test(hooked, webhook)
        shown = settled(hooked, id_, "parked")
        assert shown["last_status_code"] == 410
        with hooked.http() as client:
            disabled = client.get(f"/webhooks/{webhook['id']}").json()
            assert not disabled["enabled"]
            assert "410" in disabled["disabled_reason"]
            assert client.post(f"/webhooks/{webhook['id']}/test").status_code == 409
            parked = client.get("/webhooks/deliveries", params={"status": "parked"}).json()
            assert id_ in [one["id"] for one in parked["deliveries"]]
            assert client.post(f"/webhooks/deliveries/{id_}/resend").status_code == 409
            # It is back, and what was parked is sent again under the id that it had.
            receiver.respond = answer(200)
            change = {"enabled": True}
            client.patch(f"/webhooks/{webhook['id']}", json=change).raise_for_status()
            again = client.post(f"/webhooks/deliveries/{id_}/resend")
            assert again.status_code == 202
        shown = settled(hooked, id_, "delivered")
        assert [one["status_code"] for one in shown["attempt_log"]] == [410, 200]
        assert [one.id for one in receiver.received] == [id_, id_]


def test_what_waits_for_a_disabled_webhook_waits_until_it_is_enabled(hooked: Platform) -> None:
    with Receiver(answer(500)) as receiver:
        webhook = subscribe(hooked, receiver.url())
        id_ = send_test(hooked, webhook)
        tried(hooked, id_)
        with hooked.http() as client:
            path = f"/webhooks/{webhook['id']}"
            client.patch(path, json={"enabled": False}).raise_for_status()
            assert delivery(hooked, id_)["status"] == "pending"
            receiver.respond = answer(200)
            client.patch(path, json={"enabled": True}).raise_for_status()
        settled(hooked, id_, "delivered")


def test_both_secrets_sign_while_one_replaces_the_other(hooked: Platform) -> None:
    with Receiver() as receiver, hooked.http() as client:
        webhook = subscribe(hooked, receiver.url())
        path = f"/webhooks/{webhook['id']}"
        rotated = client.post(f"{path}/rotate").json()
        assert rotated["secret"] != webhook["secret"]
        send_test(hooked, webhook)
        request = receiver.wait()[0]
        request.verified(rotated["signing_key"])
        request.verified(webhook["signing_key"])
        request.check_seed_signature(rotated["secret"])
        ended = client.post(f"{path}/rotate", json={"secret": "mine", "grace_seconds": 0}).json()
        assert ended["secret"] == "mine"
        send_test(hooked, webhook)
        request = receiver.wait(2)[1]
        request.verified(b"mine")
        with pytest.raises(WebhookVerificationError):
            request.verified(rotated["signing_key"])


def test_a_removed_webhook_is_told_nothing(hooked: Platform) -> None:
    with Receiver(answer(500)) as receiver, hooked.http() as client:
        webhook = subscribe(hooked, receiver.url())
        id_ = send_test(hooked, webhook)
        tried(hooked, id_)
        assert client.delete(f"/webhooks/{webhook['id']}").status_code == 200
        assert client.get(f"/webhooks/deliveries/{id_}").status_code == 404
        assert client.get(f"/webhooks/{webhook['id']}").status_code == 404
        assert client.delete(f"/webhooks/{webhook['id']}").status_code == 404


def test_secrets_are_shown_once_and_stored_encrypted(hooked: Platform) -> None:
    secret = "a-secret-that-is-easily-found-again"
    with Receiver() as receiver, hooked.http() as client:
        webhook = subscribe(hooked, receiver.url(), secret=secret)
        for path in ("/webhooks", f"/webhooks/{webhook['id']}"):
            assert secret not in client.get(path).text
    kept = [path for path in hooked.data_dir.rglob("*") if path.is_file()]
    assert [str(path) for path in kept if secret.encode() in path.read_bytes()] == []
    assert secret not in hooked.log_text()


def test_deliveries_come_in_pages(hooked: Platform) -> None:
    with Receiver() as receiver, hooked.http() as client:
        webhook = subscribe(hooked, receiver.url())
        sent = [send_test(hooked, webhook) for _ in range(5)]
        path = f"/webhooks/{webhook['id']}/deliveries"
        seen: list[str] = []
        page = {"has_more": True}
        while page["has_more"]:
            asked = {"limit": 2} | ({"before": seen[-1]} if seen else {})
            page = client.get(path, params=asked).raise_for_status().json()
            seen += [one["id"] for one in page["deliveries"]]
        assert seen == sorted(sent, reverse=True)
        wrong = client.get(path, params={"status": "lost"})
        assert wrong.status_code == 400
        assert "status" in wrong.json()["error"]["message"]
