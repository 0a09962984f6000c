"""Entries are added, changed, kept alive and removed, whole or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from inferno.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from inferno.registry.calls import change_of
from inferno.registry.catalog import Catalog, Change
from inferno.registry.entries import Document
from inferno.registry.finding import Finder, Query, parse
from inferno.registry.index import ensure_index
from inferno.registry.indexing import index_of, kept_path
from inferno.storage.database import Database
from inferno.storage.tables import meta, registry_changes, registry_values
from tests.contract.registry.conftest import ADA, ADMIN, BOB, Clock, principal

NAME, TAGS = "inference_server_name", "inference_server_tags"
FACTS, URL = "inference_server_metadata", "inference_server_public_url"


def change(update: str, **options: str) -> Change:
    """Return a change, as a request would ask for it."""
    if not options:
        return change_of(update.encode())
    more = "".join(f', "{name}": {text}' for name, text in options.items())
    return change_of(f'{{"update": {update}{more}}}'.encode())


async def add(catalog: Catalog, **fields: Any) -> str:
    return str((await catalog.create(fields, ADA))["inference_server_id"])


async def found(finder: Finder, filter_: object) -> list[Document]:
    return (await finder.find(Query(filter=parse(filter_)))).documents


async def indexed(database: Database) -> set[tuple[str, str, int]]:
    columns = registry_values.c
    async with database.read() as connection:
        rows = await connection.execute(sa.select(columns.path, columns.value, columns.level))
        return {(path, value, level) for path, value, level in rows}


async def test_what_is_registered_is_found_by_its_id(catalog: Catalog) -> None:
    entry = await catalog.create({NAME: "a", FACTS: {"deep": {"er": [1, {"x": None}]}}}, ADA)
    assert await catalog.get(entry["inference_server_id"]) == entry


async def test_an_unknown_id_is_not_found_and_nothing_is_made(
    catalog: Catalog, finder: Finder
) -> None:
    with pytest.raises(NotFound, match="No document found"):
        await catalog.get("x")
    with pytest.raises(NotFound, match="to update"):
        await catalog.update("x", change('{"$set": {"inference_server_name": "a"}}'), ADA)
    with pytest.raises(NotFound, match="to delete"):
        await catalog.delete("x", ADA)
    with pytest.raises(NotFound):
        await catalog.heartbeat("x", ADA)
    assert await found(finder, {}) == []


@pytest.mark.parametrize("field", ["inference_server_id", NAME, URL])
async def test_conflicts_are_told_apart(catalog: Catalog, field: str) -> None:
    first = {"inference_server_id": "a", NAME: "a", URL: "https://a"}
    other = {"inference_server_id": "b", NAME: "b", URL: "https://b"}
    await catalog.create(first, ADA)
    with pytest.raises(Conflict, match=field) as refused:
        await catalog.create({**other, field: first[field]}, BOB)
    assert refused.value.details == {"field": field}
    await catalog.create(other, ADA)
    if field != "inference_server_id":
        taken = change_of(f'{{"$set": {{"{field}": "{first[field]}"}}}}'.encode())
        with pytest.raises(Conflict, match=field):
            await catalog.update("b", taken, ADA)


async def test_many_may_have_no_name_and_no_url(catalog: Catalog, finder: Finder) -> None:
    await add(catalog)
    await add(catalog)
    assert len(await found(finder, {})) == 2


async def test_an_update_changes_an_entry_and_its_index(
    catalog: Catalog, finder: Finder, database: Database, clock: Clock
) -> None:
    id_ = await add(catalog, **{TAGS: ["NLP"], FACTS: {"region": "us-east-1", "n": 1}})
    clock.forward(5)
    await catalog.update(
        id_,
        change(
            '{"$set": {"inference_server_metadata.region": "us-west-2"},'
            ' "$push": {"inference_server_tags": "LLM"},'
            ' "$inc": {"inference_server_metadata.n": 2}}'
        ),
        ADA,
    )
    entry = await catalog.get(id_)
    assert entry[TAGS] == ["NLP", "LLM"]
    assert entry[FACTS] == {"region": "us-west-2", "n": 3}
    assert entry["updated_at"] > entry["registered_at"]
    assert await found(finder, {TAGS: "LLM"}) == [entry]
    assert await found(finder, {f"{FACTS}.region": "us-east-1"}) == []
    assert await indexed(database) == {
        (kept_path(one.path), one.value, one.level) for one in index_of(entry)
    }


async def test_an_update_that_changes_nothing_succeeds(
    catalog: Catalog, database: Database, clock: Clock
) -> None:
    id_ = await add(catalog, **{NAME: "a"})
    before = await catalog.get(id_)
    clock.forward(5)
    await catalog.update(id_, change('{"$set": {"inference_server_name": "a"}}'), ADA)
    assert await catalog.get(id_) == before
    async with database.read() as connection:
        changes = sa.select(sa.func.count()).select_from(registry_changes)
        assert await connection.scalar(changes) == 1


@pytest.mark.parametrize(
    ("update", "named"),
    [
        ('{"$set": {"inference_server_id": "other"}}', "inference_server_id"),
        ('{"$unset": {"inference_server_id": ""}}', "inference_server_id"),
        ('{"$rename": {"inference_server_id": "x"}}', "inference_server_id"),
        ('{"$set": {"registered_at": "2020-01-01T00:00:00Z"}}', "registered_at"),
        ('{"$set": {"state": "expired"}}', "state"),
        ('{"$set": {"whatever": 1}}', "whatever"),
        ('{"$set": {"inference_server_tags": "x"}}', "inference_server_tags"),
        ('{"$push": {"inference_server_name": "x"}}', "$push"),
        ('{"$teleport": {"a": 1}}', "$teleport"),
        ('{"inference_server_name": "x"}', "$set"),
        ("[]", ""),
        ("{}", ""),
        ("null", ""),
        ("nonsense", "JSON"),
        ("", "empty"),
    ],
)
async def test_a_wrong_update_is_refused_and_leaves_the_entry_alone(
    catalog: Catalog, update: str, named: str
) -> None:
    id_ = await add(catalog, **{NAME: "a"})
    before = await catalog.get(id_)
    with pytest.raises(InvalidRequest) as refused:
        await catalog.update(id_, change(update), ADA)
    assert named in refused.value.message
    assert await catalog.get(id_) == before


async def test_positions_and_conditions(catalog: Catalog) -> None:
    id_ = await add(catalog, **{TAGS: ["a", "b", "c"], FACTS: {"n": 1}})
    update = '{"$set": {"inference_server_tags.$": "B"}}'
    await catalog.update(id_, change(update, filter='{"inference_server_tags": "b"}'), ADA)
    update = '{"$set": {"inference_server_tags.$[x]": "C"}}'
    await catalog.update(id_, change(update, arrayFilters='[{"x": "c"}]'), ADA)
    assert (await catalog.get(id_))[TAGS] == ["a", "B", "C"]
    other = change('{"$set": {"ttl_seconds": 9}}', filter='{"inference_server_metadata.n": 2}')
    with pytest.raises(Conflict, match="filter"):
        await catalog.update(id_, other, ADA)


async def test_only_the_owner_or_an_admin_changes_an_entry(catalog: Catalog) -> None:
    id_ = await add(catalog, ttl_seconds=60)
    namesake = principal("ada", tenant="other")
    rename = change('{"$set": {"inference_server_name": "x"}}')
    for stranger in (BOB, namesake):
        with pytest.raises(PermissionDenied):
            await catalog.update(id_, rename, stranger)
        with pytest.raises(PermissionDenied):
            await catalog.delete(id_, stranger)
        with pytest.raises(PermissionDenied):
            await catalog.heartbeat(id_, stranger)
    await catalog.update(id_, rename, ADMIN)
    await catalog.delete(id_, ADA)
    with pytest.raises(NotFound):
        await catalog.get(id_)


async def test_a_deleted_entry_leaves_nothing_in_the_index(
    catalog: Catalog, database: Database
) -> None:
    id_ = await add(catalog, **{NAME: "a", TAGS: ["x"]})
    await catalog.delete(id_, ADA)
    assert await indexed(database) == set()
    await add(catalog, **{NAME: "a"})


async def test_a_caller_may_have_so_many(catalog: Catalog) -> None:
    for _ in range(5):
        await add(catalog)
    with pytest.raises(Conflict, match="5 entries"):
        await add(catalog)
    await catalog.create({}, BOB)
    for _ in range(6):
        await catalog.create({}, ADMIN)


async def test_concurrent_updates_of_an_entry_all_count(
    catalog: Catalog, url: str, clock: Clock
) -> None:
    id_ = await add(catalog, **{FACTS: {"n": 0}})
    other = await Database.open(url)
    elsewhere = Catalog(other, most=5, clock=clock)
    increment = change('{"$inc": {"inference_server_metadata.n": 1}}')
    await asyncio.gather(
        *(one.update(id_, increment, ADA) for one in (catalog, elsewhere) for _ in range(10))
    )
    await other.close()
    assert (await catalog.get(id_))[FACTS]["n"] == 20


async def test_of_those_who_want_a_name_at_once_one_has_it(
    catalog: Catalog, url: str, clock: Clock
) -> None:
    other = await Database.open(url)
    elsewhere = Catalog(other, most=5, clock=clock)
    results = await asyncio.gather(
        *(one.create({NAME: "a"}, ADA) for one in (catalog, elsewhere) for _ in range(3)),
        return_exceptions=True,
    )
    await other.close()
    refused = [one for one in results if isinstance(one, Conflict)]
    assert len(refused) == 5
    assert {one.details["field"] for one in refused} == {NAME}


async def test_an_entry_without_heartbeat_is_marked_then_removed(
    catalog: Catalog, finder: Finder, clock: Clock
) -> None:
    id_ = await add(catalog, ttl_seconds=60)
    lasting = await add(catalog)
    clock.forward(59)
    assert await catalog.expire(keep_seconds=100) == 0
    clock.forward(2)
    assert await catalog.expire(keep_seconds=100) == 1
    assert [one["inference_server_id"] for one in await found(finder, {"state": "expired"})] == [
        id_
    ]
    clock.forward(98)
    assert await catalog.expire(keep_seconds=100) == 0
    clock.forward(2)
    assert await catalog.expire(keep_seconds=100) == 1
    with pytest.raises(NotFound):
        await catalog.get(id_)
    assert (await catalog.get(lasting))["state"] == "active"


async def test_a_heartbeat_keeps_and_revives(
    catalog: Catalog, finder: Finder, clock: Clock
) -> None:
    id_ = await add(catalog, ttl_seconds=60)
    before = await catalog.get(id_)
    clock.forward(50)
    await catalog.heartbeat(id_, ADA)
    clock.forward(50)
    assert await catalog.expire(keep_seconds=100) == 0
    clock.forward(50)
    assert await catalog.expire(keep_seconds=100) == 1
    assert (await catalog.heartbeat(id_, ADA))["state"] == "active"
    entry = await catalog.get(id_)
    assert entry["updated_at"] == before["updated_at"]
    assert await found(finder, {"state": "active"}) == [entry]


async def test_what_never_expires_has_no_heartbeat(catalog: Catalog) -> None:
    id_ = await add(catalog)
    with pytest.raises(Conflict, match="ttl_seconds"):
        await catalog.heartbeat(id_, ADA)


async def test_an_index_of_another_form_is_made_anew(
    catalog: Catalog, finder: Finder, database: Database
) -> None:
    entry = await catalog.create({NAME: "a", TAGS: ["x"]}, ADA)
    await ensure_index(database)
    before = await indexed(database)
    async with database.transaction() as connection:  # as the migration leaves it
        await connection.execute(sa.delete(registry_values))
        await connection.execute(sa.delete(meta))
    assert await found(finder, {TAGS: "x"}) == []
    await ensure_index(database)
    assert await indexed(database) == before
    assert await found(finder, {TAGS: "x"}) == [entry]
    async with database.transaction() as connection:
        await connection.execute(sa.delete(registry_values))
    await ensure_index(database)  # it is of this form, so nobody looks
    assert await indexed(database) == set()
