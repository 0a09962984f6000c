"""The outbox over SQLite and Postgres: who is told of what, and what is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from inferno.core.events import Event, EventName
from inferno.core.tenancy import Role
from inferno.storage.tables import users, webhook_deliveries
from inferno.webhooks import outbox as outbox_module
from inferno.webhooks.types import WebhookChange
from tests.contract.webhooks.conftest import SEALER, Parts, make_principal

BATCH = Event(name=EventName.BATCH_COMPLETE, tenant="red", data={"batch_id": "b"})
LOADED = Event(name=EventName.MODEL_LOADED, tenant=None, data={"model": "m"})
INFERENCE = Event(name=EventName.INFERENCE_COMPLETE, tenant="red", data={"request_id": "r"})


async def add(parts: Parts, event: Event, **options: Any) -> None:
    async with parts.database.transaction() as connection:
        await parts.outbox.add(connection, event, **options)


async def rows(parts: Parts) -> list[Any]:
    async with parts.database.read() as connection:
        query = sa.select(webhook_deliveries).order_by(webhook_deliveries.c.id)
        return list((await connection.execute(query)).mappings())


async def told(parts: Parts) -> list[str | None]:
    return [row["webhook_id"] for row in await rows(parts)]


async def test_those_of_the_tenant_that_subscribed_are_told(parts: Parts) -> None:
    red = await make_principal(parts.database, "red")
    blue = await make_principal(parts.database, "blue", tenant="blue")
    first = await parts.subscribe(red, "batch.complete", "batch.failed")
    second = await parts.subscribe(red, "batch.complete")
    await parts.subscribe(red, "batch.failed")
    await parts.subscribe(blue, "batch.complete")
    disabled = await parts.subscribe(red, "batch.complete")
    await parts.subscriptions.change(disabled.id, WebhookChange(enabled=False), red)
    await add(parts, BATCH)
    assert set(await told(parts)) == {first.id, second.id}


async def test_models_are_told_to_all_that_may_see_them(parts: Parts) -> None:
    red = await make_principal(parts.database, "red")
    blue = await make_principal(parts.database, "blue", tenant="blue")
    webhooks = [await parts.subscribe(one, "model.loaded") for one in (red, blue)]
    await add(parts, LOADED)
    assert set(await told(parts)) == {one.id for one in webhooks}


@pytest.mark.parametrize(
    "change", [{"disabled": True}, {"role": "guest"}, {"tenant": "blue"}, {"role": "unknown"}]
)
async def test_whoever_could_no_longer_subscribe_is_not_told(
    parts: Parts, change: dict[str, Any]
) -> None:
    red = await make_principal(parts.database, "red", role=Role.SERVICE)
    await parts.subscribe(red, "batch.complete", "model.loaded")
    async with parts.database.transaction() as connection:
        await connection.execute(sa.update(users).values(change))
    await add(parts, BATCH)
    await add(parts, LOADED)
    assert await told(parts) == []


async def test_what_is_rolled_back_is_not_told(parts: Parts) -> None:
    red = await make_principal(parts.database, "red")
    await parts.subscribe(red, "batch.complete")

    async def add_and_fail() -> None:
        async with parts.database.transaction() as connection:
            await parts.outbox.add(connection, BATCH, url="https://example.com/")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await add_and_fail()
    assert await told(parts) == []


async def test_an_address_is_told_without_a_subscription(parts: Parts) -> None:
    await add(parts, BATCH, url="https://example.com/a?b")
    await add(parts, BATCH, url="https://example.com/c", secret="own")
    plain, own = await rows(parts)
    assert plain["webhook_id"] is None
    assert plain["url"] == "https://example.com/a?b"
    assert plain["endpoint"] == own["endpoint"] == "https://example.com red"
    assert plain["secret"] is None
    assert own["secret"] != "own"
    assert SEALER.open(own["secret"], own["id"]) == "own"


async def test_published_events_are_written_soon(parts: Parts) -> None:
    red = await make_principal(parts.database, "red")
    webhook = await parts.subscribe(red, "inference.complete")
    async with parts.outbox.writing():
        parts.outbox.publish(INFERENCE)
        async with asyncio.timeout(20):
            await parts.outbox.due.wait()
        assert await told(parts) == [webhook.id]
        parts.outbox.publish(INFERENCE)
    assert await told(parts) == [webhook.id, webhook.id]  # the last ones at the end


async def test_what_nobody_wants_is_not_even_kept(parts: Parts) -> None:
    red = await make_principal(parts.database, "red")
    await parts.subscribe(red, "batch.complete")
    parts.outbox.publish(INFERENCE)
    await parts.outbox.flush()
    assert await told(parts) == []
    assert not parts.interest.has("red", EventName.INFERENCE_COMPLETE)
    assert parts.interest.has("red", EventName.BATCH_COMPLETE)
    assert parts.interest.has(None, EventName.BATCH_COMPLETE)
    assert not parts.interest.has(None, EventName.MODEL_LOADED)


async def test_other_processes_hear_of_subscriptions(parts: Parts, others: Parts) -> None:
    red = await make_principal(parts.database, "red")
    webhook = await parts.subscribe(red, "inference.complete")
    assert not others.interest.has("red", EventName.INFERENCE_COMPLETE)
    await others.interest.look()
    assert others.interest.has("red", EventName.INFERENCE_COMPLETE)
    await others.subscriptions.delete(webhook.id, "red")
    await parts.interest.look()
    assert not parts.interest.has("red", EventName.INFERENCE_COMPLETE)


async def test_too_many_events_are_counted_not_kept(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_WAITING", 3)
    red = await make_principal(parts.database, "red")
    await parts.subscribe(red, "inference.complete")
    for _ in range(5):
        parts.outbox.publish(INFERENCE)
    assert parts.outbox.dropped == 2
    await parts.outbox.flush()
    assert len(await told(parts)) == 3


async def test_a_subscription_whose_queue_is_full_is_passed_by(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_QUEUED", 2)
    red = await make_principal(parts.database, "red")
    full = await parts.subscribe(red, "inference.complete", "batch.complete")
    for _ in range(2):
        await add(parts, BATCH)
    other = await parts.subscribe(red, "inference.complete")
    parts.outbox.publish(INFERENCE)
    await parts.outbox.flush()
    assert await told(parts) == [full.id, full.id, other.id]
    assert parts.outbox.dropped == 1
    await add(parts, BATCH)  # what was committed is told all the same
    assert len(await told(parts)) == 4


async def test_a_removal_in_the_middle_breaks_no_transaction(parts: Parts, others: Parts) -> None:
    red = await make_principal(parts.database, "red")
    webhook = await parts.subscribe(red, "batch.complete")
    async with parts.database.transaction() as connection:
        await parts.outbox.add(connection, BATCH)
        removal = asyncio.create_task(others.subscriptions.delete(webhook.id, "red"))
        await asyncio.sleep(0.2)
        assert not removal.done()
    await removal
    assert await told(parts) == []
