"""The runner: claims batches, has their requests answered, and writes down what came of it.

One loop decides, tasks answer, one writer commits: answers that arrive while a commit is under way
go into the next one together, so that many small requests do not cost a disk's flush each. Nothing
is written when a request is begun. After a crash, whatever has no result is simply run again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

from inferno.batches.base import Answerer
from inferno.batches.bell import Bell
from inferno.batches.ending import end
from inferno.batches.files import Files
from inferno.batches.records import LEASE_SECONDS, Records
from inferno.batches.sweeping import Sweeper
from inferno.batches.turns import Verdict, next_in_turn, pause_after, verdict
from inferno.batches.types import Answer, Bounds, Item, Status, now_text
from inferno.batches.validation import validate
from inferno.batches.work import PAGE, Admits, Work
from inferno.core.errors import InfernoError, Preempted

LOOK_EVERY = 5.0
"""Seconds between two looks for batches that other processes have let go."""

RENEW_EVERY = LEASE_SECONDS / 6
RETRY_SECONDS = 1.0
HELD_PER_TENANT = 8
"""Batches of a tenant that one process works on at once; the others wait their turn."""

HELD_SECONDS = 1.0
"""Between two looks whether a model is there for which requests are held back."""

MISSED_SECONDS = 5.0
"""After a model has gone, until those who wait for it are called back: it may come back soon."""

LONGEST_GRACE = 5.0
"""Seconds that requests in flight get at a shutdown."""

UNSAVED_MOST = 256
"""Answers that may wait to be written before no more requests are sent."""

log = structlog.get_logger(__name__)


class Runner:
    """Works on batches.

    Args:
        records: where they are kept.
        files: where their input is.
        answerer: answers their requests.
        bounds: how much at once.
        bell: rings when there is something to do.
        sweeper: deletes what is no longer wanted.
    """

    def __init__(
        self,
        records: Records,
        files: Files,
        answerer: Answerer,
        bounds: Bounds,
        bell: Bell,
        sweeper: Sweeper,
    ) -> None:
        self._records = records
        self._files = files
        self._answerer = answerer
        self._bounds = bounds
        self._bell = bell
        self._sweeper = sweeper
        self._works: dict[str, Work] = {}
        self._finished: list[tuple[Work, Item, Answer]] = []
        self._in_line: dict[str, list[tuple[Work, Item]]] = {}
        """What is in flight, by what it waits for: the earliest first."""
        self._missed: dict[str, float] = {}
        """Since when what is waited for was not there."""
        self._to_save = asyncio.Event()
        self._renewed_at = 0.0
        self._looked_at = 0.0

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work on batches while the block runs; then let what is in flight finish for a while."""
        async with asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(self._decide(tasks)),
                tasks.create_task(self._write()),
                tasks.create_task(self._sweeper.run()),
            ]
            try:
                yield
            finally:
                await self._wind_up()
                for task in loops:
                    task.cancel()
                for work in self._works.values():
                    work.cut()
                    if work.chore is not None:
                        work.chore.cancel()
        with contextlib.suppress(InfernoError):
            await self._save_all()
            await self._records.release(self._works)

    async def _wind_up(self) -> None:
        """Send no more requests, and let those in flight finish for a while."""
        self._bell.drain()
        running = [task for work in self._works.values() for task in work.in_flight.values()]
        if running:
            # What is cut is done again later; waiting for it only saves the work of a few seconds.
            await asyncio.wait(running, timeout=min(self._bounds.grace, LONGEST_GRACE))

    async def _decide(self, tasks: asyncio.TaskGroup) -> None:
        """Decide what is done next, for ever."""
        while True:
            try:
                await self._round(tasks)
                pause = self._pause()
            except InfernoError as error:  # the database is away
                log.warning("batches_not_read", error=error.message)
                pause = RETRY_SECONDS
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("batches_failed")
                pause = RETRY_SECONDS
                await asyncio.sleep(RETRY_SECONDS)
            await self._bell.wait(pause)

    async def _round(self, tasks: asyncio.TaskGroup) -> None:
        if self._bell.draining:
            return
        now = time.monotonic()
        look = self._bell.look or now - self._looked_at >= LOOK_EVERY
        if self._works and (look or now - self._renewed_at >= RENEW_EVERY):
            await self._renew()
        if look:
            self._bell.look = False
            self._looked_at = now
            await self._claim()
        for work in list(self._works.values()):
            self._mind_time(work)
            self._begin_chore(work, tasks)
        await self._fill(tasks)
        self._recall()
        for work in list(self._works.values()):
            self._begin_chore(work, tasks)

    async def _fill(self, tasks: asyncio.TaskGroup) -> None:
        """Read and send requests until there is no more room, or nothing more to send."""
        while True:
            for work in list(self._works.values()):
                admits = self._gatekeeper(work)
                while work.needs_input(admits):
                    await self._read(work)
            if not self._send(tasks):
                return

    def _pause(self) -> float:
        """Return the seconds until there is something to do by itself."""
        if not self._has_room:
            return min(LOOK_EVERY, RENEW_EVERY)
        due = [when for work in self._works.values() if (when := work.next_due()) is not None]
        if any(work.is_open and work.ready for work in self._works.values()):
            due.append(time.monotonic() + HELD_SECONDS)  # a model may have come
        if not due:
            return min(LOOK_EVERY, RENEW_EVERY)
        return min(RENEW_EVERY, max(0.01, min(due) - time.monotonic()))

    @property
    def _running(self) -> int:
        return sum(work.running for work in self._works.values())

    @property
    def _has_room(self) -> bool:
        """Whether another request may be sent."""
        return self._running < self._bounds.in_flight and len(self._finished) < UNSAVED_MOST

    async def _claim(self) -> None:
        """Take batches that nobody works on."""
        held: dict[str, int] = {}
        for work in self._works.values():
            held[work.tenant] = held.get(work.tenant, 0) + 1
        for one in await self._records.claimable():
            is_enough = held.get(one.tenant, 0) >= HELD_PER_TENANT and not one.is_over
            if one.id in self._works or is_enough:
                continue
            batch = await self._records.claim(one.id)
            if batch is not None:
                held[one.tenant] = held.get(one.tenant, 0) + 1
                self._works[batch.id] = Work(batch)
                log.info("batch_claimed", batch=batch.id, total=batch.total, done=batch.answered)

    async def _renew(self) -> None:
        """Keep what is held; let go of what was lost, and end what was cancelled."""
        statuses = await self._records.renew(self._works)
        self._renewed_at = time.monotonic()
        for batch_id, work in list(self._works.items()):
            status = statuses.get(batch_id)
            if status is None:
                if work.chore is None:  # else it is just being ended
                    self._let_go(work)
            elif status is Status.CANCELLING and work.ending is None:
                self._stop(work, Status.CANCELLED)

    def _let_go(self, work: Work) -> None:
        log.warning("batch_lost", batch=work.batch.id)
        work.cut()
        self._works.pop(work.batch.id, None)

    def _stop(self, work: Work, ending: Status) -> None:
        work.ending = ending
        work.cut()
        if work.chore is not None:
            work.chore.cancel()

    def _mind_time(self, work: Work) -> None:
        if work.batch.status is Status.CANCELLING and work.ending is None:
            self._stop(work, Status.CANCELLED)
        late = work.ending is None and work.chore is None and work.batch.expires_at < now_text()
        if late and not work.is_through:
            self._stop(work, Status.EXPIRED)

    async def _read(self, work: Work) -> None:
        page = await self._records.pending(work.batch.id, after=work.cursor, limit=PAGE)
        if page:
            work.cursor = page[-1].number
            work.add(page)
        work.exhausted = not page

    def _send(self, tasks: asyncio.TaskGroup) -> bool:
        """Send requests while there is room, and return whether there was one to send."""
        sent = False
        while self._has_room:
            now = time.monotonic()
            everybody = list(self._works.values())
            ready = [work for work in everybody if work.due(now, self._gatekeeper(work))]
            place = next_in_turn(ready, everybody)
            if place is None:
                break
            sent = True
            work = ready[place]
            item = work.take(now, self._gatekeeper(work))
            line = self._answerer.outlook(item.model, work.tenant).line
            self._in_line.setdefault(line, []).append((work, item))
            work.in_flight[item.number] = tasks.create_task(self._answer(work, item, line))
        return sent

    def _gatekeeper(self, work: Work) -> Admits:
        """Return what decides whether a batch's request for a model may be sent now.

        Of those for a model that is not there only one is sent, for it to be loaded: they would
        take the room of others, for as long as that takes. All such together take half of it.
        """

        def admits(model: str) -> bool:
            line, is_there = self._answerer.outlook(model, work.tenant)
            if is_there:
                self._missed.pop(line, None)
                return True
            self._missed.setdefault(line, time.monotonic())
            scouts = sum(line in self._in_line for line in self._missed)
            return line not in self._in_line and scouts < max(1, self._bounds.in_flight // 2)

        return admits

    def _recall(self) -> None:
        """Call back what waits for models that have gone and do not come back, but for one each."""
        self._missed = {line: when for line, when in self._missed.items() if line in self._in_line}
        for line, ((first, item), *others) in self._in_line.items():
            if self._answerer.outlook(item.model, first.tenant).is_there:
                self._missed.pop(line, None)
                continue
            since = self._missed.setdefault(line, time.monotonic())
            if time.monotonic() - since >= MISSED_SECONDS:
                for work, one in others:
                    work.recall(one.number)

    async def _answer(self, work: Work, item: Item, line: str) -> None:
        """Try to have a request answered, and see what becomes of it."""
        try:
            answer = await self._answerer.answer(work.batch, item)
            self._judge(work, item, answer)
        except Exception:  # a fault of ours must not end the runner, and with it the platform
            log.exception("batch_item_failed", batch=work.batch.id, number=item.number)
            work.give_back(item, LEASE_SECONDS)
        except asyncio.CancelledError:
            if item.number in work.recalled and work.ending is None:
                work.give_back(item, 0.0)
            raise
        finally:
            work.in_flight.pop(item.number, None)
            work.recalled.discard(item.number)
            self._in_line[line].remove((work, item))
            if not self._in_line[line]:
                del self._in_line[line]
            self._bell.nudge()

    def _judge(self, work: Work, item: Item, answer: Answer) -> None:
        tries = work.tries.get(item.number, 0) + 1
        match verdict(answer.error, tries=tries, attempts=self._bounds.attempts):
            case Verdict.KEEP:
                work.tries.pop(item.number, None)
                work.gate(item.model).strikes = 0
                work.unsaved += 1
                self._finished.append((work, item, answer))
                self._to_save.set()
            case Verdict.AGAIN:
                work.tries[item.number] = tries
                work.give_back(item, pause_after(tries))
            case Verdict.LATER if isinstance(answer.error, Preempted):
                work.give_back(item, 0.0)  # it waits in line again, behind those it made room for
            case Verdict.LATER:
                gate = work.gate(item.model)
                pause = pause_after(gate.strikes)
                if time.monotonic() >= gate.paused_until:  # one strike for all that come at once
                    gate.strikes += 1
                    gate.paused_until = time.monotonic() + pause
                work.give_back(item, pause)

    async def _write(self) -> None:
        """Write answers as they come, those that came together in one transaction."""
        while True:
            await self._to_save.wait()
            try:
                await self._save_all()
            except InfernoError as error:
                log.warning("results_not_written", waiting=len(self._finished), error=error.message)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("results_not_written", waiting=len(self._finished))
                await asyncio.sleep(RETRY_SECONDS)

    async def _save_all(self) -> None:
        """Write the answers that there are. Raises InfernoError where it cannot, and keeps them."""
        group = self._finished[:UNSAVED_MOST]
        answers: dict[str, list[tuple[Item, Answer]]] = {}
        for work, item, answer in group:
            answers.setdefault(work.batch.id, []).append((item, answer))
        lost = await self._records.save(answers) if answers else set()
        del self._finished[: len(group)]
        if not self._finished:
            self._to_save.clear()
        for work, _, _ in group:
            work.unsaved -= 1
        for work in {id(w): w for w, _, _ in group if w.batch.id in lost}.values():
            if work.ending is None:
                self._let_go(work)
        self._bell.nudge()

    def _begin_chore(self, work: Work, tasks: asyncio.TaskGroup) -> None:
        """Begin what is to be done with the batch as a whole, if it is time."""
        if work.chore is not None:
            return
        if work.batch.status is Status.VALIDATING and work.ending is None:
            work.chore = tasks.create_task(self._chore(work, self._validate(work)))
        elif work.is_through:
            work.chore = tasks.create_task(self._chore(work, self._end(work)))

    async def _chore(self, work: Work, doing: Coroutine[Any, Any, None]) -> None:
        """Do something with a batch as a whole; what fails is begun anew with the next claim."""
        try:
            await doing
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if work.ending is None or task is None or self._bell.draining:
                raise
            task.uncancel()
        except InfernoError as error:
            log.warning("batch_chore_failed", batch=work.batch.id, error=error.message)
            await asyncio.sleep(RETRY_SECONDS)
            self._works.pop(work.batch.id, None)
        except Exception:
            log.exception("batch_chore_failed", batch=work.batch.id)
            await asyncio.sleep(LEASE_SECONDS)
            self._works.pop(work.batch.id, None)
        finally:
            work.chore = None
            self._bell.ring()

    async def _validate(self, work: Work) -> None:
        """Read a batch's input; then it is in progress, or has failed."""
        opened = await validate(
            work.batch, self._records, self._files, self._bounds, self._answerer.knows_model
        )
        if opened is None:
            self._works.pop(work.batch.id, None)
        else:
            work.batch = opened

    async def _end(self, work: Work) -> None:
        """End a batch whose requests are answered, or that is to be ended."""
        await end(self._records, work.batch.id, work.ending)
        self._works.pop(work.batch.id, None)
