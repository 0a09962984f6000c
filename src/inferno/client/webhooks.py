"""Webhooks: subscribing to events, and making sure that a delivery is the platform's."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from inferno.client.calls import Call, delete, get, given, member, post, query, reader, segment
from inferno.client.errors import WebhookRefused

PREFIX = "whsec_"
_SIGNATURE = re.compile(rb'\A(\{.*),"signature":"sha256=([0-9a-f]{64})"\}\s*\Z', re.DOTALL)


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription; `disabled_reason` says why the platform switched it off."""

    id: str
    webhook_url: str
    events: list[str]
    description: str = ""
    enabled: bool = True
    disabled_reason: str = ""
    created_by: str = ""
    created_at: str = ""
    updated_at: str = ""


class NewWebhook(Webhook, frozen=True, kw_only=True):
    """A subscription with its secret, which is shown this once.

    `signing_key` is the same in the form that libraries for Standard Webhooks take.
    """

    secret: str
    signing_key: str = ""


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """What signs deliveries to addresses that came with a request, such as a batch's."""

    secret: str
    signing_key: str = ""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one address; `status` is `pending`, `delivered` or `parked`."""

    id: str
    webhook_url: str
    event: str
    status: str
    attempts: int
    webhook_id: str | None = None
    last_status_code: int | None = None
    last_error: str = ""
    created_at: str = ""
    next_attempt_at: str | None = None
    finished_at: str | None = None


class DeliveryDetails(Delivery, frozen=True, kw_only=True):
    """A delivery with what is sent, but for its signature, and with its attempts."""

    payload: dict[str, Any] = {}
    attempt_log: list[dict[str, Any]] = []


class WebhookEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook tells; `event` is `batch.complete`, `model.loaded` and the like."""

    event: str
    timestamp: str
    data: dict[str, Any]


_read_webhooks = member("webhooks", list[Webhook])
_read_webhook = reader(Webhook)
_read_new = reader(NewWebhook)
_read_secret = reader(Secret)
_read_delivery = reader(Delivery)
_read_details = reader(DeliveryDetails)
_read_deliveries = member("deliveries", list[Delivery])
_read_json = reader(dict[str, Any])


def create_webhook(
    webhook_url: str,
    *,
    events: Sequence[str],
    secret: str | None = None,
    description: str | None = None,
) -> Call[NewWebhook]:
    """Subscribe to events.

    Args:
        webhook_url: where they are sent.
        events: their names.
        secret: signs them; generated where not given.
        description: for people.
    """
    body = given(
        webhook_url=webhook_url, events=list(events), secret=secret, description=description
    )
    return post("/webhooks", _read_new, body)


def list_webhooks() -> Call[list[Webhook]]:
    """Return the caller's subscriptions."""
    return get("/webhooks", _read_webhooks)


def get_webhook(webhook_id: str) -> Call[Webhook]:
    """Return a subscription."""
    return get(f"/webhooks/{segment(webhook_id)}", _read_webhook)


def change_webhook(
    webhook_id: str,
    *,
    webhook_url: str | None = None,
    events: Sequence[str] | None = None,
    description: str | None = None,
    enabled: bool | None = None,
) -> Call[Webhook]:
    """Change a subscription; what is not given stays."""
    body = given(webhook_url=webhook_url, events=events, description=description, enabled=enabled)
    path = f"/webhooks/{segment(webhook_id)}"
    return post(path, _read_webhook, body, method="PATCH", repeatable=True)


def delete_webhook(webhook_id: str) -> Call[dict[str, Any]]:
    """End a subscription."""
    return delete(f"/webhooks/{segment(webhook_id)}", _read_json)


def rotate_webhook(
    webhook_id: str, *, secret: str | None = None, grace_seconds: int | None = None
) -> Call[NewWebhook]:
    """Replace a subscription's secret; the old one signs as well for another while."""
    body = given(secret=secret, grace_seconds=grace_seconds)
    return post(f"/webhooks/{segment(webhook_id)}/rotate", _read_new, body)


def test_webhook(webhook_id: str) -> Call[Delivery]:
    """Send an event that says nothing, to see that it arrives."""
    return post(f"/webhooks/{segment(webhook_id)}/test", _read_delivery)


def list_deliveries(
    webhook_id: str | None = None,
    *,
    status: Literal["pending", "delivered", "parked"] | None = None,
    before: str | None = None,
    limit: int | None = None,
) -> Call[list[Delivery]]:
    """Return deliveries, the newest first.

    Args:
        webhook_id: of one subscription; of all where not given.
        status: of the deliveries.
        before: the id of the last delivery of the page before.
        limit: 1 to 1000.
    """
    where = "" if webhook_id is None else f"/{segment(webhook_id)}"
    asked = query(status=status, before=before, limit=limit)
    return get(f"/webhooks{where}/deliveries{asked}", _read_deliveries)


def get_delivery(delivery_id: str) -> Call[DeliveryDetails]:
    """Return a delivery with what is sent and with every attempt."""
    return get(f"/webhooks/deliveries/{segment(delivery_id)}", _read_details)


def resend(delivery_id: str) -> Call[Delivery]:
    """Send a delivery again, now, whatever has become of it."""
    return post(f"/webhooks/deliveries/{segment(delivery_id)}/resend", _read_delivery)


def shared_secret() -> Call[Secret]:
    """Return what signs deliveries to addresses that came with a request."""
    return get("/webhooks/secret", _read_secret)


def verify_webhook(payload: bytes | str, headers: Mapping[str, str], secret: str) -> WebhookEvent:
    """Return the event in a delivery, once it is certain that the platform sent it.

    The headers' signature (Standard Webhooks) counts where there is one: it covers the time, so
    that old deliveries cannot be sent again by others. Without those headers the signature in the
    body (seed 001) has to do, which proves where it comes from, but not when.

    Args:
        payload: the body as it was received, byte for byte.
        headers: of the request, in any case.
        secret: of the subscription.

    Raises:
        WebhookRefused: a signature is missing or wrong, or the delivery is older than five minutes.
    """
    body = payload.encode() if isinstance(payload, str) else bytes(payload)
    if any(name.lower().startswith("webhook-") for name in headers):
        _verify_headers(body, headers, secret)
    else:
        _verify_body(body, secret)
    try:
        return msgspec.json.decode(body, type=WebhookEvent)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise WebhookRefused(f"The delivery is no event: {error}") from None


def _verify_headers(body: bytes, headers: Mapping[str, str], secret: str) -> None:
    """Check the signature of Standard Webhooks."""
    from standardwebhooks import Webhook as Standard
    from standardwebhooks import WebhookVerificationError

    try:
        key = secret if secret.startswith(PREFIX) else secret.encode()
        Standard(key).verify(body, dict(headers), json_parse=False)
    except WebhookVerificationError as error:
        raise WebhookRefused(f"The delivery cannot be believed: {error}.") from None
    except Exception as error:  # headers that are no signatures make the library fail in many ways
        raise WebhookRefused("The delivery's signature cannot be read.") from error


def _verify_body(body: bytes, secret: str) -> None:
    """Check seed 001's signature: of the body without it, which is its last member."""
    found = _SIGNATURE.match(body)
    if found is None:
        raise WebhookRefused("The delivery has no signature.")
    signed = found[1] + b"}"
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), found[2]):
        raise WebhookRefused("The delivery's signature is wrong.")
