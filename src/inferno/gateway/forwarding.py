"""Forwarding: one request to one replica, and its answer back as it comes.

A request is tried again on another endpoint only before the first byte of an answer. Whoever
stops reading an `Answer` (the client left, the deadline passed) closes the connection to the
replica, which is how the replica learns that the work is no longer wanted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any

import msgspec
import structlog

from inferno.core.errors import (
    DeadlineExceeded,
    InferenceFailed,
    InvalidRequest,
    ModelNotLoaded,
    Overloaded,
    Preempted,
    Unsupported,
)
from inferno.core.inferences import Journey
from inferno.gateway.deadlines import Deadline
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.hedging import first_of
from inferno.gateway.loops import Loops
from inferno.gateway.picking import BACKGROUND
from inferno.gateway.replica_errors import broken_off, is_silence, refusal
from inferno.gateway.residency import Residency
from inferno.gateway.retries import RetryBudget
from inferno.gateway.room import Room
from inferno.gateway.routing import Caller, Destination, Routes
from inferno.gateway.upstream import (
    ConnectFailed,
    ConnectionLost,
    Headers,
    UpstreamClient,
    UpstreamError,
    UpstreamResponse,
)
from inferno.gateway.waiting import patient_place
from inferno.limits.tally import Tally

log = structlog.get_logger(__name__)

ATTEMPTS = 2
"""A request that kills its replica must not kill many."""
OK: int = HTTPStatus.OK
BUSY = frozenset({429, 502, 503, 504, 508})
"""Statuses of a server that did not work on a request; another one may."""
PROGRESS = b',"return_progress":true'
"""What replicas of ours are asked for; other servers may refuse what they do not know. Quotes
within texts are escaped in JSON, so no text can look like it."""
MAX_ANSWER_BYTES = 256 * 2**20


class Call(msgspec.Struct):
    """A request for an endpoint.

    Args:
        model: the model's name, as the client asked for it.
        path: of the endpoint's API (`/v1/chat/completions`).
        body: JSON, as the endpoint takes it, but for the model's name.
        request_id: passed on, so that both logs can be read together.
        needs: capabilities that the endpoint must have, each with the field that asks for it.
        tally: what it takes, filled in as the answer comes.
        journey: when what happened to it, filled in likewise.
        background: whether it gives way to calls that somebody waits for.
        traceparent: passed on, where the request is traced.
        tracestate: likewise, where the caller sent one.
        destination: where it goes.
        streamed: whether an answer begins long before it is whole.
        held: bytes of its answer that are held in the forwarder's `room`.
    """

    model: str
    path: bytes
    body: bytes
    request_id: str
    needs: Mapping[str, str] = {}
    tally: Tally = msgspec.field(default_factory=Tally)
    journey: Journey = msgspec.field(default_factory=Journey)
    background: bool = False
    traceparent: bytes | None = None
    tracestate: bytes = b""
    destination: Destination | None = None
    streamed: bool = True
    held: int = 0

    def body_for(self, endpoint: Endpoint) -> bytes:
        """Return the body as an endpoint takes it.

        It has the name that the endpoint knows the model by. llama.cpp takes adapters by number,
        and applies all that it has to a request that names none. A list without any is as if none
        was given: the engine goes on from what another adapter has read of the prompt, so that an
        adapter is named at scale 0. What it keeps of prompts in the host's memory says nothing of
        adapters at all; replicas of ours keep none there, others are asked to begin anew.
        """
        target = self.model if self.destination is None else self.destination.target
        body = self.body.replace(PROGRESS, b"", 1) if endpoint.remote else self.body
        changes: dict[str, Any] = {}
        if target != self.model:
            changes["model"] = target
        if endpoint.adapters:
            number = endpoint.adapters.get(target)
            scale = 0.0 if number is None else 1.0
            changes["lora"] = [{"id": number or 0, "scale": scale}]
            if endpoint.remote:
                changes["cache_prompt"] = False
        return with_fields(body, changes) if changes else body


def with_fields(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """Return a JSON object with other values for some fields; the rest stays as it was written.

    Raises:
        InvalidRequest: it is nested so deeply that it could just be read before.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except RecursionError:
        raise InvalidRequest("The request body is nested too deeply.") from None
    for name, value in changes.items():
        fields[name] = msgspec.Raw(msgspec.json.encode(value))
    return msgspec.json.encode(fields)


class Answer:
    """A replica's answer with status 200; iterate for pieces as they come, or `read` it.

    A replica that breaks off raises UpstreamError, of which the end of the `Opening` makes what
    callers are told.
    """

    __slots__ = ("_response", "_room", "call")

    def __init__(self, response: UpstreamResponse, call: Call, room: Room) -> None:
        self._response = response
        self._room = room
        self.call = call

    def read(self) -> Awaitable[bytes]:
        """Return the whole body; whoever has done with it calls `Forwarder.let_go`.

        Raises:
            Overloaded: all such answers together take too much memory.
        """
        return self._response.read(MAX_ANSWER_BYTES, self._hold)

    def _hold(self, size: int) -> None:
        self._room.take(size)
        self.call.held += size

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Return the pieces of the body as they arrive."""
        return self._response


class GivesWay:
    """What ends background work when its place is needed: its deadline is moved to now.

    Args:
        deadline: of the call, not yet begun.
    """

    __slots__ = ("asked", "deadline")

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.asked = False

    def begin(self, seconds: float) -> None:
        """Set the time that the call may take from now on."""
        if not self.asked:
            self.deadline.move(seconds)

    def __call__(self) -> None:
        """End the call."""
        self.asked = True
        self.deadline.move(0)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long what may take, in seconds.

    Args:
        queue: waiting for an endpoint that is there.
        load: waiting longer, where the model has to be loaded first.
        request: a call in all, its answer included.
        first_byte: from sending a streamed call to the head of its answer.
        idle: between two pieces of an answer.
        hedge_after: for an answer to begin, until another endpoint is asked too; 0 for ever.
    """

    queue: float
    load: float
    request: float
    first_byte: float
    idle: float
    hedge_after: float = 0.0


class Forwarder:
    """Sends calls to endpoints.

    Args:
        routes: where models are.
        residency: asked for models that are not loaded.
        client: the HTTP client for endpoints that have none of their own.
        timeouts: how long what may take.
        fell_silent: told of endpoints that said nothing for too long.
    """

    def __init__(
        self,
        routes: Routes,
        residency: Residency,
        client: UpstreamClient,
        timeouts: Timeouts,
        *,
        fell_silent: Callable[[Endpoint], None] = lambda endpoint: None,
    ) -> None:
        self.routes = routes
        self.residency = residency
        self.client = client
        self.timeouts = timeouts
        self.fell_silent = fell_silent
        self.retries = RetryBudget()
        self.loops = Loops()
        self.room = Room()

    def let_go(self, call: Call) -> None:
        """Give back the room of an answer that nobody needs any more."""
        self.room.give_back(call.held)
        call.held = 0

    def open(self, call: Call) -> Opening:
        """Send a call: an async context manager whose block has the answer.

        Leaving the block early cancels the work.

        Raises:
            ModelNotFound, ModelNotLoaded, ModelLoadFailed: nobody can answer for the model.
            Overloaded: too many wait, the wait took too long, or no endpoint is fit.
            Shed: there is no room for what matters so little.
            Unsupported: the endpoint lacks what the call needs.
            InvalidRequest: the endpoint refused the input.
            InferenceFailed: the endpoint failed.
            DeadlineExceeded: the answer took too long.
        """
        return Opening(self, call)


class Opening:
    """One call on its way: `async with` gives its answer, and ends whatever is left of it.

    A class and not nested context managers: this is what every request goes through.

    Args:
        forwarder: whose.
        call: to send.
    """

    __slots__ = (
        "_call",
        "_deadline",
        "_destination",
        "_endpoint",
        "_forwarder",
        "_line",
        "_response",
        "_sent",
        "_want",
    )

    def __init__(self, forwarder: Forwarder, call: Call) -> None:
        self._forwarder = forwarder
        self._call = call
        self._deadline = Deadline()
        self._destination: Destination | None = None  # until it has set out
        self._endpoint: Endpoint | None = None
        self._sent: UpstreamResponse | None = None  # the first one, where it began without a task
        self._response: UpstreamResponse | None = None

    def begin(self) -> UpstreamResponse | None:
        """Send the call, where an endpoint has room and a connection to it is idle.

        Entering the block goes on from where this has come to.

        Returns:
            What will be the answer, if all goes well; None where something has to be waited for.
        """
        self._set_out()
        if self._forwarder.timeouts.hedge_after or self._call.needs or self._call.background:
            return None
        endpoint = self._line.take(self._want)
        if endpoint is None:
            return None
        self._go_to(endpoint)
        client, timeouts = endpoint.client or self._forwarder.client, self._forwarder.timeouts
        self._sent = client.begin(
            endpoint.address,
            b"POST",
            self._call.path,
            self._headers(endpoint),
            self._call.body_for(endpoint),
            response_timeout=(timeouts.first_byte or None) if self._call.streamed else None,
            read_timeout=(timeouts.idle or None) if self._call.streamed else None,
        )
        return self._sent

    def has_begun(self) -> None:
        """Note that the head of what `begin` returned is there, with status 200."""
        if self._sent is not None and self._endpoint is not None:
            self._response, self._sent = self._sent, None
            self._endpoint.health.succeeded(time.monotonic())
            self._call.tally.begun = True

    def end(self) -> None:
        """Hang up unless the answer is whole, and give the place back."""
        response = self._response or self._sent
        if response is not None:
            response.abort()
        self._release()
        self._call.journey.ended = time.perf_counter()

    @property
    def seconds_left(self) -> float:
        """How long the call may still take."""
        passed = time.perf_counter() - self._call.journey.queued
        return self._forwarder.timeouts.request - passed

    async def __aenter__(self) -> Answer:
        """Wait for an endpoint, send the call, and return its answer."""
        if self._destination is None:
            self._set_out()
        self._deadline.begin(None if self._call.background else max(0.0, self.seconds_left))
        try:
            if self._response is None:
                self._response = await self._answered()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        self._call.tally.begun = True
        return Answer(self._response, self._call, self._forwarder.room)

    def _set_out(self) -> None:
        call, forwarder = self._call, self._forwarder
        if call.destination is None:
            call.destination = forwarder.routes.choose(call.model, Caller())
        self._destination = call.destination
        self._line = call.destination.route.line
        self._want = call.destination.want()
        if call.background:
            self._want.give_way = GivesWay(self._deadline)
            self._want.priority = BACKGROUND
        journey = call.journey
        journey.queued = time.perf_counter()
        journey.picked = journey.first = journey.ended = None
        forwarder.retries.earn()

    def _go_to(self, endpoint: Endpoint) -> None:
        """Note that an endpoint has been found, and one of its places taken."""
        self._endpoint = endpoint
        if isinstance(self._want.give_way, GivesWay):
            self._want.give_way.begin(self._forwarder.timeouts.request)
        journey = self._call.journey
        journey.picked = time.perf_counter()
        journey.endpoint = endpoint.name
        journey.address = endpoint.address.text
        journey.attempts += 1

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hang up unless the answer is whole, give the place back, and say what ran out."""
        if error is not None and self._endpoint is not None and is_silence(error):
            self._forwarder.fell_silent(self._endpoint)
        self.end()
        if not self._deadline.end(error):
            if isinstance(error, UpstreamError):
                raise broken_off(error) from error
            return
        give_way = self._want.give_way
        if isinstance(give_way, GivesWay) and give_way.asked:
            raise Preempted from None
        seconds = self._forwarder.timeouts.request
        raise DeadlineExceeded(f"The request took longer than {seconds:g} seconds.") from None

    def _release(self) -> None:
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            if endpoint.health.trying:
                endpoint.health.undecided()
            self._line.release(endpoint, self._want.give_way, self._want.unread)

    async def _answered(self) -> UpstreamResponse:
        """Return the head of an answer with status 200, from whichever endpoint gives one."""
        call = self._call
        while True:
            if self._endpoint is None:
                self._go_to(self._line.take(self._want) or await self._wait())
            endpoint = self._endpoint
            assert endpoint is not None  # noqa: S101 - a place at it was taken
            check_capabilities(call, endpoint)
            response = await self._tried(endpoint)
            if response is not None:
                return response
            self._want.tried.append(endpoint)
            self._release()

    async def _tried(self, endpoint: Endpoint) -> UpstreamResponse | None:
        """Send the call to an endpoint; None where it may be tried on another one."""
        call = self._call
        try:
            response = await self._begun(endpoint)
            endpoint = self._endpoint or endpoint
        except (ConnectFailed, ConnectionLost) as error:
            self._line.failed(endpoint, surely=True)
            log.warning(
                "replica_unreachable",
                replica=endpoint.name,
                attempt=call.journey.attempts,
                request_id=call.request_id,
                error=str(error),
            )
            if not self._may_retry():
                raise InferenceFailed(GAVE_UP, cause=type(error).__name__) from error
            return None
        except UpstreamError as error:
            self._line.failed(endpoint, surely=False)
            raise broken_off(error) from error
        if response.status == OK:
            endpoint.health.succeeded(time.monotonic())
            return response
        async with response:
            if response.status in BUSY and endpoint.remote:
                self._line.failed(endpoint, surely=False)
                if self._may_retry():
                    return None
            elif response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._line.failed(endpoint, surely=False)
            else:
                endpoint.health.succeeded(time.monotonic())
            raise await refusal(response)

    async def _begun(self, endpoint: Endpoint) -> UpstreamResponse:
        """Return the head of an endpoint's answer, or of another one's that was quicker."""
        after = self._forwarder.timeouts.hedge_after
        if not after or self._want.give_way is not None or len(self._line.endpoints) < 2:
            return await self._request(endpoint)
        others: list[Endpoint] = []

        def another() -> Endpoint | None:
            self._want.tried.append(endpoint)
            found = self._line.take(self._want) if self._forwarder.retries.spend() else None
            self._want.tried.pop()
            if found is endpoint:
                self._line.release(found)
                return None
            if found is not None:
                others.append(found)
            return found

        try:
            chosen, response = await first_of(self._request, endpoint, another, after=after)
        except BaseException:
            for other in others:
                self._line.release(other)
            raise
        for loser in {endpoint, *others} - {chosen}:
            loser.health.undecided()
            self._line.release(loser)
        self._endpoint = chosen
        self._call.journey.endpoint = chosen.name
        self._call.journey.address = str(chosen.address)
        return response

    def _may_retry(self) -> bool:
        return len(self._want.tried) < ATTEMPTS - 1 and self._forwarder.retries.spend()

    async def _wait(self) -> Endpoint:
        """Wait in line, however often the model has to be loaded meanwhile.

        Background work waits for as long as it takes; its time begins when it has a place.
        """
        timeouts, want = self._forwarder.timeouts, self._want
        give_way = want.give_way
        allowed = timeouts.queue
        if not self._line.endpoints:
            allowed += timeouts.load
        try:
            async with asyncio.timeout(None if give_way else allowed):
                endpoint = await self._place()
        except TimeoutError:
            if give_way is not None:
                raise
            raise Overloaded(
                f"No replica of model '{self._call.model}' was free within {allowed:g} seconds.",
                retry_after=5,
            ) from None
        return endpoint

    async def _place(self) -> Endpoint:
        destination, line = self._call.destination, self._line
        assert destination is not None  # noqa: S101 - set when the call began
        residency = self._forwarder.residency
        while True:
            is_there = self._is_there()
            if not is_there and not destination.service:
                raise nobody(destination.route.pool, self._want.model)
            if not is_there:
                await self._on_its_way()
            with suppress(ModelNotLoaded):  # unloaded while we waited: see whether it may be loaded
                if is_there:
                    return await line.acquire(self._want)
                return await patient_place(
                    line, self._want, check=self._on_its_way, news=residency.news
                )

    def _is_there(self) -> bool:
        """Return whether any endpoint can take the call, be it now or when it has room."""
        destination, line, want = self._call.destination, self._line, self._want
        assert destination is not None  # noqa: S101 - set when the call began
        if want.model or destination.route.pool:
            return line.any_fit(want)
        return bool(line.endpoints)

    async def _on_its_way(self) -> None:
        """See to it that the model which the call waits for is being loaded. Raises why not."""
        destination = self._call.destination
        assert destination is not None  # noqa: S101 - set when the call began
        if not self._is_there():
            await self._forwarder.residency.ensure_wanted(destination.service, destination.target)

    def _request(self, endpoint: Endpoint) -> Awaitable[UpstreamResponse]:
        client, timeouts = endpoint.client or self._forwarder.client, self._forwarder.timeouts
        sent, self._sent = self._sent, None
        return client.request(
            endpoint.address,
            b"POST",
            self._call.path,
            self._headers(endpoint),
            self._call.body_for(endpoint),
            response_timeout=(timeouts.first_byte or None) if self._call.streamed else None,
            read_timeout=(timeouts.idle or None) if self._call.streamed else None,
            sent=sent,
        )

    def _headers(self, endpoint: Endpoint) -> Headers:
        call = self._call
        via = "" if call.destination is None else call.destination.caller.via
        headers = [
            (b"content-type", b"application/json"),
            (b"x-request-id", call.request_id.encode("ascii")),
            self._forwarder.loops.header_behind(via),
        ]
        if endpoint.authorization:
            headers.append((b"authorization", endpoint.authorization))
        if call.traceparent is not None:
            headers.append((b"traceparent", call.traceparent))
            if call.tracestate:
                headers.append((b"tracestate", call.tracestate))
        return headers


def check_capabilities(call: Call, endpoint: Endpoint) -> None:
    """Refuse what the replica's engine would silently ignore.

    Raises:
        Unsupported: names the field.
    """
    if "embeddings" in call.needs and call.destination is not None:
        adapter = endpoint.adapter_for(call.destination.target)
        if adapter:
            raise Unsupported(
                f"'{call.model}' is a LoRA adapter: it generates, and does not embed.",
                field="model",
            )
    for capability, name in call.needs.items():
        if endpoint.capabilities is not None and capability not in endpoint.capabilities:
            raise Unsupported(
                f"Model '{call.model}' does not support '{name}'.", field=name, model=call.model
            )


def nobody(pool: str, model: str) -> Overloaded:
    """Say that no endpoint of a pool can take a call for a model; the empty name is any."""
    having = f" that has model '{model}'" if model else ""
    return Overloaded(f"No endpoint of pool '{pool}'{having} is ready.", retry_after=5)


GAVE_UP = "The replicas that worked on the request failed."
