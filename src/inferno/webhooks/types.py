"""Subscriptions and deliveries, as callers see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from inferno.core.events import EventName

Url = Annotated[str, Meta(min_length=1, max_length=2048)]
Secret = Annotated[str, Meta(min_length=1, max_length=512)]
Description = Annotated[str, Meta(max_length=255, pattern=r"\A[^\x00-\x1f]*\Z")]
Events = Annotated[list[EventName], Meta(min_length=1, max_length=64)]
Status = Literal["pending", "delivered", "parked"]

MODEL_EVENTS = frozenset({EventName.MODEL_LOADED, EventName.MODEL_UNLOADED, EventName.MODEL_FAILED})
"""Events that are everybody's who may see models."""


class NewWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /webhooks`.

    Args:
        webhook_url: where deliveries go.
        events: what to be told of.
        secret: signs deliveries; generated where not given.
        description: for people.
        enabled: whether to deliver at once.
    """

    webhook_url: Url
    events: Events
    secret: Secret | None = None
    description: Description = ""
    enabled: bool = True


class WebhookChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PATCH /webhooks/{id}`: what is given changes, all else stays."""

    webhook_url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: bool | None = None


class NewSecret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /webhooks/{id}/rotate`.

    Args:
        secret: the new one; generated where not given.
        grace_seconds: how long deliveries are signed with the old one too.
    """

    secret: Secret | None = None
    grace_seconds: Annotated[int, Meta(ge=0, le=2_592_000)] = 86_400


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription; its secret is never among this.

    Args:
        id: of the subscription.
        webhook_url: where its deliveries go.
        events: what it is told of.
        description: for people.
        enabled: whether it is told anything.
        disabled_reason: why it is not, where the platform decided that.
        created_by: id of the user who made it.
        created_at, updated_at: RFC 3339.
    """

    id: str
    webhook_url: str
    events: list[str]
    description: str
    enabled: bool
    disabled_reason: str
    created_by: str
    created_at: str
    updated_at: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try to deliver: what the receiver answered, or why it did not.

    Args:
        number: from 1 on.
        at: when it began, RFC 3339.
        duration_ms: how long it took.
        status_code: of the answer; None where none came.
        error: empty where it succeeded.
    """

    number: int
    at: str
    duration_ms: int
    status_code: int | None
    error: str


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one address.

    Args:
        id: sent as `webhook-id`; the same for all attempts.
        webhook_id: of the subscription; None for an address that came with a request.
        webhook_url: where it goes.
        event: what happened.
        status: `pending`, `delivered`, or `parked`: given up, and kept to be sent again.
        attempts: how often it was tried.
        last_status_code, last_error: of the latest attempt.
        created_at: when the event was noted, RFC 3339.
        next_attempt_at: of one that is pending.
        finished_at: when it was delivered or parked.
    """

    id: str
    webhook_id: str | None
    webhook_url: str
    event: str
    status: str
    attempts: int
    last_status_code: int | None
    last_error: str
    created_at: str
    next_attempt_at: str | None
    finished_at: str | None


class DeliveryDetails(Delivery, frozen=True, kw_only=True):
    """A delivery with what is sent, but for its signature, and with its attempts."""

    payload: dict[str, Any]
    attempt_log: list[Attempt]
