"""What surrounds every inference: its tokens are reserved, and observers are told how it went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType

from starlette.types import Scope

from inferno.core.errors import InfernoError, InvalidRequest
from inferno.core.inferences import Inference, Operation, Outcome
from inferno.core.tenancy import Permission, Principal
from inferno.gateway.forwarding import Call
from inferno.gateway.loops import VIA
from inferno.gateway.routing import Caller, Destination, anybody_of
from inferno.server.operation import Services, Visited
from inferno.tenancy.access import Visit
from inferno.web.exchange import NAMED, ClientDisconnected, Exchange

SESSION = b"x-session-id"
"""Requests of one session go to the same target, and to the same endpoint where that can be."""

DESTINATION = b"x-gateway-destination-endpoint"
SUBSET = b"x-gateway-destination-endpoint-subset"
OBJECTIVE = b"x-gateway-inference-objective"
FAIRNESS = b"x-gateway-inference-fairness-id"
"""Of the Gateway API Inference Extension's endpoint picker protocol."""

ROUTING_HEADERS = frozenset({SESSION, DESTINATION, SUBSET, OBJECTIVE, FAIRNESS, VIA})
MAX_HEADER = 4096


async def serving(
    exchange: Visited,
    services: Services,
    calls: Sequence[Call],
    operation: Operation,
    *,
    to: Destination | None = None,
    streamed: bool | None = False,
) -> Observed:
    """Reserve what the calls of a request may take.

    Args:
        exchange: the request, its body read.
        services: the platform's.
        calls: all that it takes.
        operation: what was asked for.
        to: where they go; by default what their model's name says.
        streamed: whether the answer is a stream.

    Returns:
        What the work on the calls has to be done in.

    Raises:
        RateLimitExceeded: the tokens that the calls may take do not fit into the caller's limits.
    """
    visit = exchange.visit
    destination = to or destination_of(services, exchange.scope, visit, calls[0].model, operation)
    for call in calls:
        call.destination = destination
    if not destination.prompt and destination.route.line.reads_prompts:
        destination.prompt = prompt_in(calls[0].body)
    if destination.route.pool:
        exchange.routed = calls[0].journey
    await services.access.reserve(exchange.scope, visit, [call.tally for call in calls])
    observed = Observed(services, exchange.scope, visit, calls, operation, streamed=bool(streamed))
    observed.exchange = exchange
    return observed


def prompt_in(body: bytes) -> bytes:
    """Return the prompt of a call, as it is written, and what comes after it.

    Quotes within texts are escaped in JSON, so no text can look like the field.
    """
    at = max(body.find(b'"messages":'), body.find(b'"prompt":'), 0)
    return body[at:]


def destination_of(
    services: Services, scope: Scope, visit: Visit, model: str, operation: Operation
) -> Destination:
    """Return where a request for a model goes; observers are told of one that goes nowhere.

    Args:
        services: the platform's.
        scope: of the request; its headers may say more of where it is to go.
        visit: who asked.
        model: what was asked for.
        operation: what it is to do.

    Raises:
        ModelNotFound: nothing of that name in the caller's reach.
        NoValidTarget: the name is reserved.
        InvalidRequest: a header is wrong.
        LoopDetected: the request came from here.
    """
    try:
        caller = caller_of(scope, visit.principal)
        services.forwarder.loops.check(caller.via)
        return services.forwarder.routes.choose(model, caller)
    except InfernoError:
        call = Call(model, b"", b"", scope["state"]["request_id"])
        with Observed(services, scope, visit, [call], operation, streamed=False):
            raise


def caller_of(scope: Scope, principal: Principal) -> Caller:
    """Return who asks, and what its headers say of where the request is to go.

    The headers are those of the Gateway API Inference Extension, and `X-Session-ID`.

    Raises:
        InvalidRequest: a header that is no text or too long.
    """
    if NAMED in scope and ROUTING_HEADERS.isdisjoint(scope[NAMED]):
        return anybody_of(principal.tenant)
    given: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name == VIA:  # as many lines as gateways
            given[VIA] = ", ".join(filter(None, (given.get(VIA), _text(name, value))))
        elif name in ROUTING_HEADERS and name not in given:
            given[name] = _text(name, value)
    if not given:
        return anybody_of(principal.tenant)
    hint = given.get(SUBSET, given.get(DESTINATION))
    fairness = given.get(FAIRNESS, "")
    if Permission.MANAGE_QUEUE not in principal.permissions:
        fairness = ""  # many flows would be many turns
    return Caller(
        tenant=principal.tenant,
        session=given.get(SESSION, ""),
        objective=given.get(OBJECTIVE, ""),
        fairness=fairness,
        only=None if hint is None else frozenset(part.strip() for part in hint.split(",")),
        via=given.get(VIA, ""),
    )


def _text(name: bytes, value: bytes) -> str:
    if len(value) > MAX_HEADER or not value.isascii():
        raise InvalidRequest(
            f"Header '{name.decode()}' must be ASCII of at most {MAX_HEADER} characters.",
            field=name.decode(),
        )
    return value.decode("ascii").strip()


class Observed:
    """Tells the services' observers of an inference when the block is over.

    Args:
        services: the platform's.
        scope: of the request; `background` in its state makes the calls give way to others.
        visit: who asked.
        calls: to replicas.
        operation: what was asked for.
        streamed: whether the answer is a stream.

    Attributes:
        exchange: the response, which may have told its client what went wrong.
    """

    __slots__ = ("_calls", "_services", "exchange", "inference")

    def __init__(
        self,
        services: Services,
        scope: Scope,
        visit: Visit,
        calls: Sequence[Call],
        operation: Operation,
        *,
        streamed: bool,
    ) -> None:
        principal, state = visit.principal, scope["state"]
        self._services = services
        self._calls = calls
        self.exchange: Exchange | None = None
        self.inference = Inference(
            request_id=state["request_id"],
            operation=operation,
            model=calls[0].model,
            tenant=principal.tenant,
            user_id=principal.user_id,
            credential_id=principal.credential_id,
            streamed=streamed,
            background=state.get("background", False),
            journeys=[call.journey for call in calls],
            trace=services.begin_trace(scope),
        )

    def __enter__(self) -> Inference:
        self.begin()
        return self.inference

    def begin(self) -> None:
        """Give the calls what they are to carry."""
        inference = self.inference
        for call in self._calls:
            call.background = inference.background
            if inference.trace is not None:
                call.traceparent = inference.trace.traceparent
                call.tracestate = inference.trace.state.encode("ascii")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        inference = self.inference
        outcome: Outcome = "success"
        if error is None:
            inference.error = self.exchange.failure if self.exchange is not None else None
        elif isinstance(error, InfernoError):
            inference.error = error
        elif isinstance(error, ClientDisconnected | asyncio.CancelledError | GeneratorExit):
            if self.exchange is None or not self.exchange.whole:
                outcome = "cancelled"
        else:
            outcome = "error"
        self.tell("error" if inference.error is not None else outcome)

    def tell(self, outcome: Outcome) -> None:
        """Tell the observers how the inference ended."""
        inference = self.inference
        inference.ended = time.perf_counter()
        inference.outcome = outcome
        for call in self._calls:
            if call.held:
                self._services.forwarder.let_go(call)
            _estimate(call)
        for observe in self._services.observers:
            observe(inference)


def _estimate(call: Call) -> None:
    """Fill in a call's tokens where the engine did not come to count them."""
    if call.tally.exact is None and call.tally.begun:
        call.journey.prompt_tokens = call.tally.prompt_estimate
        call.journey.completion_tokens = call.tally.pieces
