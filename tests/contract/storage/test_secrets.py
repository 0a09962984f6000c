"""Secrets in the store: nothing of a value is in any table, and only a sealer gets it out."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from inferno.core.errors import InfernoError, InvalidRequest
from inferno.core.resources import ObjectMeta
from inferno.core.secrets import Secret, SecretSpec, is_sealed
from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from inferno.storage.sealing import Sealer
from inferno.storage.tables import resource_events, resources

PLAIN = "a-value-that-nobody-should-see"
VALUE = base64.b64encode(PLAIN.encode()).decode()


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(b"s" * 32)


@pytest.fixture
async def sealing(database: Database, sealer: Sealer) -> AsyncIterator[SqlResourceStore]:
    store = await SqlResourceStore.open(database, sealer=sealer)
    yield store
    await store.close()


def secret(name: str = "keys", **data: str) -> Secret:
    return Secret(metadata=ObjectMeta(name=name), spec=SecretSpec(data=data or {"api": VALUE}))


async def _stored_text(database: Database) -> str:
    async with database.read() as connection:
        rows = [
            *(await connection.scalars(select(resources.c.document))).all(),
            *(await connection.scalars(select(resource_events.c.document))).all(),
        ]
    return "\n".join(rows)


async def test_no_table_ever_holds_a_value(
    sealing: SqlResourceStore, database: Database, sealer: Sealer
) -> None:
    created = await sealing.create(secret())
    assert is_sealed(created.spec.data["api"])
    assert sealer.value(created, "api") == PLAIN.encode()
    await sealing.update(secret(api=VALUE, more=VALUE))

    def add(found: Secret) -> None:
        found.spec.data["third"] = VALUE

    changed = await sealing.modify(Secret, "keys", add)
    assert {key: sealer.value(changed, key) for key in changed.spec.data} == dict.fromkeys(
        ("api", "more", "third"), PLAIN.encode()
    )
    assert await sealing.get(Secret, "keys") == changed
    assert (await sealing.list(Secret))[0] == [changed]
    await sealing.delete(Secret, "keys")
    text = await _stored_text(database)
    assert "sealed:" in text
    assert PLAIN not in text
    assert VALUE not in text


async def test_watches_give_sealed_values(sealing: SqlResourceStore) -> None:
    watch = sealing.watch(Secret)
    await sealing.create(secret())
    event = await anext(watch)
    assert is_sealed(event.resource.spec.data["api"])


async def test_what_is_written_again_is_no_change(sealing: SqlResourceStore) -> None:
    created = await sealing.create(secret())
    assert await sealing.update(secret()) == created
    other = await sealing.update(secret(api=base64.b64encode(b"other").decode()))
    assert other.metadata.generation == created.metadata.generation + 1
    assert other.spec.data != created.spec.data


async def test_equal_values_look_different(sealing: SqlResourceStore) -> None:
    created = await sealing.create(secret(a=VALUE, b=VALUE))
    assert created.spec.data["a"] != created.spec.data["b"]


async def test_a_value_opens_in_its_own_place_only(
    sealing: SqlResourceStore, sealer: Sealer
) -> None:
    first = await sealing.create(secret())
    token = first.spec.data["api"]
    for moved in (secret("other", api=token), secret("keys", key=token)):
        with pytest.raises(InfernoError, match="cannot be opened"):
            sealer.value(moved, next(iter(moved.spec.data)))
    with pytest.raises(InfernoError, match="cannot be opened"):
        Sealer(b"x" * 32).value(first, "api")
    for broken in (token[:-4] + "AAAA", token[:12], "sealed:1:", "sealed:9:x", "sealed:1:?"):
        with pytest.raises(InfernoError, match="cannot be opened"):
            sealer.value(secret(api=broken), "api")
    assert sealer.value(first, "missing") is None


async def test_a_value_that_cannot_be_opened_can_be_written_again(
    sealing: SqlResourceStore, sealer: Sealer
) -> None:
    lost = Sealer(b"x" * 32).seal(b"lost", place="secrets/default/keys/api")
    await sealing.create(secret(api=lost))
    mended = await sealing.update(secret())
    assert sealer.value(mended, "api") == PLAIN.encode()


async def test_values_are_base64(sealing: SqlResourceStore) -> None:
    with pytest.raises(InvalidRequest, match="base64") as error:
        await sealing.create(secret(api="plain text"))
    assert error.value.field == "data[api]"


async def test_a_store_without_a_platform_secret_takes_none(
    store: SqlResourceStore, database: Database
) -> None:
    with pytest.raises(InfernoError, match="no platform secret"):
        await store.create(secret())
    assert await _stored_text(database) == ""
