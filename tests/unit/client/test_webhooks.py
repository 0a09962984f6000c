"""Deliveries are believed where their signatures say so, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from inferno import verify_webhook
from inferno.client import WebhookRefused

PAYLOAD = b'{"event":"batch.complete","timestamp":"2026-01-01T12:00:00Z","data":{"batch_id":"b"}}'
SECRETS = ["webhook_secret_key", "whsec_" + base64.b64encode(b"k" * 32).decode()]


def signed(payload: bytes, secret: str) -> bytes:
    """Return the payload with the seed's signature as its last member."""
    digest = hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
    return payload[:-1] + f',"signature":"sha256={digest}"}}'.encode()


def headers(body: bytes, secret: str, *, age: float = 0.0) -> dict[str, str]:
    """Return the headers of Standard Webhooks."""
    at = datetime.now(UTC) - timedelta(seconds=age)
    key = secret if secret.startswith("whsec_") else secret.encode()
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": "v1,bm9uc2Vuc2U= " + Webhook(key).sign("msg_1", at, body.decode()),
    }


@pytest.mark.parametrize("secret", SECRETS)
def test_deliveries(secret: str) -> None:
    body = signed(PAYLOAD, secret)
    event = verify_webhook(body, headers(body, secret), secret)
    assert (event.event, event.data) == ("batch.complete", {"batch_id": "b"})
    assert verify_webhook(body.decode(), {"content-type": "application/json"}, secret) == event


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("with_headers", [True, False])
def test_changed_deliveries(secret: str, with_headers: bool) -> None:
    body = signed(PAYLOAD, secret)
    sent = headers(body, secret) if with_headers else {}
    with pytest.raises(WebhookRefused):
        verify_webhook(body.replace(b'"b"', b'"c"'), sent, secret)
    with pytest.raises(WebhookRefused):
        verify_webhook(body, sent, SECRETS[1 - SECRETS.index(secret)])


def test_old_deliveries() -> None:
    body = signed(PAYLOAD, SECRETS[0])
    with pytest.raises(WebhookRefused, match="too old"):
        verify_webhook(body, headers(body, SECRETS[0], age=3600), SECRETS[0])


def test_a_wrong_header_is_not_made_good_by_the_body() -> None:
    body = signed(PAYLOAD, SECRETS[0])
    for name in ("webhook-signature", "webhook-id", "webhook-timestamp"):
        with pytest.raises(WebhookRefused):
            verify_webhook(body, {name: "v1,x"}, SECRETS[0])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        PAYLOAD,
        b"\xff",
        signed(PAYLOAD, SECRETS[0]) + b"x",
        signed(b'{"event":5}', SECRETS[0]),
        signed(b"[" * 100_000 + b"}", SECRETS[0]),
        b'{"signature":"sha256=' + b"0" * 64 + b'"}',
    ],
)
@pytest.mark.parametrize("sent", [{}, {"webhook-id": "x", "webhook-signature": "nonsense"}])
def test_nonsense(body: bytes, sent: dict[str, str]) -> None:
    with pytest.raises(WebhookRefused):
        verify_webhook(body, sent, SECRETS[0])


def test_no_secret_verifies_nothing() -> None:
    body = signed(PAYLOAD, SECRETS[0])
    for sent in ({}, headers(body, SECRETS[0])):
        for secret in ("", "whsec_"):
            with pytest.raises(WebhookRefused):
                verify_webhook(body, sent, secret)
