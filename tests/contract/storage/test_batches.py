"""Batches over both databases: leases, results exactly once, files, and two processes at work."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import sqlalchemy as sa

from inferno.batches import runner
from inferno.batches.base import Outlook
from inferno.batches.bell import Bell
from inferno.batches.desk import Desk, Submission
from inferno.batches.files import PIECE_BYTES, Files
from inferno.batches.output import all_results, file_lines
from inferno.batches.records import Records
from inferno.batches.runner import Runner
from inferno.batches.sweeping import Sweeper
from inferno.batches.types import (
    Answer,
    Batch,
    Bounds,
    Details,
    Item,
    Owner,
    Result,
    Status,
    now_text,
)
from inferno.core.errors import (
    Conflict,
    InferenceFailed,
    InfernoError,
    InvalidRequest,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    Preempted,
    RateLimitExceeded,
    Unsupported,
)
from inferno.core.events import Event, EventName
from inferno.core.tenancy import Role
from inferno.storage.database import Database
from inferno.storage.tables import batch_items, batch_results, batches, file_pieces, files

OWNER = Owner(
    user_id="ada",
    username="ada",
    tenant="north",
    role=Role.USER,
    permissions=["run_inference"],
    credential="token",
    credential_id="t",
)


class Echo:
    """Answers with the request's own body; how it fails is up to the test."""

    def __init__(self, fail: Callable[[Item, int], InfernoError | None] | None = None) -> None:
        self.tries: Counter[str] = Counter()
        self._fail = fail
        self.seconds = 0.0
        self.running = 0
        self.most = 0
        self.absent: set[str] = set()
        """Models that are not there; who asks for one waits."""
        self.changed = asyncio.Event()
        self.waiting: Counter[str] = Counter()

    def knows_model(self, model: str, tenant: str) -> bool:
        return model == "m"

    def outlook(self, model: str, tenant: str) -> Outlook:
        return Outlook(model, model not in self.absent)

    async def answer(self, batch: Batch, item: Item) -> Answer:
        self.waiting[item.model] += 1
        try:
            while item.model in self.absent:
                await self.changed.wait()
        finally:
            self.waiting[item.model] -= 1
        self.tries[item.custom_id] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        error = self._fail(item, self.tries[item.custom_id]) if self._fail else None
        if error is not None:
            return Answer(500, "r", b'{"error":{"code":"X","message":"no"}}', error)
        return Answer(200, "r", item.body, prompt_tokens=2, completion_tokens=3)


class Place:
    """What one process has of batches."""

    def __init__(
        self, database: Database, holder: str, answerer: Echo, *, outbox: Any = None, **bounds: Any
    ) -> None:
        self.bounds = Bounds(grace=0.2, **bounds)
        self.bell = Bell()
        self.records = Records(database, holder, outbox)
        self.files = Files(database, self.bounds)
        self.sweeper = Sweeper(database, self.bounds)
        check = (lambda url: None) if outbox else None
        self.desk = Desk(
            self.records,
            self.files,
            self.bounds,
            check_url=check,
            bell=self.bell,
            sweeper=self.sweeper,
        )
        self.runner = Runner(
            self.records, self.files, answerer, self.bounds, self.bell, self.sweeper
        )

    async def submit(self, count: int, owner: Owner = OWNER, **options: Any) -> Batch:
        submission = Submission(owner=owner, api="native", endpoint="/inference", **options)
        return await self.desk.submit(submission, chunks(count))

    async def submit_for(self, models: list[str]) -> Batch:
        """Hand in one request for each model of a list."""
        submission = Submission(owner=OWNER, api="native", endpoint="/inference")
        return await self.desk.submit(submission, wanted(models))

    async def submit_file(self, content: bytes) -> Batch:
        upload = await self.files.begin(OWNER.tenant, OWNER.user_id)
        await upload.write(content)
        file = await upload.finish("in.jsonl", "batch", None)
        submission = Submission(owner=OWNER, api="openai", endpoint="/v1/embeddings")
        return await self.desk.submit_file(submission, file)

    async def ended(self, batch: Batch) -> Batch:
        async with asyncio.timeout(60):
            while (found := await self.records.get(batch.id, None)).status.is_active:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found

    async def results(self, batch: Batch) -> list[Result]:
        found = await self.records.get(batch.id, None)
        return [one async for page in all_results(self.records, found) for one in page]


def item(number: int) -> Item:
    return Item(number, f"id-{number}", "/inference", b'{"model":"m","number":%d}' % number)


async def chunks(count: int, size: int = 50) -> AsyncIterator[list[Item]]:
    for start in range(0, count, size):
        yield [item(number) for number in range(start, min(count, start + size))]


async def wanted(models: list[str]) -> AsyncIterator[list[Item]]:
    for start in range(0, len(models), 50):
        yield [
            Item(number, f"id-{number}", "/inference", b'{"model":"%s"}' % model.encode())
            for number, model in enumerate(models[start : start + 50], start)
        ]


def openai_input(count: int) -> bytes:
    line = '{"custom_id":"id-%d","method":"POST","url":"/v1/embeddings","body":{"model":"m"}}\n'
    return "".join(line % number for number in range(count)).encode()


async def rows_of(database: Database, table: sa.Table) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


async def test_every_request_has_one_result_in_order(database: Database) -> None:
    place = Place(database, "a", Echo())
    async with place.runner.working():
        batch = await place.submit(450)
        ended = await place.ended(batch)
    assert ended.status is Status.COMPLETED
    assert (ended.total, ended.completed, ended.failed) == (450, 450, 0)
    assert (ended.prompt_tokens, ended.completion_tokens) == (900, 1350)
    results = await place.results(batch)
    assert [one.number for one in results] == list(range(450))
    assert [one.body for one in results] == [item(n).body for n in range(450)]


async def test_what_may_pass_is_tried_again_and_what_may_not_is_not(database: Database) -> None:
    def fail(one: Item, tries: int) -> InfernoError | None:
        kinds: dict[int, tuple[InfernoError, int]] = {
            0: (InvalidRequest("wrong"), 99),
            1: (InferenceFailed("once"), 1),
            2: (InferenceFailed("always"), 99),
            3: (Preempted(), 6),
            4: (Overloaded("twice"), 2),
        }
        error, times = kinds.get(one.number, (InferenceFailed(""), 0))
        return error if tries <= times else None

    echo = Echo(fail)
    place = Place(database, "a", echo, attempts=2)
    async with place.runner.working():
        batch = await place.submit(8)
        ended = await place.ended(batch)
    assert ended.status is Status.COMPLETED
    assert (ended.completed, ended.failed) == (6, 2)
    assert [echo.tries[f"id-{n}"] for n in range(8)] == [1, 2, 2, 7, 3, 1, 1, 1]
    assert [one.number for one in await place.results(batch) if one.is_failed] == [0, 2]


async def test_a_model_that_never_comes_holds_nobody_up(database: Database) -> None:
    """Neither other batches nor other requests of its own batch; when it comes, all goes on."""
    echo = Echo()
    echo.absent = {"stuck", "gone"}
    place = Place(database, "a", echo, in_flight=4)
    async with place.runner.working():
        stuck = await place.submit_for(["stuck"] * 60 + ["gone"] * 60)
        mixed = await place.submit_for(["stuck"] * 150 + ["m"] * 20)
        assert (await place.ended(await place.submit(100))).completed == 100
        async with asyncio.timeout(20):
            while (await place.records.get(mixed.id, None)).completed < 20:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert +echo.waiting == {"stuck": 1, "gone": 1}
        echo.absent.clear()
        echo.changed.set()
        assert (await place.ended(stuck)).completed == 120
        assert (await place.ended(mixed)).completed == 170
    assert echo.most <= 4


async def test_who_waits_for_a_model_that_has_gone_is_called_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MISSED_SECONDS", 0.1)
    echo = Echo()
    place = Place(database, "a", echo, in_flight=4)
    async with place.runner.working():
        echo.seconds = 0.3
        stuck = await place.submit_for(["going"] * 50)
        async with asyncio.timeout(20):
            while echo.running < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        echo.absent.add("going")
        echo.seconds = 0.0
        assert (await place.ended(await place.submit(100))).completed == 100
        async with asyncio.timeout(20):
            while echo.waiting["going"] != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        echo.absent.clear()
        echo.changed.set()
        assert (await place.ended(stuck)).completed == 50


async def test_two_processes_share_the_work(url: str, database: Database) -> None:
    other_database = await Database.open(url)
    first, second = Echo(), Echo()
    first.seconds = second.seconds = 0.005
    here, there = Place(database, "a", first), Place(other_database, "b", second)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(other_database.close)
        handed_in = [await here.submit(40) for _ in range(30)]
        await stack.enter_async_context(here.runner.working())
        await stack.enter_async_context(there.runner.working())
        for batch in handed_in:
            ended = await here.ended(batch)
            assert (ended.status, ended.completed) == (Status.COMPLETED, 40)
    assert sum(first.tries.values()) + sum(second.tries.values()) == 30 * 40
    assert sum(first.tries.values()) > 0
    assert sum(second.tries.values()) > 0


async def test_a_dead_process_is_replaced(url: str, database: Database) -> None:
    """Its lease runs out; what it comes back with after that is not taken."""
    place = Place(database, "b", Echo())
    dead = Records(database, "a")
    batch = await place.submit(10)
    assert await dead.claim(batch.id) is not None
    assert await dead.save({batch.id: [(item(3), Answer(200, "r", b"{}"))]}) == set()
    assert await place.records.claim(batch.id) is None
    async with database.transaction() as connection:
        late = sa.update(batches).values(lease_until=now_text(-1))
        await connection.execute(late)
    async with place.runner.working():
        ended = await place.ended(batch)
    assert (ended.completed, ended.failed) == (10, 0)
    assert await dead.save({batch.id: [(item(4), Answer(200, "r", b'"late"'))]}) == {batch.id}
    bodies = [one.body for one in await place.results(batch)]
    assert bodies == [b"{}" if n == 3 else item(n).body for n in range(10)]


async def test_a_result_that_comes_twice_is_counted_once(database: Database) -> None:
    records = Records(database, "a")
    batch = await Place(database, "a", Echo()).submit(5)
    assert await records.claim(batch.id) is not None
    answers = [(item(n), Answer(200, "r", b"1")) for n in range(3)]
    again = [(item(n), Answer(200, "r", b"2")) for n in range(1, 5)]
    await records.save({batch.id: answers})
    await records.save({batch.id: again})
    found = await records.get(batch.id, None)
    assert found.completed == 5
    results = await records.results(found)
    assert [one.body for one in results] == [b"1", b"1", b"1", b"2", b"2"]


async def test_what_is_in_flight_at_a_stop_is_done_later(database: Database) -> None:
    slow = Echo()
    slow.seconds = 30
    place = Place(database, "a", slow)
    async with place.runner.working():
        batch = await place.submit(20)
        async with asyncio.timeout(30):
            while slow.running < 20:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert slow.running == 0
    again = Place(database, "b", Echo())  # another process: the lease was given back
    async with again.runner.working():
        assert (await again.ended(batch)).completed == 20


async def test_no_more_at_once_than_may(database: Database) -> None:
    echo = Echo()
    echo.seconds = 0.01
    place = Place(database, "a", echo, in_flight=7)
    async with place.runner.working():
        await place.ended(await place.submit(100))
    assert echo.most == 7


async def test_cancelling_keeps_what_is_answered(database: Database) -> None:
    echo = Echo()
    place = Place(database, "a", echo, in_flight=4)
    async with place.runner.working():
        echo.seconds = 0.01
        batch = await place.submit(400)
        async with asyncio.timeout(30):
            while (await place.records.get(batch.id, None)).completed < 10:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        cancelled = await place.desk.cancel(await place.records.get(batch.id, None))
        assert cancelled.status is Status.CANCELLING
        ended = await place.ended(batch)
        done = await place.ended(await place.submit(1))
        with pytest.raises(Conflict):
            await place.desk.cancel(done)
    assert ended.status is Status.CANCELLED
    results = await place.results(batch)
    assert len(results) == 400
    assert sum(not one.is_failed for one in results) == ended.completed
    assert 10 <= ended.completed < 400


async def test_a_batch_that_runs_out_of_time(database: Database) -> None:
    """Native pollers wait for `completed` and get it; OpenAI's API has a word of its own."""
    never = Echo(lambda one, _: Overloaded("no room") if one.number else None)
    place = Place(database, "a", never, window=0.5)
    async with place.runner.working():
        native = await place.ended(await place.submit(3))
        other = await place.ended(await place.submit_file(openai_input(3)))
    assert (native.status, native.completed, native.failed) == (Status.COMPLETED, 1, 2)
    assert (other.status, other.completed, other.failed) == (Status.EXPIRED, 1, 2)
    assert other.error_file_id is not None
    lines = b"".join([part async for part in file_lines(place.records, other, "error")])
    assert lines.count(b"batch_expired") == 2


async def test_a_validation_that_was_cut_off_begins_anew(database: Database) -> None:
    place = Place(database, "a", Echo())
    batch = await place.submit_file(openai_input(700))
    dead = Records(database, "a")
    assert await dead.claim(batch.id) is not None
    await dead.add_items(batch.id, [item(n) for n in range(300)])
    async with place.runner.working():
        ended = await place.ended(batch)
    assert (ended.status, ended.total, ended.completed) == (Status.COMPLETED, 700, 700)
    file = await place.files.get(ended.output_file_id or "", OWNER.tenant)
    content = b"".join([part async for part in file_lines(place.records, ended, "output")])
    assert (file.bytes, content.count(b"\n")) == (len(content), 700)
    assert ended.error_file_id is None


async def test_a_key_makes_one_batch(database: Database) -> None:
    place = Place(database, "a", Echo())
    first = await place.submit(3, key="k")
    assert (await place.submit(3, key="k")).id == first.id
    other = Owner(**{**{f: getattr(OWNER, f) for f in OWNER.__struct_fields__}, "user_id": "bob"})
    assert (await place.submit(3, owner=other, key="k")).id != first.id

    async def broken() -> AsyncIterator[list[Item]]:
        yield [item(0)]
        raise InvalidRequest("no")

    submission = Submission(owner=OWNER, api="native", endpoint="/inference", key="b")
    with pytest.raises(InvalidRequest):
        await place.desk.submit(submission, broken())
    assert (await place.submit(2, key="b")).total == 2

    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[list[Item]]:
        yield [item(0)]
        arrived.set()
        await go_on.wait()

    submission = Submission(owner=OWNER, api="native", endpoint="/inference", key="s")
    arriving = asyncio.create_task(place.desk.submit(submission, slowly()))
    await arrived.wait()
    with pytest.raises(Conflict):
        await place.submit(1, key="s")
    go_on.set()
    arrived_at_last = await arriving
    assert (await place.submit(1, key="s")).id == arrived_at_last.id


async def test_bounds(database: Database) -> None:
    place = Place(database, "a", Echo(), items=100, active=2, file_bytes=5000, tenant_bytes=9000)
    with pytest.raises(InvalidRequest, match="100 requests"):
        await place.submit(101)
    with pytest.raises(InvalidRequest, match="at least one"):
        await place.submit(0)
    with pytest.raises(Unsupported, match="webhook_url"):
        await place.submit(1, details=Details(webhook_url="https://example.com"))
    upload = await place.files.begin("north", "ada")
    with pytest.raises(PayloadTooLarge):
        await upload.write(b"x" * 5001)
    for _ in range(2):
        await place.submit(100)
    with pytest.raises(RateLimitExceeded):
        await place.submit(1)
    assert await rows_of(database, batch_items) >= 200
    crowded = Place(database, "a", Echo(), tenant_bytes=100)
    with pytest.raises(InvalidRequest, match="100 bytes"):
        await crowded.files.begin("north", "ada")
    await crowded.files.begin("south", "bob")


async def test_deleted_things_leave_nothing(database: Database) -> None:
    place = Place(database, "a", Echo())
    async with place.runner.working():
        batch = await place.ended(await place.submit_file(openai_input(2500)))
        with pytest.raises(Conflict):
            await place.desk.delete(await place.records.get((await place.submit(1)).id, None))
    upload = await place.files.begin("north", "ada")
    await upload.write(b"x" * (20 * PIECE_BYTES))
    large = await upload.finish("x", "batch", None)
    await place.desk.delete_file(large)
    await place.desk.delete_file(await place.files.get(batch.input_file_id or "", "north"))
    await place.desk.delete(batch)
    with pytest.raises(NotFound):
        await place.records.get(batch.id, None)
    with pytest.raises(NotFound):
        await place.files.get(batch.output_file_id or "", None)
    await place.sweeper.sweep()
    assert [await rows_of(database, t) for t in (file_pieces, files, batch_results)] == [0, 0, 0]
    assert [await rows_of(database, t) for t in (batches, batch_items)] == [1, 1]


async def test_old_things_are_deleted(database: Database) -> None:
    place = Place(database, "a", Echo(), retention=60)
    async with place.runner.working():
        old = await place.ended(await place.submit(3))
        new = await place.ended(await place.submit(3))
    expiring = await (await place.files.begin("n", "a")).finish("x", "batch", now_text(-1))
    kept = await (await place.files.begin("n", "a")).finish("x", "batch", None)
    await place.files.begin("n", "a")  # abandoned
    async with database.transaction() as connection:
        aged = sa.update(batches).where(batches.c.id == old.id).values(ended_at=now_text(-61))
        await connection.execute(aged)
        silent = sa.update(files).where(files.c.state == "uploading")
        await connection.execute(silent.values(touched_at=now_text(-4000)))
    await place.sweeper.sweep()
    with pytest.raises(NotFound):
        await place.records.get(old.id, None)
    assert (await place.records.get(new.id, None)).completed == 3
    with pytest.raises(NotFound):
        await place.files.get(expiring.id, None)
    assert (await place.files.get(kept.id, None)).id == kept.id
    assert await rows_of(database, files) == 1


async def test_others_see_nothing(database: Database) -> None:
    place = Place(database, "a", Echo())
    batch = await place.submit(1)
    file = await (await place.files.begin("north", "ada")).finish("x", "batch", None)
    for tenant in ("south", "", "nort"):
        with pytest.raises(NotFound):
            await place.records.get(batch.id, tenant)
        with pytest.raises(NotFound):
            await place.files.get(file.id, tenant)
        assert await place.records.page(tenant, api=None, after=None, limit=9) == ([], False)
    assert (await place.records.get(batch.id, "north")).id == batch.id
    assert (await place.files.get(file.id, None)).id == file.id


class Kept:
    """An outbox that keeps events in the database, in the caller's transaction."""

    def __init__(self) -> None:
        self.woken = 0

    async def add(self, connection: Any, event: Event, *, url: str | None = None) -> None:
        row = {"key": f"{event.name}:{url}", "value": str(event.data["status"])}
        await connection.execute(sa.text("INSERT INTO meta VALUES (:key, :value)"), row)

    def wake(self) -> None:
        self.woken += 1


async def test_webhooks_are_told_of_the_end(database: Database) -> None:
    kept = Kept()
    place = Place(database, "a", Echo(), outbox=kept)
    async with place.runner.working():
        batch = await place.submit(2, details=Details(webhook_url="https://example.com/hook"))
        await place.ended(batch)
        await place.ended(await place.submit_file(b"{}\n"))
    async with database.read() as connection:
        rows = (await connection.execute(sa.text("SELECT * FROM meta ORDER BY 1"))).all()
    assert [tuple(row) for row in rows if "batch" in row[0]] == [
        (f"{EventName.BATCH_COMPLETE}:https://example.com/hook", "completed"),
        (f"{EventName.BATCH_FAILED}:None", "failed"),
    ]
    assert kept.woken == 2


async def test_a_batch_that_waits_its_turn_can_be_cancelled(database: Database) -> None:
    echo = Echo()
    echo.seconds = 30
    place = Place(database, "a", echo)
    async with place.runner.working():
        handed_in = [await place.submit(3) for _ in range(12)]
        last = await place.desk.cancel(await place.records.get(handed_in[-1].id, None))
        assert (await place.ended(last)).status is Status.CANCELLED
        assert (await place.records.get(handed_in[0].id, None)).status is Status.IN_PROGRESS


async def test_an_end_that_was_cut_off_comes_once(database: Database) -> None:
    place = Place(database, "a", Echo())
    batch = await place.submit_file(openai_input(5))
    dead = Records(database, "b")
    assert await dead.claim(batch.id) is not None
    await dead.add_items(batch.id, [item(n) for n in range(5)])
    await dead.open(batch.id, "m", keep=True)
    await dead.save({batch.id: [(item(n), Answer(200, "r", b"{}")) for n in range(5)]})
    assert await dead.finalize(batch.id)
    async with database.transaction() as connection:
        await connection.execute(sa.update(batches).values(lease_until=now_text(-1)))
    async with place.runner.working():
        ended = await place.ended(batch)
    assert (ended.status, ended.completed) == (Status.COMPLETED, 5)
    await dead.end(batch.id, Status.FAILED, event=None)
    assert (await place.records.get(batch.id, None)).status is Status.COMPLETED
    outputs = sa.select(sa.func.count()).select_from(files).where(files.c.batch_id == batch.id)
    async with database.read() as connection:
        assert await connection.scalar(outputs) == 1


async def test_large_bodies_come_a_few_at_a_time(database: Database) -> None:
    place = Place(database, "a", Echo())
    large = [
        Item(n, str(n), "/inference", b'{"model":"m","x":"%s"}' % (b"x" * 1_500_000))
        for n in range(7)
    ]

    async def one_by_one() -> AsyncIterator[list[Item]]:
        for one in large:
            yield [one]

    submission = Submission(owner=OWNER, api="native", endpoint="/inference")
    async with place.runner.working():
        batch = await place.ended(await place.desk.submit(submission, one_by_one()))
    assert batch.completed == 7
    pages = [len(page) async for page in all_results(place.records, batch)]
    assert sum(pages) == 7
    assert max(pages) <= 3
