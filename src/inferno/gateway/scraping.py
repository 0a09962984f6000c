"""How loaded the engines say they are: their own metrics, parsed and kept for a while.

`load_of` and `cache_usage` are pure: they read what model servers publish (llama.cpp, vLLM, SGLang,
and Inferno itself, which can be a replica of another Inferno) into one `EndpointLoad`. `Scraper`
asks the replicas. What it knows is as old as its `at` says: a replica that does not answer keeps
the load that it last told, and whoever reads it decides how old is too old.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import msgspec
import structlog

from inferno.gateway.endpoints import Endpoint, EndpointTable
from inferno.gateway.upstream import UpstreamClient, UpstreamError

LEAST_AGE = 2.0
"""Seconds for which a llama.cpp replica is not asked again: it looks for clients that left when it
has had nothing to tell for one second, and each question begins that second anew."""

TIMEOUT = 1.0
MAX_ANSWER_BYTES = 4 * 2**20
MAX_LINES = 1000
AT_ONCE = 32

log = structlog.get_logger(__name__)


class EndpointLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine says of its load.

    Args:
        at: when it said so (`time.monotonic`).
        waiting: requests that wait in it.
        running: requests that it works on.
        batch_size: requests that a step works on, on average since its start; None where unknown.
        kv_cache_usage: share of its cache that running requests take, 0 to 1; None where unknown.
        max_lora: adapters that it can hold at once; 0 where unknown.
        loras: adapters that it works with.
        waiting_loras: adapters that waiting requests want.
    """

    at: float
    waiting: int = 0
    running: int = 0
    batch_size: float | None = None
    kv_cache_usage: float | None = None
    max_lora: int = 0
    loras: frozenset[str] = frozenset()
    waiting_loras: frozenset[str] = frozenset()


WAITING = (
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
    "llamacpp:requests_deferred",
    "inferno_requests_waiting",
)
RUNNING = (
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "llamacpp:requests_processing",
    "inferno_requests_running",
)
CACHE_USAGE = (
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",  # its name before 0.10
    "sglang:token_usage",
    "llamacpp:kv_cache_usage_ratio",  # its older versions
    "inferno_engine_kv_cache_usage_ratio",
)
BATCH_SIZE = ("llamacpp:n_busy_slots_per_decode",)
LORA = "vllm:lora_requests_info"

_WANTED = re.compile(
    rf"^(?:{'|'.join([*WAITING, *RUNNING, *CACHE_USAGE, *BATCH_SIZE, LORA])})[{{ ].*$", re.MULTILINE
)
"""A server's page has a thousand lines, of which these few are worth parsing."""


class NotMetrics(ValueError):
    """What a replica answered is no page of metrics that we know."""


def load_of(page: str, *, at: float) -> EndpointLoad:
    """Read a page in Prometheus' text format.

    Several series of one metric are several engines behind one address: requests are summed, and
    the fullest cache counts.

    Args:
        page: what the replica answered.
        at: when.

    Raises:
        NotMetrics: it says nothing of requests that run or wait.
    """
    from prometheus_client.parser import text_string_to_metric_families

    wanted = "\n".join(_WANTED.findall(page)[:MAX_LINES]) + "\n"
    try:
        samples = [s for family in text_string_to_metric_families(wanted) for s in family.samples]
    except (ValueError, KeyError, IndexError) as error:
        raise NotMetrics("The page is not in Prometheus' text format.") from error
    values: dict[str, list[float]] = {}
    for sample in samples:
        if sample.value == sample.value:  # not NaN
            values.setdefault(sample.name, []).append(sample.value)
    running, waiting = _first(values, RUNNING), _first(values, WAITING)
    if running is None and waiting is None:
        raise NotMetrics("The page says nothing of requests.")
    usage, batch = _first(values, CACHE_USAGE), _first(values, BATCH_SIZE)
    lora = max((s for s in samples if s.name == LORA), key=lambda s: s.value, default=None)
    labels = lora.labels if lora is not None else {}
    return EndpointLoad(
        at=at,
        waiting=_whole(sum(waiting or ())),
        running=_whole(sum(running or ())),
        batch_size=batch[0] if batch else None,
        kv_cache_usage=_share(max(usage)) if usage else None,
        max_lora=_whole(_number(labels.get("max_lora", ""))),
        loras=_names(labels.get("running_lora_adapters", "")),
        waiting_loras=_names(labels.get("waiting_lora_adapters", "")),
    )


def _first(values: dict[str, list[float]], names: Iterable[str]) -> list[float] | None:
    return next((values[name] for name in names if name in values), None)


def _whole(value: float) -> int:
    return int(min(max(value, 0.0), 1e9))


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if number == number else 0.0


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


class _Slot(msgspec.Struct):
    """One of llama.cpp's slots, as its `/slots` shows it."""

    n_ctx: int = 0
    is_processing: bool = False
    n_prompt_tokens: int = 0


_slots: msgspec.json.Decoder[list[_Slot]] = msgspec.json.Decoder(list[_Slot])


def cache_usage(slots: bytes) -> float | None:
    """Return the share of a llama.cpp server's cache that running requests take.

    What idle slots still hold is free for whoever needs it, so it does not count.

    Args:
        slots: the server's answer to `/slots`.
    """
    try:
        found = _slots.decode(slots)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    room = sum(slot.n_ctx for slot in found)
    taken = sum(slot.n_prompt_tokens for slot in found if slot.is_processing)
    return _share(taken / room) if room > 0 else None


class Scraper:
    """Asks replicas how loaded they are.

    Args:
        client: the HTTP client.
        endpoints: the replicas.
        timeout: seconds that one may take to answer.
        clock: tells the time.
    """

    def __init__(
        self,
        client: UpstreamClient,
        endpoints: EndpointTable,
        *,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.loads: dict[str, EndpointLoad] = {}
        self._client = client
        self._endpoints = endpoints
        self._timeout = timeout
        self._clock = clock
        self._refreshing = asyncio.Lock()
        self._asked: dict[str, float] = {}

    async def refresh(self, max_age: float = LEAST_AGE) -> None:
        """Ask every replica that was not asked within the last `max_age` seconds.

        Callers at the same time share the answers. It takes no longer than one replica may take,
        unless there are very many.
        """
        async with self._refreshing:
            there = {e.name: e for line in self._endpoints.lines() for e in line.endpoints.values()}
            for gone in self._asked.keys() - there.keys():
                del self._asked[gone]
                self.loads.pop(gone, None)
            now = self._clock()
            due = [
                endpoint
                for name, endpoint in there.items()
                if now - self._asked.get(name, float("-inf")) >= max_age
            ]
            places = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as tasks:
                for endpoint in due:
                    self._asked[endpoint.name] = now
                    tasks.create_task(self._scrape(endpoint, places))

    @asynccontextmanager
    async def polling(self, interval: float) -> AsyncIterator[None]:
        """Keep the loads fresh while the block runs.

        Args:
            interval: seconds between two rounds; see `LEAST_AGE`.
        """
        async with asyncio.TaskGroup() as tasks:
            poller = tasks.create_task(self._poll(interval))
            try:
                yield
            finally:
                poller.cancel()

    async def _poll(self, interval: float) -> None:
        while True:
            await self.refresh(interval)
            await asyncio.sleep(interval)

    async def _scrape(self, endpoint: Endpoint, places: asyncio.Semaphore) -> None:
        """Ask one replica; one that does not answer keeps what it last said."""
        try:
            async with places:
                load = await self._ask(endpoint)
        except (UpstreamError, NotMetrics, ValueError) as error:
            log.debug("scrape_failed", replica=endpoint.name, error=str(error))
            return
        self.loads[endpoint.name] = load

    async def _ask(self, endpoint: Endpoint) -> EndpointLoad:
        page = await self._get(endpoint, b"/metrics")
        at = self._clock()
        load = load_of(page.decode("utf-8", "replace"), at=at)
        if load.kv_cache_usage is None and b"llamacpp:" in page:
            with suppress(UpstreamError, NotMetrics):  # it may be switched off
                usage = cache_usage(await self._get(endpoint, b"/slots"))
                return msgspec.structs.replace(load, kv_cache_usage=usage)
        return load

    async def _get(self, endpoint: Endpoint, path: bytes) -> bytes:
        """Return a body. Raises UpstreamError, or NotMetrics where the answer is a refusal."""
        headers = [(b"authorization", endpoint.authorization)]
        response = await self._client.request(
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
                raise NotMetrics(f"The replica answered {response.status}.")
            return await response.read(MAX_ANSWER_BYTES)
