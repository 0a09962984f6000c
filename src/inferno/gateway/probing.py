"""Looking at model servers that others run: whether they answer, what they run, what they serve.

Each server is asked in turn with the others; one that does not answer is asked more often. What is
seen counts for its endpoints at once, and is reported where it differs from the server's status.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from typing import Any

import msgspec
import structlog

from inferno.core.conditions import find
from inferno.core.errors import InfernoError
from inferno.core.model_servers import REACHABLE, ModelServer, Observation
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.following import place_of
from inferno.gateway.pools import SERVER_CAPACITY, Pools
from inferno.gateway.prefixes import room_for
from inferno.gateway.upstream import (
    ConnectFailed,
    ConnectionLost,
    UpstreamClient,
    UpstreamError,
    UpstreamTimeout,
)

PATIENCE = 3.0
"""Seconds that an answer may take."""

AGAIN_SECONDS = 1.0
"""After which one that did not answer is asked again."""

MAX_BYTES = 4 * 2**20
MAX_NAMES = 256

OWNERS = {"vllm": "vllm", "llamacpp": "llamacpp", "sglang": "sglang", "local": "inferno"}
"""Engines by what they call the owner of a model; `pool` is another Inferno's too."""

Report = Callable[[str, str, Observation], Awaitable[None]]
"""Writes down what was seen of a server: namespace, name, observation."""

log = structlog.get_logger(__name__)


class _Model(msgspec.Struct):
    id: str
    owned_by: str = ""


class _Models(msgspec.Struct):
    data: list[_Model]


class _Adapter(msgspec.Struct):
    id: int
    path: str = ""


class _Generation(msgspec.Struct):
    n_ctx: int = 0


class _Props(msgspec.Struct):
    total_slots: int = 0
    default_generation_settings: _Generation = msgspec.field(default_factory=_Generation)


class Silent(Exception):
    """A server did not answer as it should.

    Args:
        reason: a CamelCase word.
        message: for a person.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Prober:
    """Looks at the servers of all pools.

    Args:
        pools: whose servers.
        client: for those without TLS.
        report: told of what differs from a server's status.
        interval: seconds between two looks at a server that answers.
    """

    def __init__(
        self, pools: Pools, client: UpstreamClient, report: Report, *, interval: float
    ) -> None:
        self._pools = pools
        self._client = client
        self._report = report
        self._interval = interval
        self._due: dict[int, float] = {}

    @asynccontextmanager
    async def probing(self) -> AsyncIterator[None]:
        """Look again and again while the block runs."""
        async with asyncio.TaskGroup() as tasks:
            loop = tasks.create_task(self._loop())
            yield
            loop.cancel()

    async def _loop(self) -> None:
        while True:
            drawn = self._pools.redrawn
            await self._look_at_due()
            wait = min([*self._due.values(), time.monotonic() + self._interval]) - time.monotonic()
            try:
                await asyncio.wait_for(drawn.wait(), max(wait, 0.05))
            except TimeoutError:
                continue

    async def _look_at_due(self) -> None:
        now = time.monotonic()
        due: dict[int, float] = {}
        async with asyncio.TaskGroup() as tasks:
            for place, endpoints in self._pools.remote.items():
                server = self._pools.servers.get(place)
                for endpoint in endpoints if server is not None else ():
                    key = id(endpoint)
                    due[key] = self._due.get(key, 0.0)
                    if due[key] <= now and server is not None:
                        tasks.create_task(self._look(server, endpoint, due))
        self._due = due

    async def _look(self, server: ModelServer, endpoint: Endpoint, due: dict[int, float]) -> None:
        """Look at one endpoint of a server."""
        generation = server.metadata.generation
        try:
            seen = await self._seen(server, endpoint)
            endpoint.health.reachable = True
        except Silent as silent:
            endpoint.health.reachable = False
            seen = Observation(
                generation=generation, reachable=False, reason=silent.reason, message=str(silent)
            )
        for line in endpoint.lines:
            line.serve_waiting()
        again = self._interval if seen.reachable else min(AGAIN_SECONDS, self._interval)
        due[id(endpoint)] = time.monotonic() + again
        if _is_news(server, seen):
            try:
                await self._report(server.metadata.namespace, server.metadata.name, seen)
            except InfernoError as error:  # the store is away; it is news next time as well
                log.warning("probe_not_reported", server=place_of(server), error=error.message)

    async def _seen(self, server: ModelServer, endpoint: Endpoint) -> Observation:
        """Return what a server that answers says of itself. Raises Silent."""
        status, body = await self._get(endpoint, b"/v1/models")
        generation = server.metadata.generation
        if status == 404:
            status, _ = await self._get(endpoint, b"/health")
            if status != 200:
                raise Silent("NoModels", "The server has neither /v1/models nor /health.")
            return Observation(generation=generation, reachable=True)
        if status in (401, 403):
            raise Silent("Unauthorized", f"The server answers {status}: its key is wrong.")
        if status != 200:
            raise Silent("NotReady", f"The server answers /v1/models with {status}.")
        try:
            listed = msgspec.json.decode(body, type=_Models).data[:MAX_NAMES]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Silent("NotAModelServer", "What /v1/models says is no list of models.") from None
        engine = next((OWNERS[one.owned_by] for one in listed if one.owned_by in OWNERS), "")
        names = [one.id for one in listed]
        if engine == "llamacpp":
            names = await self._look_into_llama(endpoint)
        elif endpoint.slots != SERVER_CAPACITY:
            endpoint.slots = endpoint.capacity = SERVER_CAPACITY
        return Observation(
            generation=generation, reachable=True, engine=engine, models=tuple(sorted(names))
        )

    async def _look_into_llama(self, endpoint: Endpoint) -> list[str]:
        """Ask a llama.cpp server for its slots and adapters.

        It answers for its one model under any name, so only adapters are names to tell apart.
        """
        props = await self._asked(endpoint, b"/props", _Props)
        if props is not None and props.total_slots > 0:
            endpoint.slots = props.total_slots
            endpoint.capacity = 2 * props.total_slots
            endpoint.context_size = max(0, props.default_generation_settings.n_ctx)
            endpoint.prefixes.remembered = room_for(endpoint.slots, endpoint.context_size)
        adapters = await self._asked(endpoint, b"/lora-adapters", list[_Adapter]) or []
        endpoint.adapters = {PurePosixPath(one.path).stem: one.id for one in adapters}
        return sorted(endpoint.adapters)

    async def _asked(self, endpoint: Endpoint, path: bytes, kind: Any) -> Any:
        """Return what a server says under a path that it may lack."""
        status, body = await self._get(endpoint, path)
        if status != 200:
            return None
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    async def _get(self, endpoint: Endpoint, path: bytes) -> tuple[int, bytes]:
        """Return status and body. Raises Silent."""
        headers = [(b"accept", b"application/json")]
        if endpoint.authorization:
            headers.append((b"authorization", endpoint.authorization))
        client = endpoint.client or self._client
        try:
            async with asyncio.timeout(PATIENCE):
                response = await client.request(
                    endpoint.address, b"GET", path, headers, b"", response_timeout=PATIENCE
                )
                async with response:
                    return response.status, await response.read(MAX_BYTES)
        except ConnectFailed as error:
            raise Silent("ConnectionFailed", str(error)) from None
        except (UpstreamTimeout, TimeoutError):
            raise Silent("Timeout", f"No answer within {PATIENCE:g} seconds.") from None
        except ConnectionLost as error:
            raise Silent("ConnectionLost", str(error)) from None
        except UpstreamError as error:
            raise Silent("BadAnswer", str(error)) from None


def _is_news(server: ModelServer, seen: Observation) -> bool:
    """Return whether an observation differs from what a server's status says already."""
    known = find(server.status.conditions, REACHABLE)
    if known is None or known.observed_generation != seen.generation:
        return True
    if (known.status == "True") != seen.reachable:
        return True
    if not seen.reachable:
        return known.reason != seen.reason
    models = None if seen.models is None else list(seen.models)
    return bool(seen.engine and seen.engine != server.status.engine) or (
        models is not None and models != server.status.models
    )
