"""Announces this platform in a registry, keeps its entry fresh and true, and withdraws it.

The entry has an id of its own that outlives restarts, so a platform that comes back finds its entry
and goes on with it. The registry may be away at the start, or later: the platform serves on, and
its entry is brought up to date when the registry is back.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from inferno.registry.entries import EXPIRED, ID, NAME, STATE, URL, Document
from inferno.registry.remote import Away, Refused, RemoteRegistry

ATTEMPTS = 3
"""Tries at a registration before it waits: each may find another thing in its way."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the registry is asked. Durations are in seconds.

    Args:
        look: between two looks at whether what is announced is still so.
        first: pause after the first call that got no answer; it doubles from there.
        longest: longest such pause.
        refused: pause after the registry refused the entry; somebody has to do something first.
        withdraw: how long the last call may take.
    """

    look: float = 2.0
    first: float = 1.0
    longest: float = 60.0
    refused: float = 60.0
    withdraw: float = 3.0


class Announcer:
    """Keeps one entry in one registry.

    Args:
        registry: where.
        id_: of the entry.
        describe: returns the entry as it should be, but for its id.
        ttl: seconds that the entry lives without a heartbeat.
        pace: how often the registry is asked.
        chance: a number from 0 to 1, so that platforms that start together do not call together.
    """

    def __init__(
        self,
        registry: RemoteRegistry,
        id_: str,
        describe: Callable[[], Awaitable[Document]],
        *,
        ttl: float,
        pace: Pace = Pace(),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._registry = registry
        self._id = id_
        self._describe = describe
        self._ttl = ttl
        self._pace = pace
        self._chance = chance
        self._known: Document | None = None
        """What the registry has; None where it has nothing, or nobody knows."""
        self._failures = 0
        self._complaint = ""
        self._announced = False

    @asynccontextmanager
    async def announcing(self) -> AsyncIterator[None]:
        """Announce the platform while the block runs; then withdraw it."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._run())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait({task})
                await self._withdraw()
                await self._registry.close()

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except Away as error:
                pause = self._lost(error)
            except Refused as error:
                pause = self._refused(error)
            except Exception:  # the platform serves, whatever is the matter here
                log.exception("registry_announcing_failed")
                pause = self._pace.refused
            else:
                self._succeeded()
                await self._until_due()
                continue
            await asyncio.sleep(pause)

    async def _turn(self) -> None:
        """Bring the entry up to date and keep it alive, wherever it stood."""
        entry = await self._describe()
        if self._known is not None:
            try:
                if entry != self._known:
                    await self._registry.update(self._id, entry)
                    self._known = entry
                await self._registry.beat(self._id)
                return
            except Refused as refused:
                self._known = None  # it was removed, or is another's: see what the registry says
                if refused.status == 404:
                    log.info("registry_entry_gone", registry=self._registry.url, id=self._id)
        await self._register(entry)
        self._known = entry

    async def _register(self, entry: Document) -> None:
        """Make the registry have the entry. Raises Refused, Away."""
        for attempt in range(ATTEMPTS):
            try:
                await self._create_or_adopt(entry)
                return
            except Refused as refused:
                last = attempt == ATTEMPTS - 1
                if last or not (refused.status == 404 or await self._made_room(refused, entry)):
                    raise

    async def _create_or_adopt(self, entry: Document) -> None:
        try:
            await self._registry.create({ID: self._id, **entry})
        except Refused as refused:
            if refused.status != 409 or refused.field != ID:
                raise
        else:
            return
        # It is there from an earlier start, perhaps expired.
        await self._registry.update(self._id, entry)
        await self._registry.beat(self._id)

    async def _made_room(self, refused: Refused, entry: Document) -> bool:
        """Remove an expired entry of our own that has the name or the URL: what was here before.

        A platform that lost its data folder comes back under another id.
        """
        if refused.status != 409 or refused.field not in (NAME, URL):
            return False
        ours = await self._registry.mine({refused.field: entry[refused.field]})
        dead = [one[ID] for one in ours if one.get(STATE) == EXPIRED and one[ID] != self._id]
        for id_ in dead:
            log.info("registry_entry_replaced", registry=self._registry.url, id=id_)
            await self._registry.delete(id_)
        return bool(dead)

    async def _until_due(self) -> None:
        """Wait until the next heartbeat, or until something else has to be announced."""
        beat = self._ttl / 3 * (0.9 + 0.2 * self._chance())
        end = time.monotonic() + beat
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(self._pace.look, left))
            if await self._describe() != self._known:
                return

    def _succeeded(self) -> None:
        entry = self._known or {}
        if not self._announced:
            told = {"id": self._id, "name": entry.get(NAME), "public_url": entry.get(URL)}
            log.info("registry_announced", registry=self._registry.url, **told)
        elif self._complaint or self._failures:
            log.info("registry_regained", registry=self._registry.url, id=self._id)
        self._announced = True
        self._failures, self._complaint = 0, ""

    def _lost(self, error: Away) -> float:
        """Tell once that the registry is away, and return how long to wait."""
        if self._failures == 0:
            log.warning("registry_lost", registry=self._registry.url, reason=error.reason)
        pause = min(self._pace.first * 2.0 ** min(self._failures, 20), self._pace.longest)
        self._failures += 1
        return max(pause, error.wait) * (0.75 + 0.5 * self._chance())

    def _refused(self, error: Refused) -> float:
        """Tell once what the registry has against the entry, and return how long to wait."""
        if self._complaint != error.message:
            log.error(
                "registry_refuses",
                registry=self._registry.url,
                id=self._id,
                status=error.status,
                reason=error.message,
                hint=_hint(error),
            )
        self._complaint, self._known = error.message, None
        return self._pace.refused * (0.75 + 0.5 * self._chance())

    async def _withdraw(self) -> None:
        """Remove the entry; one that cannot be removed expires."""
        try:
            async with asyncio.timeout(self._pace.withdraw):
                await self._registry.delete(self._id)
        except (Away, Refused, TimeoutError) as error:
            if isinstance(error, Refused) and error.status == 404:
                return
            if self._known is not None:
                log.warning(
                    "registry_entry_left",
                    registry=self._registry.url,
                    reason=str(error) or "no answer in time",
                    expires_in_seconds=self._ttl,
                )
        else:
            log.info("registry_entry_withdrawn", registry=self._registry.url, id=self._id)


def _hint(error: Refused) -> str:
    """Return what the operator can do about a refusal."""
    if error.status == 401:
        return "give INFERNO_REGISTER_TOKEN an API key that the registry knows"
    if error.status == 403:
        return "the key may not write, or another user of the registry owns the entry"
    if error.status == 404:
        return "register is the URL of a control plane, by default on port 8085; it is tried again"
    if error.status == 409 and error.field == NAME:
        return "choose another register_name; it is tried again"
    if error.status == 409 and error.field == URL:
        return "choose another public_url; it is tried again"
    return "it is tried again"
