"""`/webhooks`: subscriptions, their deliveries, and the secrets that sign them.

Whoever may run inference manages the subscriptions of its tenant. Another tenant's are not there:
they get the 404 that a made-up id gets.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec

from inferno.core.events import Event, EventName
from inferno.server.operation import Services, Visited
from inferno.server.recording import record
from inferno.web.exchange import decode_body, invalid_request
from inferno.webhooks import signing
from inferno.webhooks.types import (
    NewSecret,
    NewWebhook,
    Status,
    Webhook,
    WebhookChange,
)

NO_STORE = (b"cache-control", b"no-store")
"""On every answer with a secret in it (RFC 6749, section 5.1)."""

_new = msgspec.json.Decoder(NewWebhook)
_changes = msgspec.json.Decoder(WebhookChange)
_secrets = msgspec.json.Decoder(NewSecret)


class DeliveryQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Query parameters of lists of deliveries."""

    status: Status | None = None
    before: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50


async def create(exchange: Visited, services: Services) -> None:
    """`POST /webhooks`: the answer shows the secret, this once."""
    new: NewWebhook = decode_body(_new, await exchange.body())
    principal = exchange.visit.principal
    webhook, secret = await services.webhooks.subscriptions.create(new, principal)
    await record(exchange, services, "webhook.create", f"webhook:{webhook.id}")
    await exchange.respond_json(_with_secret(webhook, secret), status=201, headers=[NO_STORE])


def _with_secret(webhook: Webhook, secret: str) -> dict[str, Any]:
    """Return a subscription with its secret, as it is and as libraries take it."""
    shown = msgspec.structs.asdict(webhook)
    return {**shown, "secret": secret, "signing_key": signing.standard_form(secret)}


async def list_all(exchange: Visited, services: Services) -> None:
    """`GET /webhooks`."""
    webhooks = await services.webhooks.subscriptions.all(_tenant(exchange))
    await exchange.respond_json({"webhooks": webhooks})


async def get(exchange: Visited, services: Services) -> None:
    """`GET /webhooks/{webhook_id}`."""
    await exchange.respond_json(await _webhook(exchange, services))


async def change(exchange: Visited, services: Services) -> None:
    """`PATCH /webhooks/{webhook_id}`: address, events, description, enabled."""
    wanted: WebhookChange = decode_body(_changes, await exchange.body())
    id_, principal = exchange.path_params["webhook_id"], exchange.visit.principal
    webhook = await services.webhooks.subscriptions.change(id_, wanted, principal)
    services.webhooks.outbox.wake()
    fields = [n for n, v in msgspec.structs.asdict(wanted).items() if v is not None]
    await record(exchange, services, "webhook.change", f"webhook:{id_}", fields=fields)
    await exchange.respond_json(webhook)


async def delete(exchange: Visited, services: Services) -> None:
    """`DELETE /webhooks/{webhook_id}`: what waits for it is not sent any more."""
    await exchange.body()
    id_ = exchange.path_params["webhook_id"]
    await services.webhooks.subscriptions.delete(id_, _tenant(exchange))
    await record(exchange, services, "webhook.delete", f"webhook:{id_}")
    await exchange.respond_json({"status": "deleted", "id": id_})


async def rotate(exchange: Visited, services: Services) -> None:
    """`POST /webhooks/{webhook_id}/rotate`: a new secret; the old one signs a while longer."""
    body = await exchange.body()
    new: NewSecret = decode_body(_secrets, body) if body.strip() else NewSecret()
    id_ = exchange.path_params["webhook_id"]
    webhook, secret = await services.webhooks.subscriptions.rotate(id_, new, _tenant(exchange))
    await record(exchange, services, "webhook.rotate", f"webhook:{id_}")
    await exchange.respond_json(_with_secret(webhook, secret), headers=[NO_STORE])


async def send_test(exchange: Visited, services: Services) -> None:
    """`POST /webhooks/{webhook_id}/test`: an event that says nothing, to see that it arrives."""
    await exchange.body()
    id_, tenant = exchange.path_params["webhook_id"], _tenant(exchange)
    event = Event(
        name=EventName.WEBHOOK_TEST,
        tenant=tenant,
        data={"webhook_id": id_, "request_id": exchange.request_id},
    )
    delivery = await services.webhooks.deliveries.add_for(id_, event, tenant)
    services.webhooks.outbox.wake()
    await exchange.respond_json(delivery, status=202)


async def list_of_webhook(exchange: Visited, services: Services) -> None:
    """`GET /webhooks/{webhook_id}/deliveries`, newest first."""
    webhook = await _webhook(exchange, services)
    await _page(exchange, services, webhook.id)


async def list_deliveries(exchange: Visited, services: Services) -> None:
    """`GET /webhooks/deliveries`: also those to addresses that came with a request."""
    await _page(exchange, services, None)


async def _page(exchange: Visited, services: Services, webhook_id: str | None) -> None:
    """Answer with a page; `before` takes the last id of one for the next."""
    given = dict(parse_qsl(exchange.scope["query_string"].decode("latin-1")))
    try:
        asked = msgspec.convert(given, DeliveryQuery, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_request(str(error)) from None
    found = await services.webhooks.deliveries.page(
        _tenant(exchange),
        webhook_id=webhook_id,
        status=asked.status,
        before=asked.before,
        limit=asked.limit + 1,
    )
    page = found[: asked.limit]
    await exchange.respond_json({"deliveries": page, "has_more": len(found) > len(page)})


async def get_delivery(exchange: Visited, services: Services) -> None:
    """`GET /webhooks/deliveries/{delivery_id}`: with its payload and every attempt."""
    id_ = exchange.path_params["delivery_id"]
    await exchange.respond_json(await services.webhooks.deliveries.get(id_, _tenant(exchange)))


async def resend(exchange: Visited, services: Services) -> None:
    """`POST /webhooks/deliveries/{delivery_id}/resend`: now, whatever has become of it."""
    await exchange.body()
    id_ = exchange.path_params["delivery_id"]
    delivery = await services.webhooks.deliveries.resend(id_, _tenant(exchange))
    services.webhooks.outbox.wake()
    await record(exchange, services, "webhook.resend", f"delivery:{id_}")
    await exchange.respond_json(delivery, status=202)


async def show_secret(exchange: Visited, services: Services) -> None:
    """`GET /webhooks/secret`: what signs deliveries to addresses that came with a request."""
    secret = services.webhooks.secret_of(_tenant(exchange))
    await record(exchange, services, "webhook.secret", f"tenant:{_tenant(exchange)}")
    shown = {"secret": secret, "signing_key": signing.standard_form(secret)}
    await exchange.respond_json(shown, headers=[NO_STORE])


def _tenant(exchange: Visited) -> str:
    return exchange.visit.principal.tenant


async def _webhook(exchange: Visited, services: Services) -> Webhook:
    id_ = exchange.path_params["webhook_id"]
    return await services.webhooks.subscriptions.get(id_, _tenant(exchange))
