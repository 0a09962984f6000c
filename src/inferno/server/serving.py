"""What surrounds every inference: its tokens are reserved, and observers are told how it went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType

from starlette.types import Scope

from inferno.core.errors import InfernoError
from inferno.core.inferences import Inference, Operation
from inferno.gateway.forwarding import Call
from inferno.server.operation import Services, Visited
from inferno.tenancy.access import Visit
from inferno.web.exchange import ClientDisconnected


@asynccontextmanager
async def serving(
    exchange: Visited,
    services: Services,
    calls: Sequence[Call],
    operation: Operation,
    *,
    streamed: bool | None = False,
) -> AsyncIterator[None]:
    """Do the enclosed work on the calls of a request; it ends when the client leaves.

    Args:
        exchange: the request, its body read.
        services: the platform's.
        calls: all that it takes.
        operation: what was asked for.
        streamed: whether the answer is a stream.

    Raises:
        RateLimitExceeded: the tokens that the calls may take do not fit into the caller's limits.
        ClientDisconnected: the client left.
    """
    visit = exchange.visit
    await services.access.reserve(exchange.scope, visit, [call.tally for call in calls])
    observed = Observed(services, exchange.scope, visit, calls, operation, streamed=bool(streamed))
    with observed as inference:
        async with exchange.client_present():
            yield
        inference.error = exchange.failure


class Observed:
    """Tells the services' observers of an inference when the block is over.

    Args:
        services: the platform's.
        scope: of the request; `background` in its state makes the calls give way to others.
        visit: who asked.
        calls: to replicas.
        operation: what was asked for.
        streamed: whether the answer is a stream.
    """

    __slots__ = ("_calls", "_services", "inference")

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
        inference = self.inference
        for call in self._calls:
            call.background = inference.background
            if inference.trace is not None:
                call.traceparent = inference.trace.traceparent
        return inference

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        inference = self.inference
        inference.ended = time.perf_counter()
        if isinstance(error, InfernoError):
            inference.error = error
        elif isinstance(error, ClientDisconnected | asyncio.CancelledError | GeneratorExit):
            inference.outcome = "cancelled"
        elif error is not None:
            inference.outcome = "error"
        if inference.error is not None:
            inference.outcome = "error"
        for call in self._calls:
            _estimate(call)
        for observe in self._services.observers:
            observe(inference)


def _estimate(call: Call) -> None:
    """Fill in a call's tokens where the engine did not come to count them."""
    if call.tally.exact is None and call.tally.begun:
        call.journey.prompt_tokens = call.tally.prompt_estimate
        call.journey.completion_tokens = call.tally.pieces
