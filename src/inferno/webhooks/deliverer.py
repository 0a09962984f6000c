"""The deliverer: takes what is due, sends it, writes down what came of it.

One loop owns the database side: each turn writes down the attempts that have ended and takes new
deliveries, in one transaction. Attempts run beside it, bounded in all, for each tenant and for each
endpoint, so that a receiver that is slow or dead holds up nobody else's deliveries.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import structlog

from inferno.core.errors import InfernoError
from inferno.webhooks import moments
from inferno.webhooks.deliveries import Deliveries, Due, Verdict
from inferno.webhooks.places import Places
from inferno.webhooks.schedule import is_over, wait_after
from inferno.webhooks.sealing import SecretSealer
from inferno.webhooks.sending import Answer, Sender
from inferno.webhooks.signing import body_of, headers_of
from inferno.webhooks.types import Attempt

GONE = 410

LOOK_EVERY = 2.0
TURN_EVERY = 0.02
"""What ends within this time is written down together."""
RETRY_AFTER = 2.0
PRUNE_EVERY = 3600.0
LAST_SECONDS = 3.0
"""How long running attempts may take to end at a shutdown; the rest go out again at the start."""

log = structlog.get_logger(__name__)


class Deliverer:
    """Sends deliveries while `delivering`.

    Args:
        deliveries: the queue.
        sender: makes attempts.
        sealer: opens the secrets that sign them.
        due: set where something may be due.
        timeout: seconds that an attempt may take.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        sender: Sender,
        sealer: SecretSealer,
        due: asyncio.Event,
        *,
        timeout: float,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._sealer = sealer
        self._due = due
        self._lease = timeout + 30
        self._finished: list[Verdict] = []
        self._running: dict[asyncio.Task[None], Due] = {}
        self._places = Places()

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """Deliver while the block runs; then let running attempts end, shortly."""
        await self._deliveries.release_all()
        self._due.set()
        async with asyncio.TaskGroup() as tasks:
            loops = [tasks.create_task(self._run(tasks)), tasks.create_task(self._prune())]
            try:
                yield
            finally:
                for loop in loops:
                    loop.cancel()
                await asyncio.wait(loops)
                await self._wind_up()

    async def _wind_up(self) -> None:
        """Wait a little for attempts, give back those that go on, and write it all down."""
        if self._running:
            _, late = await asyncio.wait(list(self._running), timeout=LAST_SECONDS)
            for task in late:
                self._finished.append(Verdict(self._running[task], None, "pending"))
                task.cancel()
        try:
            await self._turn(most=0)
        except InfernoError as error:
            log.warning("webhooks_not_noted", error=error.message, deliveries=len(self._finished))

    async def _run(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                seconds = await self._look(tasks)
            except InfernoError as error:
                log.warning("webhooks_not_taken", error=error.message)
                seconds = RETRY_AFTER
            except Exception:  # inference goes on, whatever is the matter here
                log.exception("webhooks_failed")
                seconds = RETRY_AFTER
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._due.wait()
            await asyncio.sleep(TURN_EVERY)
            self._due.clear()

    async def _look(self, tasks: asyncio.TaskGroup) -> float:
        """Take what is due, and return how many seconds to wait before looking again."""
        until = await self._deliveries.seconds_until_due()
        if not self._finished and (until is None or until > 0):
            return LOOK_EVERY if until is None else min(until, LOOK_EVERY)
        taken = await self._turn(most=self._places.free)
        for due in taken:
            self._places.take(due.endpoint, due.tenant)
            task = tasks.create_task(self._deliver(due))
            self._running[task] = due
            task.add_done_callback(self._ended)
        # Nothing taken: what is due waits for a place, and whoever gives one back wakes us.
        return 0 if taken else LOOK_EVERY

    async def _turn(self, *, most: int) -> list[Due]:
        finished, self._finished = self._finished, []
        try:
            return await self._deliveries.turn(finished, self._places, most=most, lease=self._lease)
        except BaseException:
            self._finished[:0] = finished
            raise

    def _ended(self, task: asyncio.Task[None]) -> None:
        due = self._running.pop(task)
        self._places.give_back(due.endpoint, due.tenant)
        self._due.set()

    async def _deliver(self, due: Due) -> None:
        number, at = due.attempts + 1, moments.now()
        try:
            answer = await self._attempt(due, at)
        except InfernoError as error:
            answer = Answer(None, error.message[:255])
        except Exception:
            log.exception("webhook_attempt_failed", delivery=due.id)
            answer = Answer(None, "The delivery could not be made; the platform's log has more.")
        self._places.note(due.endpoint, accepted=answer.accepted)
        attempt = Attempt(
            number=number,
            at=moments.text_of(at),
            duration_ms=answer.duration_ms,
            status_code=answer.status,
            error=answer.error,
        )
        verdict = verdict_of(due, attempt, answer)
        if verdict.status == "parked":
            log.warning("webhook_parked", delivery=due.id, tenant=due.tenant, error=answer.error)
        self._finished.append(verdict)

    async def _attempt(self, due: Due, at: datetime) -> Answer:
        await self._sealer.load()
        await self._sender.load()
        keyed = [self._secret(due)]
        if due.previous_secret is not None:
            keyed.append(self._sealer.open(due.previous_secret, due.secret_of))
        body = body_of(due.payload, keyed[0])
        headers = headers_of(due.id, body, keyed, at=at)
        return await self._sender.send(due.url, headers, body.encode("utf-8"))

    def _secret(self, due: Due) -> str:
        if due.secret is None:
            return self._sealer.secret_of(due.tenant)
        return self._sealer.open(due.secret, due.secret_of)

    async def _prune(self) -> None:
        while True:
            removed = 0
            try:
                removed = await self._deliveries.prune()
            except InfernoError as error:
                log.warning("webhooks_not_pruned", error=error.message)
            await asyncio.sleep(1 if removed else PRUNE_EVERY)


def claim() -> str:
    """Return a name for this process in what it has taken."""
    return uuid.uuid4().hex


def verdict_of(due: Due, attempt: Attempt, answer: Answer) -> Verdict:
    """Decide what becomes of a delivery after an attempt."""
    if answer.accepted:
        return Verdict(due, attempt, "delivered")
    if answer.status == GONE:
        return Verdict(due, attempt, "parked", gone=True)
    wait = wait_after(due.waited, retry_after=answer.retry_after)
    if is_over(due.waited, wait):
        return Verdict(due, attempt, "parked")
    return Verdict(due, attempt, "pending", wait=wait)
