"""The queue of deliveries over SQLite and Postgres: who takes what, when, and what is noted."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from inferno.core.errors import Conflict, NotFound
from inferno.core.events import Event, EventName
from inferno.core.tenancy import Principal
from inferno.storage.tables import webhook_attempts, webhook_deliveries
from inferno.webhooks import moments
from inferno.webhooks.deliveries import Deliveries, Due, Verdict
from inferno.webhooks.places import PER_ENDPOINT, PER_TENANT, Places
from inferno.webhooks.types import Attempt, WebhookChange
from tests.contract.webhooks.conftest import Parts, make_principal

BATCH = Event(name=EventName.BATCH_COMPLETE, tenant="red", data={"batch_id": "b"})


async def add(parts: Parts, count: int = 1, tenant: str = "red") -> None:
    event = Event(name=EventName.BATCH_COMPLETE, tenant=tenant, data={})
    async with parts.database.transaction() as connection:
        for _ in range(count):
            await parts.outbox.add(connection, event)


async def take(
    deliveries: Deliveries, *finished: Verdict, places: Places | None = None, most: int = 64
) -> list[Due]:
    return await deliveries.turn(finished, places or Places(), most=most, lease=60)


async def set_all(parts: Parts, **values: Any) -> None:
    async with parts.database.transaction() as connection:
        await connection.execute(sa.update(webhook_deliveries).values(values))


def attempt(number: int, status: int | None = 500) -> Attempt:
    error = "" if status == 200 else "It failed."
    now = moments.text_of(moments.now())
    return Attempt(number=number, at=now, duration_ms=5, status_code=status, error=error)


@pytest.fixture
async def red(parts: Parts) -> Principal:
    return await make_principal(parts.database, "red")


async def test_what_one_process_takes_the_other_does_not(
    parts: Parts, others: Parts, red: Principal
) -> None:
    for _ in range(5):
        await parts.subscribe(red, "batch.complete")
    await add(parts)
    first = await take(parts.deliveries, most=3)
    second = await take(others.deliveries)
    assert len(first) == 3
    assert len(second) == 2
    assert await take(parts.deliveries) == []
    assert {one.id for one in first} & {one.id for one in second} == set()


async def test_what_a_dead_process_took_is_due_again(
    parts: Parts, others: Parts, red: Principal
) -> None:
    await parts.subscribe(red, "batch.complete")
    await add(parts)
    taken = await take(others.deliveries)
    assert await take(parts.deliveries) == []
    assert await parts.deliveries.seconds_until_due() == pytest.approx(60, abs=30)
    await set_all(parts, due_at=moments.later(-1))
    again = await take(parts.deliveries)
    assert [one.id for one in again] == [one.id for one in taken]
    # The dead one was only slow: what it has to say comes too late.
    await take(others.deliveries, Verdict(taken[0], attempt(1, 200), "delivered"))
    shown = await parts.deliveries.get(taken[0].id, "red")
    assert (shown.status, shown.attempts, shown.attempt_log) == ("pending", 0, [])


async def test_the_only_process_takes_up_what_it_had(parts: Parts, red: Principal) -> None:
    await parts.subscribe(red, "batch.complete")
    await add(parts)
    assert await take(parts.deliveries)
    await parts.deliveries.release_all()
    found = await take(parts.deliveries)
    sqlite = parts.database._url.get_backend_name() == "sqlite"
    assert len(found) == (1 if sqlite else 0)  # Postgres may have other processes


async def test_attempts_are_noted(parts: Parts, red: Principal) -> None:
    await parts.subscribe(red, "batch.complete")
    await add(parts)
    (due,) = await take(parts.deliveries)
    await take(parts.deliveries, Verdict(due, attempt(1), "pending", wait=100))
    shown = await parts.deliveries.get(due.id, "red")
    assert (shown.status, shown.attempts, shown.last_status_code) == ("pending", 1, 500)
    assert await take(parts.deliveries) == []
    await set_all(parts, due_at=moments.later(-1))
    (due,) = await take(parts.deliveries)
    assert (due.attempts, due.waited) == (1, 100)
    await take(parts.deliveries, Verdict(due, attempt(2, 200), "delivered"))
    shown = await parts.deliveries.get(due.id, "red")
    assert (shown.status, shown.next_attempt_at) == ("delivered", None)
    assert [one.status_code for one in shown.attempt_log] == [500, 200]
    assert shown.finished_at is not None


async def test_parked_ones_are_sent_again_from_the_beginning(parts: Parts, red: Principal) -> None:
    await parts.subscribe(red, "batch.complete")
    await add(parts)
    (due,) = await take(parts.deliveries)
    await set_all(parts, waited=80_000)
    await take(parts.deliveries, Verdict(due, attempt(1), "parked"))
    parked = await parts.deliveries.page("red", status="parked", limit=10)
    assert [one.id for one in parked] == [due.id]
    assert await take(parts.deliveries) == []
    await parts.deliveries.resend(due.id, "red")
    (again,) = await take(parts.deliveries)
    assert (again.id, again.attempts, again.waited) == (due.id, 1, 0)


async def test_what_is_anothers_is_not_there(parts: Parts, red: Principal) -> None:
    webhook = await parts.subscribe(red, "batch.complete")
    await add(parts)
    (due,) = await take(parts.deliveries)
    for id_ in (due.id, "msg_0", "x\x00y", "\ud800", "ä" * 50):
        with pytest.raises(NotFound):
            await parts.deliveries.get(id_, "blue")
        with pytest.raises(NotFound):
            await parts.deliveries.resend(id_, "blue")
    for id_ in (webhook.id, "wh_0", "x\x00y"):
        with pytest.raises(NotFound):
            await parts.deliveries.add_for(id_, BATCH, "blue")
        with pytest.raises(NotFound):
            await parts.subscriptions.get(id_, "blue")
    assert await parts.deliveries.page("blue", limit=10) == []
    assert await parts.deliveries.page("blue", webhook_id=webhook.id, before="\x00", limit=9) == []


async def test_no_endpoint_gets_more_than_its_places(parts: Parts, red: Principal) -> None:
    for _ in range(3):
        await parts.subscribe(red, "batch.complete")
    await add(parts, 50)
    taken = await take(parts.deliveries)
    assert Counter(Counter(one.endpoint for one in taken).values()) == {PER_ENDPOINT: 3}


async def test_tenants_have_their_turns(parts: Parts, red: Principal) -> None:
    """However much waits for one tenant, the next place is another's."""
    blue = await make_principal(parts.database, "blue", tenant="blue")
    for _ in range(5):
        await parts.subscribe(red, "batch.complete")
    await parts.subscribe(blue, "batch.complete")
    await add(parts, 100)
    await add(parts, 1, tenant="blue")
    taken = await take(parts.deliveries, most=2)
    assert {one.tenant for one in taken} == {"red", "blue"}


async def test_full_endpoints_and_tenants_are_passed_by(parts: Parts, red: Principal) -> None:
    blue = await make_principal(parts.database, "blue", tenant="blue")
    first = await parts.subscribe(red, "batch.complete")
    second = await parts.subscribe(red, "batch.complete")
    third = await parts.subscribe(blue, "batch.complete")
    await add(parts, 10)
    await add(parts, 10, tenant="blue")
    places = Places()
    for _ in range(3):
        places.take(first.id, "red")
        places.note(first.id, accepted=False)
    taken = await take(parts.deliveries, places=places, most=1)
    assert [one.endpoint for one in taken] != [first.id]
    for _ in range(PER_TENANT - 3):
        places.take("elsewhere", "red")
    taken = await take(parts.deliveries, places=places)
    assert {one.endpoint for one in taken} == {third.id}
    assert second.id


async def test_a_clock_that_was_wrong_holds_up_nothing(parts: Parts, red: Principal) -> None:
    await parts.subscribe(red, "batch.complete")
    await add(parts)
    await set_all(parts, due_at=moments.later(365 * 86400))
    assert await parts.deliveries.seconds_until_due() == 0
    assert len(await take(parts.deliveries)) == 1


async def test_disabled_subscriptions_wait_without_being_looked_at(
    parts: Parts, red: Principal
) -> None:
    webhook = await parts.subscribe(red, "batch.complete")
    await add(parts)
    await parts.subscriptions.change(webhook.id, WebhookChange(enabled=False), red)
    assert await parts.deliveries.seconds_until_due() is None
    assert await take(parts.deliveries) == []
    with pytest.raises(Conflict):
        await parts.deliveries.add_for(webhook.id, BATCH, "red")


async def test_gone_disables_and_parks_what_waits(parts: Parts, red: Principal) -> None:
    webhook = await parts.subscribe(red, "batch.complete")
    other = await parts.subscribe(red, "batch.complete")
    await add(parts, 6)
    taken = await take(parts.deliveries)
    mine = [one for one in taken if one.webhook_id == webhook.id]
    await take(parts.deliveries, Verdict(mine[0], attempt(1, 410), "parked", gone=True), most=0)
    assert not (await parts.subscriptions.get(webhook.id, "red")).enabled
    page = await parts.deliveries.page("red", webhook_id=webhook.id, limit=100)
    assert {one.status for one in page} == {"parked"}
    page = await parts.deliveries.page("red", webhook_id=other.id, limit=100)
    assert {one.status for one in page} == {"pending"}


async def test_a_removed_subscriptions_attempts_are_not_noted(parts: Parts, red: Principal) -> None:
    webhook = await parts.subscribe(red, "batch.complete")
    await add(parts)
    (due,) = await take(parts.deliveries)
    await parts.subscriptions.delete(webhook.id, "red")
    assert await take(parts.deliveries, Verdict(due, attempt(1, 200), "delivered")) == []
    async with parts.database.read() as connection:
        assert (await connection.execute(sa.select(webhook_attempts))).all() == []


async def test_old_deliveries_are_removed(parts: Parts, red: Principal) -> None:
    await parts.subscribe(red, "batch.complete")
    await add(parts, 3)
    delivered, parked, waiting = await take(parts.deliveries)
    await take(
        parts.deliveries,
        Verdict(delivered, attempt(1, 200), "delivered"),
        Verdict(parked, attempt(1), "parked"),
        Verdict(waiting, attempt(1), "pending", wait=10),
        most=0,
    )
    assert await parts.deliveries.prune() == 0
    await set_all(parts, created_at=moments.text_of(moments.now() - timedelta(days=8)))
    assert await parts.deliveries.prune() == 1
    left = await parts.deliveries.page("red", limit=10)
    assert {one.id for one in left} == {parked.id, waiting.id}
    await set_all(parts, created_at=moments.text_of(moments.now() - timedelta(days=31)))
    assert await parts.deliveries.prune() == 2
    assert await parts.deliveries.counts() == {}
