"""Asking model servers how loaded they are.

Servers of others are asked all the time, since others may use them too: what they say decides
where requests go. Of replicas of ours the gateway knows what they have to do; they are asked when
somebody looks at metrics, and what they say is kept here only. What a server said is as old as
`EndpointLoad.at` says: one that does not answer keeps what it last said, and whoever reads it
decides how old is too old.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import structlog

from inferno.gateway.endpoints import Endpoint
from inferno.gateway.lines import LineTable
from inferno.gateway.scraping import EndpointLoad, NotMetrics, cache_usage, load_of
from inferno.gateway.upstream import UpstreamClient, UpstreamError

LLAMA_CPP_AGE = 2.0
"""Seconds for which a llama.cpp server is not asked again: it looks for clients that left when it
has had nothing to tell for one second, and each question begins that second anew."""

FRESH_SECONDS = 1.0
IDLE_SECONDS = 1.0
"""Between two looks for servers of others, where there are none."""

TIMEOUT = 1.0
MAX_ANSWER_BYTES = 4 * 2**20
AT_ONCE = 32
PARSER = "prometheus_client.parser"

log = structlog.get_logger(__name__)


class Scraper:
    """Asks endpoints how loaded they are.

    Args:
        client: the HTTP client for endpoints that have none of their own.
        lines: where the endpoints are.
        timeout: seconds that one may take to answer.
        clock: tells the time.
    """

    def __init__(
        self,
        client: UpstreamClient,
        lines: LineTable,
        *,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.loads: dict[Endpoint, EndpointLoad] = {}
        self._client = client
        self._lines = lines
        self._timeout = timeout
        self._clock = clock
        self._asking: dict[Endpoint, asyncio.Task[None]] = {}
        self._not_before: dict[Endpoint, float] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def scraping(self, interval: float) -> AsyncIterator[None]:
        """Keep the loads of servers of others fresh while the block runs.

        Args:
            interval: seconds between two questions to a server; 0 to ask none on one's own account.
        """
        async with asyncio.TaskGroup() as self._tasks:
            poller = self._tasks.create_task(self._poll(interval)) if interval else None
            try:
                yield
            finally:
                for task in (poller, *self._asking.values()):
                    if task is not None:
                        task.cancel()
                self._tasks = None

    async def _poll(self, interval: float) -> None:
        while True:
            remote = [one for one in self.endpoints() if one.remote]
            self._ask(remote)
            await asyncio.sleep(interval if remote else max(interval, IDLE_SECONDS))

    async def refresh(self) -> None:
        """Ask every endpoint, unless it has just been asked, and wait for what they say.

        It takes no longer than one may take, unless there are very many.
        """
        self._ask(self.endpoints())
        if self._asking:
            await asyncio.wait(list(self._asking.values()))

    def endpoints(self) -> list[Endpoint]:
        """Return all endpoints, each once: one may stand in several lines. Forget all others."""
        lines = self._lines.lines()
        there = dict.fromkeys(e for line in lines for e in line.endpoints.values())
        for gone in [one for one in self._not_before if one not in there]:
            del self._not_before[gone]
        for gone in [one for one in self.loads if one not in there]:
            del self.loads[gone]
        return list(there)

    def _ask(self, endpoints: Iterable[Endpoint]) -> None:
        """Begin to ask those of some endpoints that are due."""
        now = self._clock()
        for endpoint in endpoints:
            is_due = endpoint.health.reachable and now >= self._not_before.get(endpoint, now)
            if self._tasks is not None and is_due and endpoint not in self._asking:
                task = self._tasks.create_task(self._scrape(endpoint))
                self._asking[endpoint] = task

    async def _scrape(self, endpoint: Endpoint) -> None:
        """Ask one endpoint; one that does not answer keeps what it last said."""
        if not endpoint.remote:  # else the poller's interval decides
            self._not_before[endpoint] = self._clock() + FRESH_SECONDS
        try:
            async with self._places:
                if PARSER not in sys.modules:  # loading it takes longer than requests should wait
                    await asyncio.to_thread(importlib.import_module, PARSER)
                load = await self._load(endpoint)
        except (UpstreamError, NotMetrics) as error:
            log.debug("scrape_failed", endpoint=endpoint.name, error=str(error))
            return
        finally:
            self._asking.pop(endpoint, None)
        self.loads[endpoint] = load
        if endpoint.remote:
            endpoint.scraped(load)

    async def _load(self, endpoint: Endpoint) -> EndpointLoad:
        page = await self._get(endpoint, b"/metrics")
        load = load_of(page.decode("utf-8", "replace"), at=self._clock())
        if b"llamacpp:" not in page:
            return load
        self._not_before[endpoint] = load.at + LLAMA_CPP_AGE
        if load.kv_cache_usage is None:
            with suppress(UpstreamError, NotMetrics):  # it may be switched off
                usage = cache_usage(await self._get(endpoint, b"/slots"))
                return dataclasses.replace(load, kv_cache_usage=usage)
        return load

    async def _get(self, endpoint: Endpoint, path: bytes) -> bytes:
        """Return a body. Raises UpstreamError, or NotMetrics where the answer is a refusal."""
        headers = [(b"authorization", endpoint.authorization)] if endpoint.authorization else []
        response = await (endpoint.client or self._client).request(
            endpoint.address,
            b"GET",
            path,
            headers,
            b"",
            response_timeout=self._timeout,
            read_timeout=self._timeout,
        )
        async with response:
            if response.status != 200:
                raise NotMetrics(f"The server answered {response.status}.")
            return await response.read(MAX_ANSWER_BYTES)
