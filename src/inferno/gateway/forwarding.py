"""Forwarding: one request to one replica, and its answer back as it comes.

A request is tried again on another endpoint only before the first byte of an answer. Whoever
stops reading an `Answer` (the client left, the deadline passed) closes the connection to the
replica, which is how the replica learns that the work is no longer wanted.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import structlog

from inferno.core.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    InferenceFailed,
    InfernoError,
    InvalidRequest,
    ModelNotLoaded,
    Overloaded,
    Preempted,
    ReplicaLost,
    Unsupported,
)
from inferno.core.inferences import Journey
from inferno.gateway.endpoints import Endpoint, EndpointTable, Line
from inferno.gateway.residency import Residency
from inferno.gateway.upstream import (
    ConnectFailed,
    ConnectionLost,
    UpstreamClient,
    UpstreamError,
    UpstreamResponse,
)
from inferno.limits.tally import Tally

log = structlog.get_logger(__name__)

ATTEMPTS = 2
"""A request that kills its replica must not kill many."""
SUSPECT_SECONDS = 1.0
MAX_ERROR_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 256 * 2**20


@dataclass(slots=True)
class Call:
    """A request for a replica.

    Args:
        model: the model's name.
        path: of the replica's API (`/v1/chat/completions`).
        body: JSON, as the replica takes it.
        request_id: passed on, so that both logs can be read together.
        needs: capabilities that the replica must have, each with the field that asks for it.
        tally: what it takes, filled in as the answer comes.
        journey: when what happened to it, filled in likewise.
        background: whether it gives way to calls that somebody waits for.
        traceparent: passed on, where the request is traced.
    """

    model: str
    path: bytes
    body: bytes
    request_id: str
    needs: Mapping[str, str] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    journey: Journey = field(default_factory=Journey)
    background: bool = False
    traceparent: bytes | None = None


class Answer:
    """A replica's answer with status 200; iterate for pieces as they come, or `read` it."""

    def __init__(self, response: UpstreamResponse, call: Call) -> None:
        self._response = response
        self.call = call

    async def read(self) -> bytes:
        """Return the whole body.

        Raises:
            InferenceFailed: the replica broke off.
        """
        try:
            return await self._response.read(MAX_ANSWER_BYTES)
        except UpstreamError as error:
            raise broken_off(error) from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield pieces of the body as they arrive.

        Raises:
            InferenceFailed: the replica broke off.
        """
        try:
            async for piece in self._response:
                yield piece
        except UpstreamError as error:
            raise broken_off(error) from error


class GivesWay:
    """What ends background work when its place is needed: its deadline is moved to now.

    Args:
        deadline: of the call, not yet begun.
    """

    __slots__ = ("asked", "deadline")

    def __init__(self, deadline: asyncio.Timeout) -> None:
        self.deadline = deadline
        self.asked = False

    def begin(self, seconds: float) -> None:
        """Set the time that the call may take from now on."""
        if not self.asked:
            self.deadline.reschedule(asyncio.get_running_loop().time() + seconds)

    def __call__(self) -> None:
        """End the call."""
        self.asked = True
        if not self.deadline.expired():
            self.deadline.reschedule(asyncio.get_running_loop().time())


class Forwarder:
    """Sends calls to replicas.

    Args:
        endpoints: who can answer.
        residency: asked for models that are not loaded.
        client: the HTTP client.
        queue_timeout: seconds that a call may wait for a replica that is loaded.
        load_timeout: seconds that it may wait when the model has to be loaded first.
        request_timeout: seconds that a call may take in all, its answer included.
    """

    def __init__(
        self,
        endpoints: EndpointTable,
        residency: Residency,
        client: UpstreamClient,
        *,
        queue_timeout: float,
        load_timeout: float,
        request_timeout: float,
    ) -> None:
        self._endpoints = endpoints
        self._residency = residency
        self._client = client
        self._queue_timeout = queue_timeout
        self._load_timeout = load_timeout
        self._request_timeout = request_timeout

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Answer]:
        """Send a call; the block has the answer. Leaving the block early cancels the work.

        Raises:
            ModelNotFound, ModelNotLoaded, ModelLoadFailed: nobody can answer for the model.
            Overloaded: too many wait, or the wait took too long.
            Unsupported: the replica lacks what the call needs.
            InvalidRequest: the replica refused the input.
            InferenceFailed: the replica failed.
            DeadlineExceeded: the answer took too long.
        """
        give_way = GivesWay(asyncio.timeout(None)) if call.background else None
        deadline = give_way.deadline if give_way else asyncio.timeout(self._request_timeout)
        journey = call.journey
        journey.queued = time.perf_counter()
        journey.picked = journey.first = journey.ended = None
        try:
            async with deadline, self._sent(call, give_way) as answer:
                yield answer
        except TimeoutError:
            if give_way is not None and give_way.asked:
                raise Preempted from None
            raise DeadlineExceeded(
                f"The request took longer than {self._request_timeout:g} seconds."
            ) from None
        finally:
            journey.ended = time.perf_counter()

    @asynccontextmanager
    async def _sent(self, call: Call, give_way: GivesWay | None) -> AsyncIterator[Answer]:
        for attempt in range(1, ATTEMPTS + 1):
            line = self._line(call.model)
            endpoint = await self._acquire(line, call, give_way)
            try:
                check_capabilities(call, endpoint)
                try:
                    response = await self._request(endpoint, call)
                except (ConnectFailed, ConnectionLost) as error:
                    line.suspect(endpoint, SUSPECT_SECONDS)
                    log.warning(
                        "replica_unreachable",
                        replica=endpoint.name,
                        attempt=attempt,
                        request_id=call.request_id,
                        error=str(error),
                    )
                    if attempt == ATTEMPTS:
                        raise InferenceFailed(GAVE_UP, cause=type(error).__name__) from error
                    continue
                except UpstreamError as error:
                    raise broken_off(error) from error
                async with response:
                    if response.status != 200:
                        raise await refusal(response)
                    call.tally.begun = True
                    yield Answer(response, call)
                return
            finally:
                line.release(endpoint, give_way)

    def _line(self, model: str) -> Line:
        """Return a model's line. Raises ModelNotFound: names that are no model's have none."""
        self._residency.check_exists(model)
        return self._endpoints.line(model)

    async def _acquire(self, line: Line, call: Call, give_way: GivesWay | None) -> Endpoint:
        """Wait in line, however often the model has to be loaded meanwhile.

        Background work waits for as long as it takes; its time begins when it has a place.
        """
        allowed = self._queue_timeout
        if not line.endpoints:
            allowed += self._load_timeout
        try:
            async with asyncio.timeout(None if give_way else allowed):
                endpoint = await self._place(line, call.model, give_way)
        except TimeoutError:
            if give_way is not None:
                raise
            raise Overloaded(
                f"No replica of model '{call.model}' was free within {allowed:g} seconds.",
                retry_after=5,
            ) from None
        if give_way is not None:
            give_way.begin(self._request_timeout)
        call.journey.picked = time.perf_counter()
        call.journey.endpoint = endpoint.name
        call.journey.attempts += 1
        return endpoint

    async def _place(self, line: Line, model: str, give_way: GivesWay | None) -> Endpoint:
        while True:
            if not line.endpoints:
                await self._residency.ensure_wanted(model)
            try:
                return await line.acquire(give_way)
            except ModelNotLoaded:  # unloaded while we waited
                continue

    async def _request(self, endpoint: Endpoint, call: Call) -> UpstreamResponse:
        headers = [
            (b"authorization", endpoint.authorization),
            (b"content-type", b"application/json"),
            (b"x-request-id", call.request_id.encode("ascii")),
        ]
        if call.traceparent is not None:
            headers.append((b"traceparent", call.traceparent))
        return await self._client.request(
            endpoint.address, b"POST", call.path, headers, call.body, response_timeout=None
        )


def check_capabilities(call: Call, endpoint: Endpoint) -> None:
    """Refuse what the replica's engine would silently ignore.

    Raises:
        Unsupported: names the field.
    """
    for capability, name in call.needs.items():
        if capability not in endpoint.capabilities:
            raise Unsupported(
                f"Model '{call.model}' does not support '{name}'.", field=name, model=call.model
            )


def broken_off(error: UpstreamError) -> ReplicaLost:
    """Say that the replica went away while it worked."""
    return ReplicaLost(
        "The replica that worked on the request failed; the request may be tried again.",
        cause=type(error).__name__,
    )


GAVE_UP = "The replicas that worked on the request failed."


class _ErrorBody(msgspec.Struct):
    message: str = ""
    type: str = ""
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class _ErrorEnvelope(msgspec.Struct):
    error: _ErrorBody


_TOO_LONG_TO_EMBED = re.compile(r"input \((\d+) tokens\) is too large .*batch size: (\d+)")
"""llama.cpp embeds a text in one step, so a step has to hold all of it."""

_errors: msgspec.json.Decoder[_ErrorEnvelope] = msgspec.json.Decoder(_ErrorEnvelope)


async def refusal(response: UpstreamResponse) -> InfernoError:
    """Return the core error that a replica's error answer stands for."""
    try:
        body = await response.read(MAX_ERROR_BYTES)
    except UpstreamError as error:
        return broken_off(error)
    return replica_error(response.status, body)


def replica_error(status: int, body: bytes) -> InfernoError:
    """Translate a replica's status and OpenAI-style error body.

    Args:
        status: HTTP status; 200 for an error inside a stream.
        body: the error's JSON.
    """
    try:
        error = _errors.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = _ErrorBody()
    if error.type == "exceed_context_size_error":
        return ContextLengthExceeded(prompt_tokens=error.n_prompt_tokens, context_size=error.n_ctx)
    if (too_long := _TOO_LONG_TO_EMBED.match(error.message)) is not None:
        tokens, batch = map(int, too_long.groups())
        return ContextLengthExceeded(prompt_tokens=tokens, context_size=batch, option="batch_size")
    if error.type == "not_supported_error":
        return Unsupported(error.message)
    if status in (400, 422):
        return InvalidRequest(error.message or "The replica refused the request.")
    if status in (429, 503):
        return Overloaded(error.message or "The replica is busy.")
    return InferenceFailed(error.message or "The replica failed.", replica_status=status)
